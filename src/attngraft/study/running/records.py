"""What is kept of a run, written whole or not at all: the record, its match table and its detections.

FOLDER/plan.yaml                 the plan, fixed before the first run
FOLDER/truth.json                what is there to be found, in COCO's format; truth-K.json for fold K
FOLDER/records/ARM-sSEED.json    the record; the run is finished exactly when this file is there
FOLDER/records/ARM-sSEED.npz     the match table
FOLDER/records/ARM-sSEED.detections.json.gz
FOLDER/failures/ARM-sSEED.json   why a run could not be finished, until it is
FOLDER/runs/ARM/sSEED/           the training run's own folder
FOLDER/folds/K/                  the images of fold K, as links, where the plan has folds
FOLDER/status.json               how far the study is, for programs
FOLDER/damaged/                  files that could not be read
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attngraft._core.errors import DataError
from attngraft._core.files import free_path, write_bytes, write_text, write_whole
from attngraft._core.json_text import json_text, parse_json
from attngraft.coco.matches import Matches
from attngraft.coco.metrics import metric_values
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.layout import COSTS, DAMAGED, FAILURES, RECORDS, RESULTS, RUNS
from attngraft.study.plan import Arm

PATIENCE = 60
"""Seconds to wait for an orphan of a killed study to end before the same run starts again."""

ELSEWHERE = (
    f"another process is carrying it out, and was not done within {PATIENCE} seconds; wait for it or end it, then "
    "start what is missing again"
)
"""Why a run is not carried out here, which is no failure of it."""


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Attributes:
        arm: The arm.
        seed: The seed.
    """

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Its name in files."""
        return f"{self.arm.slug}-s{self.seed}"

    def __str__(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"


def planned(frozen: FrozenPlan) -> list[Run]:
    """List the runs that a plan begins with, all arms of the first seed first, so that pairs come early.

    A convolution of equal cost is trained only once its arm came out better than the baseline.
    """
    arms = [arm for arm in frozen.arms if not arm.against]
    return [run for seed in range(frozen.plan.seeds) for run in at_seed(arms, frozen.plan.first_seed + seed)]


def at_seed(arms: Iterable[Arm], seed: int) -> list[Run]:
    """List the runs of one seed."""
    return [Run(arm, seed) for arm in arms]


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        plan: Hash of the plan.
        arm: Name of the arm.
        model: Its recipe.
        seed: The seed.
        numbers: COCO's twelve numbers, or those that a program computed itself, as fractions.
        per_class: AP of each class at each size, as fractions.
        classes: Names of the classes.
        errors: AP50 points that each type of error costs.
        curve: Ultralytics' row of each epoch.
        seconds: Duration of training and evaluation, without what was lost to a kill.
        finished: When, in UTC.
        watch: What pairing rests on (`attngraft.yolo.training.PairingLog`).
        truth: Checksum of the ground truth.
        environment: Versions and device.
        task: What was compared: ``bbox`` or ``segm``, that is masks; empty where there are numbers alone.
    """

    plan: str
    arm: str
    model: str
    seed: int
    numbers: Mapping[str, float]
    per_class: list[list[float]]
    classes: list[str]
    errors: Mapping[str, float]
    curve: list[dict[str, float]]
    seconds: float
    finished: str
    watch: Mapping[str, Any]
    truth: str
    environment: Mapping[str, Any] = field(default_factory=dict)
    task: str = "bbox"

    def to_json(self, indent: int | None = None) -> str:
        """Return its form in files: strict JSON, null where there is no number, as AP of a size that no object has."""
        return json_text(asdict(self), indent)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Record:
        """Return a record from its form in files, in which null and, in older ones, NaN stand for no number."""
        given = dict(plain)
        for name in ("numbers", "per_class", "errors", "curve"):
            given[name] = _numbers(given[name])
        return cls(**given)


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers(one) for key, one in value.items()}
    return [_numbers(one) for one in value] if isinstance(value, list) else math.nan if value is None else value


