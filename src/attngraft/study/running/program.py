"""Runs of any program: what ``command:`` in a plan means.

The command is started once for each arm and seed, and leaves in the run's own folder

predictions.json    detections in COCO's results format, for the ground truth that ``data:`` names; or
metric.json         one fraction from 0 to 1, or several by name: ``{"top1": 0.75, "top5": 0.92}``

and, if it likes, a ``results.csv`` with a row an epoch and a column ``metric``, a fraction, which is drawn while it
runs. A ``metric:`` that COCO does not have, such as ``top1``, is one of those numbers, and ``data:`` only a name.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attngraft._core.cache import cache_folder
from attngraft._core.errors import DataError, OutputError, PlanError, suggest
from attngraft._core.files import write_text
from attngraft.coco.files import load_json, read_json
from attngraft.study.commands import split_command
from attngraft.study.plan import Plan
from attngraft.study.running.records import Run

if TYPE_CHECKING:
    from attngraft.yolo.detecting import Detections

PREDICTIONS = "predictions.json"
NUMBERS = "metric.json"


def require_word(plan: Plan, folder: Path, *, given: bool) -> bool:
    """Require that a user said that a study may start its program, and remember it for this folder and command.

    A study's folder may be somebody else's, and whoever resumes it has not read its command.

    Args:
        plan: The plan; one without a command needs no word.
        folder: The study's folder.
        given: Whether the user gave the plan, or trusts the folder.

    Returns:
        Whether the word is new.

    Raises:
        PlanError: If nobody said it on this machine; shows the command.
    """
    if plan.command is None:
        return False
    said = hashlib.sha256(f"{folder.resolve()}\n{plan.command}".encode(errors="surrogatepass")).hexdigest()
    note = cache_folder() / "commands" / said
    if note.is_file():
        return False
    if not given:
        raise PlanError(
            f"{folder} was not begun here, and its plan starts a program: {plan.command!r}; read it, and if you trust "
            "it, say so once with --trust (in Python: Study.open(folder, trust=True))"
        )
    with suppress(OutputError):  # then the word is asked for again
        write_text(note, f"{folder.resolve()}\n{plan.command}\n")
    return True


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
    for name in (PREDICTIONS, NUMBERS):
        (folder / name).unlink(missing_ok=True)  # of a leg that was killed
    sys.stdout.flush()
    try:
        done = subprocess.run(line, env={**os.environ, **own}, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise PlanError(f"command: {line[0]} cannot be started ({error.strerror}); check its path") from error
    if done.returncode:
        raise DataError(f"{line[0]} ended with status {done.returncode}; what it printed is in {folder}.log")


def outcome(plan: Plan, folder: Path) -> Detections | dict[str, float]:
    """Read what the program left: what it detected, or its numbers by name.

    Detections go first, for they are evaluated alike for all; a metric that COCO does not have is always a number.

    Args:
        plan: The plan.
        folder: The run's own folder.

    Raises:
        DataError: If it left nothing, or something else.
    """
    if not plan.own_metric and (folder / PREDICTIONS).is_file():
        return detections(plan, folder)
    if (folder / NUMBERS).is_file():
        return numbers(plan.metric, folder / NUMBERS)
    detected = "" if plan.own_metric else f"{PREDICTIONS}, detections in COCO's results format, or "
    raise DataError(
        f"the command ended without a result in {folder}; let it write {detected}{NUMBERS} there, its {plan.metric} as "
        "a fraction from 0 to 1"
    )


def detections(plan: Plan, folder: Path) -> Detections:
    """Read what the program detected.

    Args:
        plan: The plan, whose ``data`` is the ground truth.
        folder: The run's own folder.

    Raises:
        DataError: If a file cannot be read, or holds something else.
    """
    from attngraft.yolo.detecting import Detections

    truth, found = read_json(Path(plan.data), dict), read_json(folder / PREDICTIONS, list)
    task: Literal["bbox", "segm"] = "segm" if found and "segmentation" in found[0] else "bbox"
    return Detections(truth, found, Path(plan.data).parent, task)


def numbers(metric: str, file: Path) -> dict[str, float]:
    """Read a file with one number, or with numbers by name.

    Args:
        metric: The number that is asked for; one without a name is taken as that.
        file: The file.

    Raises:
        DataError: If it holds something else, or a number that is no fraction from 0 to 1.

    Example:
        >>> file = getfixture("tmp_path") / "metric.json"
        >>> _ = file.write_text('{"top1": 0.75, "top5": 0.9}')
        >>> numbers("top1", file)
        {'top1': 0.75, 'top5': 0.9}
    """
    values = load_json(file)
    named = values if isinstance(values, dict) else {metric: values}
    if metric not in named:
        raise DataError(f"{file} has no number {metric!r}, which the plan is judged by; {suggest(metric, list(named))}")
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise DataError(
                f"{file} needs a fraction from 0 to 1 for {name}, got {value!r}; divide percent by 100, and write 0 "
                "where a run diverged"
            )
    return {str(name): float(value) for name, value in named.items()}
