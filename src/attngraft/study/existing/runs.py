"""Match tables of runs that exist already: COCO prediction files, or folders of Ultralytics training runs."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Any

from attngraft._core.archive import number_after
from attngraft._core.errors import CheckpointError, DataError
from attngraft._core.files import link_or_copy
from attngraft._core.progress import SILENT, Progress
from attngraft._core.yaml_files import read_yaml
from attngraft.coco.error_types import error_types
from attngraft.coco.evaluate import Evaluation, evaluate
from attngraft.coco.files import read_json
from attngraft.coco.installed import HOTCOCO, installed
from attngraft.coco.libraries import Task
from attngraft.study.existing.table import require_no_log
from attngraft.study.existing.training import training_notes, training_options

SEED = re.compile(r"(\d+)(?!.*\d)")
"""The last number of a name."""
NAMED = re.compile(r"seeds?[ ._=-]*(\d+)", re.I)
"""A number that says itself what it is."""
COURSE = re.compile(
    r"(?:epochs?|iterations?|iters?|steps?|(?<![a-z])ep)[ ._=-]*\d+|(?<!\d)20\d{6}[_-]\d{6}(?!\d)", re.I
)
"""A point of the training or of time, which is no seed: ``best_bbox_mAP_epoch_12``, ``20261201_031500``."""
FINISHED = -1
"""The epoch in a checkpoint whose training came to its end."""
Reading = tuple[Sequence[str], list[int]]
"""Names of an arm's files, or of their folders, and the number of each."""
TABLE = "a run whose weights are lost can be judged by its number, in a table with the columns arm, seed and AP"


@dataclass
class Found:
    """What runs that exist already scored.

    Attributes:
        task: What was compared.
        data: The data's name.
        split: The split that was detected on; empty where a ground truth was given.
        scored: The evaluation of each run, by arm and seed.
        detections: What each run detected.
        errors: AP50 points that each type of error costs, of each run.
        truth: What is there to be found, with the ``root`` of its files where that is known.
        training: Training options that all runs have in common; empty where nothing is known of them.
        notes: What a reader has to know of how the runs were trained.
        parameters: Parameters of each arm's model, where that is known.
    """

    task: Task
    data: str
    split: str = ""
    scored: dict[str, dict[int, Evaluation]] = field(default_factory=dict)
    detections: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)
    errors: dict[str, dict[int, Mapping[str, float]]] = field(default_factory=dict)
    truth: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parameters: dict[str, int] = field(default_factory=dict)

    def add(self, arm: str, seed: int, found: list[dict[str, Any]]) -> None:
        """Evaluate the detections of a run."""
        self.scored.setdefault(arm, {})[seed] = evaluate(self.truth, found, task=self.task)
        self.detections.setdefault(arm, {})[seed] = found
        if installed() == HOTCOCO:
            self.errors.setdefault(arm, {})[seed] = error_types(self.truth, found, task=self.task).costs


def read_predictions(
    truth: Path, patterns: Mapping[str, str], *, task: Task = "bbox", progress: Progress = SILENT
) -> Found:
    """Evaluate prediction files in COCO's results format; the seed is the last number of a file's or a folder's name.

    Programs that call every run's file alike, or by its epoch, have the number in the folder:
    ``work_dirs/r50-s*/results.bbox.json``, ``work_dirs/r50-s*/best_bbox_mAP_epoch_*.bbox.json``.

    Args:
        truth: Ground truth in COCO's instances format.
        patterns: For each arm, its files, with ``*`` for what differs.
        task: Whether boxes or masks are compared.
        progress: Hears which file is being evaluated.

    Raises:
        DataError: If a file is missing, unreadable, of other images, of two arms, of a seed that another has, or of
            one that can be read in two ways.
    """
    found = Found(task, truth.name, truth=read_json(truth, dict))
    matched = {arm: matching(arm, pattern) for arm, pattern in patterns.items()}
    for file in chain.from_iterable(matched.values()):
        require_no_log(file)
    files = {arm: by_seed(arm, numbered(arm, those)) for arm, those in matched.items()}
    _require_own(files)
    for arm, seeds in files.items():
        for seed, file in seeds.items():
            progress.started(f"evaluating {file.name}")
            try:
                found.add(arm, seed, read_json(file, list))
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{file} is not in COCO's results format ({error!r}); check its records") from error
            except DataError as error:
                raise error if str(file) in str(error) else DataError(f"{file}: {error}") from error
    return found


