"""One run, from nothing or from its last epoch to its record; the work of ``python -m attngraft.study.running.run``.

A run is a process of its own, so that a crash, a kill or a leak is the run's alone, and so that the environment that
PyTorch reads at its start (threads, deterministic kernels) is set before it starts.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from attngraft._core.errors import OptionError, PlanError
from attngraft._core.locks import held
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.running.folds import fold_data, fold_of
from attngraft.study.running.records import ELSEWHERE, PATIENCE, Record, Run, Store

if TYPE_CHECKING:
    from attngraft.coco.matches import Matches
    from attngraft.study.plan import Plan
    from attngraft.yolo.detecting import Detections

FAILED = 3
"""Exit code of a run that failed and said why in the study's folder."""

BUSY = 4
"""Exit code of a run that another process is carrying out."""

TICK = 5.0
"""Seconds between two notes of how long a run has taken, of which a kill loses the last."""

PROJECT = "attngraft"
"""Where W&B keeps runs of studies, which are groups there; without it each arm's folder would be a project."""


def environment(folder: Path) -> dict[str, str]:
    """Return the environment that a run's process needs.

    One thread: two processes of two threads on two cores train many times slower than two of one. A cache of its own:
    seed checkpoints are named by recipe, and runs of one recipe under two seeds start from different ones.
    """
    own = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "ATTNGRAFT_CACHE": str(folder / "cache"),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **own}


def tracked(store: Store, run: Run) -> dict[str, str]:
    """Return what tells W&B and MLflow, where Ultralytics speaks to them, whose run this is.

    Names that the user set are kept. TensorBoard goes by folders, which name arm and seed.
    """
    study = store.folder.name
    own = {
        "WANDB_PROJECT": PROJECT,
        "WANDB_RUN_GROUP": study,
        "WANDB_NAME": str(run),
        "WANDB_TAGS": f"{study},{run.arm.name.replace(',', ' ')},seed {run.seed}",
        "MLFLOW_EXPERIMENT_NAME": study,
        "MLFLOW_RUN": str(run),
    }
    return {key: value for key, value in own.items() if key not in os.environ}


def command(folder: Path, run: Run) -> list[str]:
    """Return the command of a run's process."""
    return [
        sys.executable,
        "-m",
        "attngraft.study.running.run",
        str(folder),
        run.arm.name,
        str(run.seed),
        str(os.getpid()),
    ]


class _BusyError(PlanError):
    """Another process is carrying out the run."""


def perform(folder: Path, run: Run, frozen: FrozenPlan) -> None:
    """Train, evaluate and record one run; nothing is done twice.

    Args:
        folder: The study's folder.
        run: Which run.
        frozen: The study's plan.

    Raises:
        PlanError: If another process is carrying it out.
    """
    store = Store(folder)
    training = store.training(run)
    with held(Path(f"{training}.lock"), _BusyError(ELSEWHERE), wait=PATIENCE):
        if store.has(run):
            return
        if frozen.plan.interrupted == "restart" and not _trained(training).exists():
            shutil.rmtree(training, ignore_errors=True)
            _Clock(training).file.unlink(missing_ok=True)
        _perform(store, run, frozen)


def _perform(store: Store, run: Run, frozen: FrozenPlan) -> None:
    from attngraft.measure import environment as versions

    plan, training = frozen.plan, store.training(run)
    clock = _Clock(training)
    seen, facts = (_train if plan.command is None else _run_program)(store, run, frozen, clock)
    store.require_same_kind(run, numbers=isinstance(seen, dict))
    scored = _Scored(seen) if isinstance(seen, dict) else _evaluated(store, run, frozen, seen)
    record = Record(
        plan=frozen.hash,
        arm=run.arm.name,
        model=run.arm.model,
        seed=run.seed,
        numbers=scored.numbers,
        per_class=scored.per_class,
        classes=[] if scored.matches is None else scored.matches.classes.tolist(),
        errors=scored.errors,
        curve=curve(training),
        seconds=clock.seconds(),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        watch=facts,
        truth=scored.truth,
        task=scored.task,
        environment=asdict(versions(device_of(plan))),
    )
    store.save(run, record, scored.matches, scored.found)
    shutil.rmtree(training / "cache", ignore_errors=True)
    shutil.rmtree(training / "evaluation", ignore_errors=True)
    clock.file.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Scored:
    """What a run scored, as its record has it; the rest is empty where a program computed its numbers itself."""

    numbers: Mapping[str, float]
    per_class: list[list[float]] = field(default_factory=list)
    matches: Matches | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    found: list[dict[str, Any]] = field(default_factory=list)
    truth: str = ""
    task: str = ""


def _evaluated(store: Store, run: Run, frozen: FrozenPlan, seen: Detections) -> _Scored:
    """Evaluate detections against the ground truth of the study."""
    from attngraft.coco.error_types import error_types
    from attngraft.coco.evaluate import evaluate
    from attngraft.coco.installed import HOTCOCO, installed

    truth = store.keep_truth(seen.truth, seen.root, fold_of(frozen.plan, run.seed))
    scored = evaluate(seen.truth, seen.found, task=seen.task)
    errors = error_types(seen.truth, seen.found, task=seen.task).costs if installed() == HOTCOCO else {}
    return _Scored(scored.numbers, scored.per_class.tolist(), scored.matches, errors, seen.found, truth, seen.task)


