"""Match tables of runs that exist already: COCO prediction files, or folders of Ultralytics training runs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from attngraft._core.errors import DataError
from attngraft._core.progress import SILENT, Progress
from attngraft._core.yaml_files import read_yaml
from attngraft.coco.error_types import error_types
from attngraft.coco.evaluate import Evaluation, evaluate
from attngraft.coco.installed import HOTCOCO, installed
from attngraft.coco.libraries import Task
from attngraft.study.running.json_files import read_json

SEED = re.compile(r"(\d+)(?!.*\d)")
"""The last number of a name."""


@dataclass
class Found:
    """What runs that exist already scored.

    Attributes:
        task: What was compared.
        data: The data's name.
        scored: The evaluation of each run, by arm and seed.
        detections: What each run detected.
        errors: AP50 points that each type of error costs, of each run.
        truth: What is there to be found, with the ``root`` of its files where that is known.
    """

    task: Task
    data: str
    scored: dict[str, dict[int, Evaluation]] = field(default_factory=dict)
    detections: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)
    errors: dict[str, dict[int, Mapping[str, float]]] = field(default_factory=dict)
    truth: dict[str, Any] = field(default_factory=dict)

    def add(self, arm: str, seed: int, found: list[dict[str, Any]]) -> None:
        """Evaluate the detections of a run."""
        self.scored.setdefault(arm, {})[seed] = evaluate(self.truth, found, task=self.task)
        self.detections.setdefault(arm, {})[seed] = found
        if installed() == HOTCOCO:
            self.errors.setdefault(arm, {})[seed] = error_types(self.truth, found, task=self.task).costs


def read_predictions(
    truth: Path, patterns: Mapping[str, str], *, task: Task = "bbox", progress: Progress = SILENT
) -> Found:
    """Evaluate prediction files in COCO's results format; the seed is the last number of a file's name.

    Args:
        truth: Ground truth in COCO's instances format.
        patterns: For each arm, its files, with ``*`` for what differs.
        task: Whether boxes or masks are compared.
        progress: Hears which file is being evaluated.

    Raises:
        DataError: If a file is missing, unreadable, of other images, or of a seed that another has.
    """
    found = Found(task, truth.name, truth=read_json(truth, dict))
    for arm, pattern in patterns.items():
        for seed, file in by_seed(arm, [(number_of(arm, path), path) for path in matching(arm, pattern)]).items():
            progress.started(f"evaluating {file.name}")
            try:
                found.add(arm, seed, read_json(file, list))
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{file} is not in COCO's results format ({error!r}); check its records") from error
            except DataError as error:
                raise DataError(f"{file}: {error}") from error
    return found


def read_run_folders(
    patterns: Mapping[str, str],
    *,
    data: str | None = None,
    split: str = "val",
    progress: Progress = SILENT,
    **options: Any,
) -> Found:
    """Evaluate the last weights of Ultralytics training runs anew; the seed is that of their ``args.yaml``.

    Args:
        patterns: For each arm, its run folders, with ``*`` for what differs.
        data: What to evaluate on; None takes what all of them were trained on.
        split: ``val``, ``test`` or ``train``.
        progress: Hears which run is being evaluated.
        **options: ``imgsz``, ``batch`` and ``device`` over those of the runs.

    Raises:
        DataError: If a folder is no finished run, two have one seed, or they were trained on different data.
    """
    from attngraft.yolo.detecting import detect

    runs = {arm: by_seed(arm, [_run(path) for path in matching(arm, pattern)]) for arm, pattern in patterns.items()}
    on = data or _one_data(path for seeds in runs.values() for path in seeds.values())
    found: Found | None = None
    for arm, seeds in runs.items():
        for seed, folder in seeds.items():
            progress.started(f"evaluating {folder}")
            with tempfile.TemporaryDirectory() as home:  # Ultralytics writes beside the weights that it validates
                weights = Path(home) / "run" / "weights" / "last.pt"
                weights.parent.mkdir(parents=True)
                weights.symlink_to((folder / "weights" / "last.pt").resolve())
                seen = detect(weights, on, split=split, options={**_arguments(folder), **options})
            truth = {"root": str(seen.root), **seen.truth}
            found = found or Found(seen.task, "/".join(Path(on).parts[-2:]), truth=truth)
            if truth != found.truth or seen.task != found.task:
                raise DataError(f"{folder} was evaluated on other images, labels or classes than the run before it")
            found.add(arm, seed, seen.found)
    assert found is not None  # every arm has a folder, or `matching` would have said so
    return found


def matching(arm: str, pattern: str) -> list[Path]:
    """List what a pattern finds.

    Raises:
        DataError: If there is nothing.
    """
    found = sorted(map(Path, glob(pattern)))
    if not found:
        raise DataError(f"nothing is called {pattern!r}, which is to be the runs of {arm}; check the path")
    return found


def by_seed(arm: str, runs: Iterable[tuple[int, Path]]) -> dict[int, Path]:
    """Give each run its seed.

    Raises:
        DataError: If two have the same.
    """
    found: dict[int, Path] = {}
    for seed, path in runs:
        if seed in found:
            raise DataError(
                f"arm {arm} has two runs of seed {seed}, {found[seed]} and {path}; runs are paired by seed, so give "
                "each its own"
            )
        found[seed] = path
    return found


def number_of(arm: str, file: Path) -> int:
    """Return the last number of a file's name.

    Raises:
        DataError: If it has none.
    """
    match = SEED.search(file.name.partition(".")[0])
    if match is None:
        raise DataError(f"{file} names no seed; end its name with one, as in {arm}-0.json")
    return int(match[1])


def _run(folder: Path) -> tuple[int, Path]:
    if not (folder / "weights" / "last.pt").is_file():
        raise DataError(f"{folder} is no finished training run of Ultralytics: it has no weights/last.pt")
    seed = _arguments(folder).get("seed")
    if not isinstance(seed, int):
        raise DataError(f"{folder}/args.yaml names no seed, so its run cannot be paired")
    return seed, folder


def _arguments(folder: Path) -> dict[str, Any]:
    values = read_yaml(folder / "args.yaml")
    if not isinstance(values, dict):
        raise DataError(f"{folder}/args.yaml holds no training options; is the folder that of a run?")
    return values


def _one_data(folders: Iterable[Path]) -> str:
    named: dict[str, Path] = {}
    for folder in folders:
        named.setdefault(str(_arguments(folder).get("data")), folder)
    if len(named) > 1:
        (one, first), (other, second) = list(named.items())[:2]
        raise DataError(
            f"{first} was trained on {one} and {second} on {other}; say what to evaluate on with data=FILE if they are "
            "the same images"
        )
    return next(iter(named))