def read_run_folders(
    patterns: Mapping[str, str],
    *,
    data: str | None = None,
    split: str = "val",
    progress: Progress = SILENT,
    **options: Any,
) -> Found:
    """Evaluate the last weights of Ultralytics training runs again; the seed is that of their ``args.yaml``.

    Args:
        patterns: For each arm, its run folders, with ``*`` for what differs.
        data: What to evaluate on; None takes what all of them were trained on.
        split: ``val``, ``test`` or ``train``.
        progress: Hears which run is being evaluated.
        **options: ``imgsz``, ``batch`` and ``device`` over those of the runs.

    Raises:
        DataError: If a folder is no finished run or one of two arms, two have one seed, or they were trained on
            different data.
    """
    from attngraft.yolo.detecting import detect
    from attngraft.yolo.model import quiet

    runs = {arm: by_seed(arm, [_run(path) for path in matching(arm, pattern)]) for arm, pattern in patterns.items()}
    _require_own(runs)
    on = data or _one_data(path for seeds in runs.values() for path in seeds.values())
    found: Found | None = None
    for arm, seeds in runs.items():
        for seed, folder in seeds.items():
            progress.started(f"evaluating {folder}")
            with tempfile.TemporaryDirectory() as home:  # Ultralytics writes beside the weights that it validates
                weights = Path(home) / "run" / "weights" / "last.pt"
                weights.parent.mkdir(parents=True)
                link_or_copy(folder / "weights" / "last.pt", weights)
                try:
                    with quiet(logging.WARNING):
                        seen = detect(weights, on, split=split, options={**_arguments(folder), **options})
                except DataError as error:
                    raise DataError(str(error).replace(str(weights), f"{folder}/weights/last.pt")) from error
            truth = {"root": str(seen.root), **seen.truth}
            found = found or Found(seen.task, "/".join(Path(on).parts[-2:]), split, truth=truth)
            if truth != found.truth or seen.task != found.task:
                raise DataError(f"{folder} was evaluated on other images, labels or classes than the run before it")
            found.add(arm, seed, seen.found)
            if seen.parameters is not None:
                found.parameters.setdefault(arm, seen.parameters)
    assert found is not None  # every arm has a folder, or `matching` would have said so
    read = {arm: {seed: _arguments(folder) for seed, folder in seeds.items()} for arm, seeds in runs.items()}
    found.training, found.notes = training_options(read), training_notes(read, runs)
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
                f"arm {arm} has two runs of seed {seed}, {found[seed]} and {path}; runs are paired by seed, so leave "
                "one out, or train it again with another seed"
            )
        found[seed] = path
    return found


def _require_own(runs: Mapping[str, Mapping[int, Path]]) -> None:
    """Require that no run is two arms': it would be compared with itself, and its gain be 0 for certain."""
    owners: dict[Path, str] = {}
    for arm, seeds in runs.items():
        for path in seeds.values():
            owner = owners.setdefault(path.resolve(), arm)
            if owner != arm:
                raise DataError(f"{path} is a run of {owner} and of {arm}; a run has one arm, so correct one pattern")