def _train(store: Store, run: Run, frozen: FrozenPlan, clock: _Clock) -> tuple[Detections, dict[str, Any]]:
    """Train with Ultralytics and detect; return what was found, and what pairing rests on."""
    from attngraft.yolo.detecting import detect
    from attngraft.yolo.training import train

    plan, training = frozen.plan, store.training(run)
    data = fold_data(plan, store.folder, run.seed)
    with clock.ticking():
        watch = train(run.arm.model, data, seed=run.seed, folder=training, options=plan.train)
    _trained(training).touch()
    weights = training / "weights" / "last.pt"
    seen = detect(weights, data, split=plan.split, options=plan.train)
    return replace(seen, found=[]) if watch.diverged else seen, watch.facts()  # a run that diverged found nothing


def _run_program(
    store: Store, run: Run, frozen: FrozenPlan, clock: _Clock
) -> tuple[Detections | dict[str, float], dict[str, Any]]:
    """Let the user's program carry the run out; return what it found."""
    from attngraft.study.running import program

    training = store.training(run)
    training.mkdir(parents=True, exist_ok=True)
    with clock.ticking():
        program.carry_out(frozen.plan, run, training)
    return program.outcome(frozen.plan, training), {}


class _Clock:
    """Counts the seconds of a run over all of its legs: what a killed leg took is in the file that it kept.

    Args:
        training: The run's own folder.
    """

    def __init__(self, training: Path) -> None:
        self.file = training.with_suffix(".seconds")
        self.before = self._noted()
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds so far."""
        return self.before + time.monotonic() - self.started

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Keep the seconds in the file every few of them."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(TICK):
                with suppress(OSError):  # a full disk is no reason to stop
                    self.file.parent.mkdir(parents=True, exist_ok=True)
                    self.file.write_text(f"{self.seconds():.1f}")

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _noted(self) -> float:
        try:
            return float(self.file.read_text())
        except (OSError, ValueError):
            return 0.0


def curve(training: Path) -> list[dict[str, float]]:
    """Read the row of each epoch so far: Ultralytics', or those that a program of the user's writes.

    Rows without an epoch are counted; what is no number is left out, and so is a row that is not whole yet.

    Args:
        training: The folder of the training run.
    """
    file = training / "results.csv"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", errors="replace") as rows:
        found = [_numbers(row) for row in csv.DictReader(rows) if all(row.values())]
    whole = [{"epoch": float(at), **row} for at, row in enumerate(found, 1) if row]
    return list({row["epoch"]: row for row in whole}.values())  # an epoch that a kill undid stands there twice


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for key, value in row.items():
        with suppress(TypeError, ValueError):  # a word, or cells beyond the last column
            found[str(key).strip()] = float(value)
    return found


def _trained(training: Path) -> Path:
    return training / "trained"


def device_of(plan: Plan) -> str:
    """Return the device that the runs of a plan are carried out on, on this machine; of several the first.

    The CPU where there is no accelerator: a study may be read where it was not trained.
    """
    import torch

    from attngraft.yolo.devices import devices

    if not torch.cuda.is_available():
        return "cpu"
    try:
        return str(devices("a study", plan.train.get("device"))[0])
    except OptionError:  # a number of nvidia-smi where some are hidden: Ultralytics makes that one the default
        return "cuda"


def end_children(process: int) -> None:
    """End every process that a process started, and those that they started: loaders, workers, a user's program."""
    with suppress(psutil.Error):
        for child in psutil.Process(process).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()


def end_with_parent(parent: int) -> None:
    """End this process when the study that started it is gone, killed perhaps, so that nothing runs twice.

    The study is watched itself and not as this one's parent, which on Windows may be a launcher between the two.

    Args:
        parent: The study's process.
    """

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            study = psutil.Process(parent)  # knows when it was created, so that a later process of that number is none
            while study.is_running() and study.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.5)
        end_children(os.getpid())
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()


def main(words: list[str]) -> int:
    """Perform the run that the words name; say in the study's folder why it failed if it does.

    Args:
        words: Folder, arm, seed and, where the run must not outlive it, the process that started it.
    """
    folder, (arm, seed, *parent) = Path(words[0]), words[1:]
    if parent:
        end_with_parent(int(parent[0]))
    frozen = FrozenPlan.read(folder)
    run = Run(frozen.arm(arm), int(seed))
    try:
        perform(folder, run, frozen)
    except _BusyError:
        return BUSY
    except Exception as error:  # noqa: BLE001  # whatever it is, it is recorded and the other runs go on
        traceback.print_exc()
        Store(folder).fail(run, f"{type(error).__name__}: {' '.join(str(error).split())}")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
