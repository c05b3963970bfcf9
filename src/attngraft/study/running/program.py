"""Runs of any program: what ``command:`` in a plan means.

The command is started once for each arm and seed, in the run's own folder. It leaves there
``predictions.json``, detections in COCO's results format for the ground truth that ``data:`` names. A ``results.csv``
with a row an epoch and a column ``metric``, a fraction, is drawn while it runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attngraft._core.errors import DataError, PlanError
from attngraft.study.commands import split_command
from attngraft.study.plan import Plan
from attngraft.study.running.records import Run

if TYPE_CHECKING:
    from attngraft.yolo.detecting import Detections

PREDICTIONS = "predictions.json"


def words(plan: Plan, run: Run, folder: Path) -> list[str]:
    """Return the command of a run, word by word; a placeholder's value stays one word whatever is in it.

    Args:
        plan: The plan.
        run: The run.
        folder: The run's own folder.

    Raises:
        PlanError: If the command cannot be split into words, or names something that it cannot be given.
    """
    values = {"arm": run.arm.model, "seed": run.seed, "folder": folder, "data": plan.data}
    return [word.format(**values) for word in split_command(plan.command or "")]


def carry_out(plan: Plan, run: Run, folder: Path) -> None:
    """Start the program and wait for its end.

    Args:
        plan: The plan.
        run: The run.
        folder: The run's own folder, which is there.

    Raises:
        PlanError: If the program cannot be started.
        DataError: If it ended with another status than 0.
    """
    own = {"ATTNGRAFT_ARM": run.arm.model, "ATTNGRAFT_SEED": str(run.seed), "ATTNGRAFT_FOLDER": str(folder)}
    line = words(plan, run, folder)
    (folder / PREDICTIONS).unlink(missing_ok=True)  # of a leg that was killed
    sys.stdout.flush()
    try:
        done = subprocess.run(line, env={**os.environ, **own}, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise PlanError(f"command: {line[0]} cannot be started ({error.strerror}); check its path") from error
    if done.returncode:
        raise DataError(f"{line[0]} ended with status {done.returncode}; what it printed is in {folder}.log")


def detections(plan: Plan, folder: Path) -> Detections:
    """Read what the program found.

    Args:
        plan: The plan, whose ``data`` is the ground truth.
        folder: The run's own folder.

    Raises:
        DataError: If it left nothing, or something else.
    """
    from attngraft.yolo.detecting import Detections

    file = folder / PREDICTIONS
    if not file.is_file():
        raise DataError(
            f"the command ended without {PREDICTIONS} in {folder}; let it write its detections on the ground truth "
            f"{plan.data} there, in COCO's results format"
        )
    truth, found = _json(Path(plan.data), dict), _json(file, list)
    task: Literal["bbox", "segm"] = "segm" if found and "segmentation" in found[0] else "bbox"
    return Detections(truth, found, Path(plan.data).parent, task)


def _json(file: Path, kind: type) -> Any:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}); write it anew") from error
    if not isinstance(found, kind):
        expected = "a list of detections" if kind is list else "COCO's ground truth, with images and annotations"
        raise DataError(f"{file} holds a {type(found).__name__}; expected {expected}")
    return found