def numbered(arm: str, files: Sequence[Path]) -> list[tuple[int, Path]]:
    """Return the last number in each file's name; of its folder's, where the program calls all files alike.

    A number of an epoch, an iteration, a step, or of date and time is no seed. Numbers after the word seed come before
    all others, where they differ.

    Args:
        arm: The arm, for the error.
        files: Its files.

    Raises:
        DataError: If one has no number, or the names and the folders have different ones that may both be seeds.

    Example:
        >>> [seed for seed, _ in numbered("r50", [Path("r50-7.json"), Path("r50-8.json")])]
        [7, 8]
        >>> [seed for seed, _ in numbered("r50", [Path("lr0.01-s7.bbox.json"), Path("lr0.01-s8.bbox.json")])]
        [7, 8]
        >>> [seed for seed, _ in numbered("r50", [Path("r50_s7/1x.bbox.json"), Path("r50_s8/1x.bbox.json")])]
        [7, 8]
        >>> [seed for seed, _ in numbered("r50", [Path("r50_s7/epoch_12.json"), Path("r50_s8/epoch_11.json")])]
        [7, 8]
        >>> [seed for seed, _ in numbered("r50", [Path("r50_s7/results.bbox.json")])]
        [7]
    """
    levels = list(zip(*(file.parts[::-1] for file in files), strict=False))  # the files' own names come first
    telling = [names for names in levels if len(set(names)) > 1] or levels[:2]
    plain = _readings(telling, SEED)
    readings = _differing(_readings(telling, NAMED)) or _differing(plain) or plain[:1]
    if not readings:
        lacking = next(file for file, name in zip(files, telling[0], strict=True) if _number(name, SEED) is None)
        raise DataError(f"{lacking} names no seed; end its name, or its folder's, with one, as in {arm}-0.json")
    (names, seeds), *others = readings
    for other_names, other_seeds in others:
        for file, name, seed, other_name, other in zip(files, names, seeds, other_names, other_seeds, strict=True):
            if seed != other:
                raise DataError(
                    f"{file} of arm {arm} may be of seed {seed}, by {name!r}, or of seed {other}, by {other_name!r}; "
                    "rename files or folders so that the word seed is before the number that is meant, as in "
                    f"{arm}-seed{other}, or so that no other number differs"
                )
    return list(zip(seeds, files, strict=True))


def _readings(levels: Iterable[Sequence[str]], pattern: re.Pattern[str]) -> list[Reading]:
    """Return the names of which each has a number, with their numbers."""
    read = [(names, [_number(name, pattern) for name in names]) for names in levels]
    return [
        (names, [number for number in numbers if number is not None]) for names, numbers in read if None not in numbers
    ]


def _differing(readings: Sequence[Reading]) -> list[Reading]:
    """Return readings that tell files apart; of a single file, the first."""
    alone = [reading for reading in readings if len(reading[1]) == 1]
    return alone[:1] or [(names, numbers) for names, numbers in readings if len(set(numbers)) > 1]


def _number(name: str, pattern: re.Pattern[str]) -> int | None:
    """Return a number of a name; points are part of it, as in lr0.01-s1.json, and no suffix of such files has one."""
    match = pattern.search(COURSE.sub("_", name))
    return int(match[1]) if match else None


def _run(folder: Path) -> tuple[int, Path]:
    if folder.is_file() and folder.suffix == ".json":
        require_no_log(folder)
        raise DataError(f"{folder} is a file; to judge predictions, name the ground truth too: truth=FILE")
    if folder.is_file():
        raise DataError(f"{folder} is a file; name the folder of the training run that has weights/last.pt")
    last = folder / "weights" / "last.pt"
    if not last.is_file():
        raise DataError(f"{folder} is no finished training run of Ultralytics: it has no weights/last.pt; {TABLE}")
    values = _arguments(folder)
    seed = values.get("seed")
    if not isinstance(seed, int):
        raise DataError(f"{folder}/args.yaml names no seed, so its run cannot be paired")
    if (epoch := _epoch(last)) != FINISHED:
        raise DataError(
            f"{folder} ended early, after epoch {epoch + 1} of {values.get('epochs')}; finish it with yolo train "
            f"resume=True model={last}, or if it diverged, judge numbers in a table and give it 0"
        )
    return seed, folder


def _epoch(last: Path) -> int:
    """Return the epoch in a checkpoint, counted from 0; `FINISHED` once Ultralytics has stripped it at the end."""
    try:
        epoch = number_after(last, "epoch")
    except CheckpointError as error:
        raise DataError(str(error)) from error
    return FINISHED if epoch is None else epoch


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