class Store:
    """The folder of a study.

    Args:
        folder: Where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / RECORDS
        self.failures = folder / FAILURES
        self._read: dict[str, tuple[tuple[int, int, int], Record]] = {}

    def training(self, run: Run) -> Path:
        """Return Ultralytics' folder of a run."""
        return self.folder / RUNS / run.arm.slug / f"s{run.seed}"

    def log(self, run: Run) -> Path:
        """Return the file with everything that a run printed."""
        return self.training(run).with_suffix(".log")

    def has(self, run: Run) -> bool:
        """Tell whether a run is finished."""
        return self._json(run).is_file()

    def save(self, run: Run, record: Record, matches: Matches | None, detections: list[dict[str, Any]]) -> None:
        """Keep a finished run; the record goes last, so that whatever kills us leaves all of it or none.

        Args:
            run: The run.
            record: Its record.
            matches: Its match table; None where it has numbers alone.
            detections: What it detected.
        """
        if matches is not None:
            write_whole(self.records / f"{run.name}.npz", matches.save)
            write_bytes(self._detections(run), gzip.compress(json.dumps(detections).encode(), mtime=0))
        write_text(self._json(run), record.to_json(indent=1))
        (self.failures / f"{run.name}.json").unlink(missing_ok=True)

    def record(self, run: Run) -> Record:
        """Read the record of a finished run, once as long as its file stays as it is."""
        file = self._json(run)
        found = file.stat()
        stamp = found.st_ino, found.st_mtime_ns, found.st_size
        if run.name not in self._read or self._read[run.name][0] != stamp:
            with _whole(file):
                self._read[run.name] = stamp, Record.of(json.loads(file.read_text(encoding="utf-8")))
        return self._read[run.name][1]

    def value(self, run: Run, metric: str) -> float:
        """Return a metric of a finished run, in points."""
        record = self.record(run)
        return float(metric_values(self.matches(run), metric)[0]) if record.task else 100 * record.numbers[metric]

    def matches(self, run: Run) -> Matches:
        """Read the match table of a finished run."""
        file = self.records / f"{run.name}.npz"
        with _whole(file):
            return Matches.load(file)

    def detections(self, run: Run) -> list[dict[str, Any]]:
        """Read what a finished run detected, in COCO's results format."""
        file = self._detections(run)
        with _whole(file):
            found: list[dict[str, Any]] = json.loads(gzip.decompress(file.read_bytes()))
        return found

    def require_same_kind(self, run: Run, *, numbers: bool) -> None:
        """Require a run to end in what those before it ended in: detections, or numbers alone.

        Raises:
            DataError: If it does not.
        """
        other = next(iter(sorted(self.records.glob("*.json"))), None)
        if other is not None and (json.loads(other.read_text(encoding="utf-8")).get("task") == "") != numbers:
            kinds = ("detections", "numbers alone")
            raise DataError(
                f"{run} left {kinds[numbers]}, and {other.stem} {kinds[not numbers]}; let the program write the same "
                "files for every arm and seed"
            )

    def attempted(self, run: Run) -> bool:
        """Tell whether a run is finished or has failed; a run that was only interrupted is not."""
        return self.has(run) or (self.failures / f"{run.name}.json").is_file()

    def set_aside_damaged(self, say: Callable[[str], object] = print) -> None:
        """Move files that cannot be read to ``damaged/``, so that their runs are carried out again.

        Args:
            say: Takes a sentence for each of them.
        """
        for file in sorted([*self.records.glob("*.json"), *self.failures.glob("*.json")]):
            parts = self._parts(file) if file.parent == self.records else [file]
            if bad := next((part for part in parts if not _readable(part)), None):
                for part in parts:
                    self._set_aside(part)
                say(f"{bad} is damaged; it was moved to {self.folder / DAMAGED}, and its run is carried out again")
        for file in [*self.folder.glob("truth*.json"), self.folder / COSTS, self.folder / RESULTS]:
            if file.is_file() and not _readable(file):
                self._set_aside(file)
                say(f"{file} is damaged; it was moved to {self.folder / DAMAGED}, and is made again")

    def _parts(self, record: Path) -> list[Path]:
        """List the files of a finished run, its record first; one with numbers alone has nothing else."""
        if _readable(record) and json.loads(record.read_text(encoding="utf-8")).get("task") == "":
            return [record]
        return [record, record.with_suffix(".npz"), record.with_suffix(".detections.json.gz")]

    def _set_aside(self, file: Path) -> None:
        if file.exists():
            home = self.folder / DAMAGED
            home.mkdir(exist_ok=True)
            file.replace(free_path(home / file.name))

    def finished(self, runs: Iterable[Run]) -> Iterator[Run]:
        """Yield those of the runs that are finished."""
        return (run for run in runs if self.has(run))

    def untouched(self) -> bool:
        """Tell whether no run has finished, nor trained an epoch."""
        return not any(self.records.glob("*.json")) and not any((self.folder / RUNS).glob("*/*/results.csv"))

    def fail(self, run: Run, error: str) -> None:
        """Note why a run could not be finished, which then counts as tried, unless another process carries it out."""
        if error == ELSEWHERE:
            return
        write_text(
            self.failures / f"{run.name}.json", json.dumps({"arm": run.arm.name, "seed": run.seed, "error": error})
        )

    def failure(self, run: Run) -> str:
        """Return why a run could not be finished when it was last tried; empty if it was not or could."""
        file = self.failures / f"{run.name}.json"
        return str(json.loads(file.read_text(encoding="utf-8"))["error"]) if file.is_file() else ""

    def failed(self) -> list[dict[str, Any]]:
        """Return the arm, the seed and the error of every run that could not be finished when it was last tried."""
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self.failures.glob("*.json"))]

    def parcel(self, run: Run) -> dict[str, bytes]:
        """Pack the files of a run that was carried out elsewhere, by their names in the folder."""
        files = [*self.folder.glob("truth*.json"), self.log(run), self.training(run) / "results.csv"]
        files += [self.training(run) / "weights" / "last.pt", *self.failures.glob("*.json")]
        files += sorted(self.records.glob("*"), key=lambda file: file.suffix == ".json")  # the record last
        return {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in files if file.is_file()}

    def receive(self, files: Mapping[str, bytes]) -> None:
        """Unpack what `parcel` packed; a ground truth that differs from ours stays out and its run with it.

        Raises:
            DataError: If the other machine's data are not ours.
        """
        truths = {name for name in files if name.startswith("truth")}
        ours = {name: json.loads(file.read_bytes()) for name in truths if (file := self.folder / name).is_file()}
        if any(_annotations(json.loads(files[name])) != _annotations(own) for name, own in ours.items()):
            raise DataError("the images or labels on another machine of the cluster are not those of the first run")
        for name, content in files.items():
            if name not in ours:
                write_bytes(self.folder / name, content)
        for name in files:
            if Path(name).parent.name == self.records.name and name.endswith(".json"):  # a finished run has not failed
                (self.failures / Path(name).name).unlink(missing_ok=True)

    def truth(self, fold: int | None = None) -> dict[str, Any]:
        """Read the ground truth, of a fold where the plan has folds.

        Raises:
            DataError: If it is damaged.
        """
        file = self.truth_file(fold)
        try:
            found: Any = parse_json(file.read_bytes())
        except ValueError:
            found = None
        if not isinstance(found, dict) or not found.keys() >= {"images", "annotations", "categories"}:
            raise DataError(f"{file} is damaged; remove it, and the next run of the study writes it again")
        return found

    def truth_file(self, fold: int | None = None) -> Path:
        """Return where the ground truth is."""
        return self.folder / ("truth.json" if fold is None else f"truth-{fold}.json")

    def keep_truth(self, truth: Mapping[str, Any], root: Path, fold: int | None = None) -> str:
        """Write the ground truth if no run has yet, and require it to be the same if one has; return its checksum.

        Raises:
            DataError: If images or labels have changed since the first run, or what it wrote is damaged.
        """
        file, text = self.truth_file(fold), json.dumps({"root": str(root), **truth}, sort_keys=True)
        known = self.truth(fold) if file.is_file() else None
        if known is not None and _annotations(known) != _annotations(json.loads(text)):
            raise DataError(
                f"the images or labels that are detected on are not those of the first run ({file}); "
                "put them back, or begin a new study on the new ones"
            )
        if known is None or known.get("root") != str(root):  # the data were moved
            write_text(file, text)
        return hashlib.sha256(json.dumps(truth, sort_keys=True).encode()).hexdigest()[:16]

    def _json(self, run: Run) -> Path:
        return self.records / f"{run.name}.json"

    def _detections(self, run: Run) -> Path:
        return self.records / f"{run.name}.detections.json.gz"


UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error, zipfile.BadZipFile)
"""What reading a damaged file ends in."""


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Name a file that turns out to be damaged, and what brings it back.

    Raises:
        DataError: If it is.
    """
    try:
        yield
    except UNREADABLE as error:
        raise DataError(
            f"{file} is damaged ({type(error).__name__}); attngraft study resume sets it aside and repeats its run"
        ) from error


def _readable(file: Path) -> bool:
    """Tell whether a file of a study's folder can be read."""
    try:
        if file.suffix == ".npz":
            Matches.load(file)
        elif file.suffix == ".gz":
            json.loads(gzip.decompress(file.read_bytes()))
        elif not isinstance(json.loads(file.read_text(encoding="utf-8")), dict):
            return False
    except UNREADABLE:
        return False
    return True


def _annotations(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ground truth without the place of its images, which may move."""
    return {key: value for key, value in truth.items() if key != "root"}
