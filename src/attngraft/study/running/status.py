"""``status.json``: how far a study is, for programs; written whole at every change.

`Status` is its content and `schema` its JSON schema: ``attngraft study schema status``. A program that wants to know
whether the study is still going on looks at ``state``, and at ``updated``: a study that was killed leaves its last
word.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from attngraft._core.errors import OutputError
from attngraft._core.files import write_text
from attngraft._core.schemas import json_schema
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.layout import STATUS
from attngraft.study.running.records import UNREADABLE, Run, Store
from attngraft.study.running.run import curve

SCHEMA = "attngraft.status/1"

RunState = Literal["waiting", "running", "finished", "failed"]


@dataclass(frozen=True)
class RunStatus:
    """How far one run is.

    Attributes:
        arm: The arm.
        seed: The seed.
        state: Whether it waits, runs, is finished or failed.
        epoch: Epochs that are trained.
        epochs: Epochs that are planned; None where the study does not know.
        value: The plan's metric, in points; None where it is not finished.
        seconds: Duration of a finished run; None before.
        error: Why it failed.
    """

    arm: str
    seed: int
    state: RunState = "waiting"
    epoch: int = 0
    epochs: int | None = None
    value: float | None = None
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        study: Name of its folder.
        plan: Hash of its plan.
        state: Whether a process is carrying it out, or it ended, with or without failures.
        process: That process on its machine.
        updated: When this was written, in UTC.
        runs: Every run that was asked for so far; a sequential plan may ask for more.
        seconds_left: Estimate for those runs, from the finished ones; None before one is finished.
        note: What a user should know, such as why the study stopped early.
    """

    study: str
    plan: str
    state: Literal["running", "ended"]
    process: int
    updated: str
    runs: tuple[RunStatus, ...] = ()
    seconds_left: float | None = None
    note: str = ""


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``status.json``."""
    return json_schema(Status, SCHEMA)


class StatusFile:
    """Keeps ``status.json`` up to date while a study is carried out, as far as it can be written.

    Args:
        store: The study's folder.
        frozen: Its plan.
        workers: How many runs go on at once, which says how long the rest takes.
    """

    def __init__(self, store: Store, frozen: FrozenPlan, workers: int = 1) -> None:
        epochs = frozen.plan.train.get("epochs")
        self.store = store
        self.metric = frozen.plan.metric
        self.epochs = None if epochs is None else int(epochs)
        self.workers = workers
        self.runs: dict[Run, RunStatus] = {}
        self.behind = False
        self.status = Status(store.folder.name, frozen.hash, "running", os.getpid(), "")

    def expect(self, runs: list[Run]) -> None:
        """Take in runs, those that are finished included."""
        for run in runs:
            blank = RunStatus(run.arm.name, run.seed, epochs=self.epochs)
            self.runs[run] = self._finished(blank, run) if self.store.has(run) else blank
        self._write()

    def started(self, run: Run) -> None:
        """Note that a run has started."""
        self._change(run, replace(self.runs[run], state="running", epoch=0, error=""))

    def update(self, runs: list[Run]) -> None:
        """Look how far runs are."""
        for run in runs:
            epoch = len(curve(self.store.training(run)))
            if epoch != self.runs[run].epoch:
                self._change(run, replace(self.runs[run], epoch=epoch))

    def ended(self, run: Run, why: str) -> None:
        """Note how a run ended."""
        now = self.runs[run]
        self._change(run, replace(now, state="failed", error=why) if why else self._finished(now, run))

    def note(self, text: str) -> None:
        """Take a sentence that a user should read."""
        self.status = replace(self.status, note=text)

    def close(self) -> None:
        """Note that nothing goes on any more; what was running waits for the next time."""
        for run, now in self.runs.items():
            if now.state == "running":
                self.runs[run] = replace(now, state="waiting")
        self.status = replace(self.status, state="ended")
        self._write()

    def _finished(self, now: RunStatus, run: Run) -> RunStatus:
        record = self.store.record(run)
        return replace(
            now,
            state="finished",
            epoch=len(record.curve),
            value=self.store.value(run, self.metric),
            seconds=record.seconds,
        )

    def _change(self, run: Run, now: RunStatus) -> None:
        self.runs[run] = now
        self._write()

    def _write(self) -> None:
        left = seconds_left(list(self.runs.values()), self.workers)
        stamp = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.status = replace(self.status, runs=tuple(self.runs.values()), seconds_left=left, updated=stamp)
        text = json.dumps({"schema": SCHEMA, **asdict(self.status)}, indent=1)
        try:
            write_text(self.store.folder / STATUS, text)
        except OutputError as error:  # a full disk is no reason to stop the runs; the next change is written again
            if not self.behind:
                print(f"attngraft: {STATUS} is not up to date: {error}", file=sys.stderr)
            self.behind = True
        else:
            self.behind = False


def seconds_left(runs: list[RunStatus], workers: int) -> float | None:
    """Estimate how long the runs that are not finished take, from the mean of those that are.

    Args:
        runs: The runs.
        workers: How many go on at once.

    Example:
        >>> done = RunStatus("stock", 0, "finished", seconds=60.0)
        >>> half = RunStatus("stock", 1, "running", epoch=5, epochs=10)
        >>> seconds_left([done, half, RunStatus("stock", 2)], workers=1)
        90.0
    """
    known = [run.seconds for run in runs if run.seconds is not None]
    if not known:
        return None
    parts = [1 - run.epoch / run.epochs if run.epochs else 1.0 for run in runs if run.state in ("waiting", "running")]
    return sum(parts) * sum(known) / len(known) / max(workers, 1)


def read(folder: Path) -> dict[str, Any]:
    """Read ``status.json`` as plain values; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except UNREADABLE:
        return {}
    return found
