"""Carrying out a study: what is missing is run, what fails is noted, and the rest goes on."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

from rich.console import Console

from attngraft._core.errors import DataError, PlanError
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import STOCK
from attngraft.study.running.display import Display
from attngraft.study.running.engines import Engine
from attngraft.study.running.records import Run, Store, planned
from attngraft.study.running.status import StatusFile

POLL_SECONDS = 0.3

LEAST_LEARNED = 0.1
"""AP points below which a model has learned nothing that could be compared."""

SAME_SCORE = 1e-6
SAME_PIXELS = 1e-3
"""Differences of detections below which two runs found the same: the rounding of single precision."""


class Watcher(Protocol):
    """Shows how far a study's runs are."""

    def expect(self, runs: list[Run]) -> None:
        """Take in runs, those that are finished included."""

    def started(self, run: Run) -> None:
        """Take a run that has started."""

    def update(self, runs: list[Run]) -> None:
        """Look how far runs are."""

    def ended(self, run: Run, why: str) -> None:
        """Take how a run ended: why it failed, or an empty text."""


def carry_out(
    store: Store,
    frozen: FrozenPlan,
    engine: Engine,
    *,
    console: Console | None = None,
    more: Callable[[], list[Run]] = list,
    anyway: bool = False,
) -> dict[Run, str]:
    """Run what is missing.

    Args:
        store: The study's folder.
        frozen: Its plan.
        engine: What runs are carried out by.
        console: Where to say how far they are.
        more: Called when everything asked for has ended; returns further runs, or none.
        anyway: Whether to go on where the baseline's first run has learned nothing.

    Returns:
        The runs that failed, and why.

    Raises:
        PlanError: If the baseline's first run has learned nothing, or an arm detects just what its baseline does.
    """
    wanted = planned(frozen)
    failed: dict[Run, str] = {}
    with ExitStack() as stack:
        status = StatusFile(store, frozen, engine.workers)
        stack.callback(status.close)
        display = stack.enter_context(Display(store, frozen, console or Console()))
        work = _Work(store, frozen, engine, (display, status), anyway)
        while wanted:
            try:
                failed |= work.empty(wanted)
            except BaseException as error:
                engine.stop()
                status.note(str(error) if isinstance(error, PlanError) else "the study was interrupted")
                raise
            wanted = [run for run in more() if run not in failed and not store.has(run)]
    return failed


class _Work:
    """Carries out lists of runs."""

    def __init__(
        self, store: Store, frozen: FrozenPlan, engine: Engine, watchers: tuple[Watcher, ...], anyway: bool
    ) -> None:
        self.store = store
        self.frozen = frozen
        self.engine = engine
        self.watchers = watchers
        self.anyway = anyway

    def empty(self, wanted: list[Run]) -> dict[Run, str]:
        """Carry out those of the runs that are not finished, and return those that failed."""
        failed: dict[Run, str] = {}
        for watcher in self.watchers:
            watcher.expect(wanted)
        waiting = deque(run for run in wanted if not self.store.has(run))
        while waiting or self.engine.running():
            while waiting and self.engine.free():
                self._start(waiting.popleft())
            for run, why in self.engine.ended():
                if said := self._end(run, why):
                    failed[run] = said
            for watcher in self.watchers:
                watcher.update(self.engine.running())
            time.sleep(POLL_SECONDS)
        return failed

    def _start(self, run: Run) -> None:
        self.engine.start(run)
        for watcher in self.watchers:
            watcher.started(run)

    def _end(self, run: Run, why: str) -> str:
        """Take the end of a run, and return why it failed or an empty text."""
        why = "" if self.store.has(run) else why or "it ended without a record"
        if why:
            _note(self.store, run, why)
        for watcher in self.watchers:
            watcher.ended(run, why)
        if not why:
            self._require_metric(run)
        if not why and not self.anyway:
            self._require_learning(run)
            self._require_difference(run)
        return why

    def _require_metric(self, run: Run) -> None:
        """Stop where a run has no such metric: its images hold no object of the size or class.

        Raises:
            DataError: If it has none.
        """
        metric = self.frozen.plan.metric
        if math.isnan(self.store.value(run, metric)):
            raise DataError(
                f"{run} has no {metric}: the images that it is evaluated on hold no object of that size or class; "
                "begin a new study with another metric, or with other images"
            )

    def _require_learning(self, run: Run) -> None:
        """Stop before the other arms are trained, if the baseline's first run has learned nothing.

        Raises:
            PlanError: If it has not.
        """
        plan = self.frozen.plan
        value = self.store.value(run, plan.metric)
        if run.arm.name == STOCK and run.seed == plan.first_seed and value < LEAST_LEARNED:
            raise PlanError(
                f"the baseline's first run reached {plan.metric} {value:.2f} of 100: it has learned nothing, and arms "
                "cannot be compared with it. Give it more epochs, a smaller batch or pretrained weights in a new "
                "study; or carry this one out all the same with anyway=True"
            )

    def _require_difference(self, run: Run) -> None:
        """Stop where an arm detects in every seed what its baseline detects: equal models are no evidence.

        Raises:
            PlanError: If it does, to the last digits; says how far the arm's grafts have come.
        """
        plan, stock = self.frozen.plan, self.frozen.arm(STOCK)
        seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
        for arm in self.frozen.arms if run.arm.name == STOCK else [run.arm]:
            pairs = [(Run(arm, seed), Run(stock, seed)) for seed in seeds]
            if arm.kind != "arm" or not all(self.store.has(one) for pair in pairs for one in pair):
                continue
            if all(equal_outcome(self.store, mine, theirs) for mine, theirs in pairs):
                raise PlanError(
                    f"{arm.name}: in every seed {self._why_equal(*pairs[0])}. The study stops here: change the plan in "
                    "a new study, or carry this one out all the same with anyway=True"
                )

    def _why_equal(self, mine: Run, theirs: Run) -> str:
        if self.frozen.plan.command is not None:
            what = "detections equal" if self.store.record(mine).task else "numbers equal"
            return f"its {what} the baseline's; let the program read which arm it is to run"
        from attngraft.yolo.training import why_equal

        return why_equal(self.store.record(mine).watch, self.store.record(theirs).watch)


def equal_outcome(store: Store, one: Run, other: Run) -> bool:
    """Tell whether two runs found the same, or have the same numbers where there are only those."""
    mine, theirs = store.record(one), store.record(other)
    if mine.task and theirs.task:
        return equal_detections(store, one, other)
    return mine.numbers == theirs.numbers


def equal_detections(store: Store, one: Run, other: Run) -> bool:
    """Tell whether two runs found the same, up to the rounding of single precision.

    Args:
        store: The study's folder.
        one: A finished run.
        other: Another.
    """
    pairs = [sorted(store.detections(run), key=_order) for run in (one, other)]
    if len(pairs[0]) != len(pairs[1]) or not pairs[0]:
        return False
    return all(
        a["category_id"] == b["category_id"]
        and a["image_id"] == b["image_id"]
        and abs(a["score"] - b["score"]) < SAME_SCORE
        and all(abs(p - q) < SAME_PIXELS for p, q in zip(a["bbox"], b["bbox"], strict=True))
        for a, b in zip(*pairs, strict=True)
    )


def _order(detection: dict[str, Any]) -> tuple[Any, ...]:
    return detection["image_id"], detection["category_id"], *(round(side, 1) for side in detection["bbox"])


def _note(store: Store, run: Run, why: str) -> None:
    """Note a failure in the study's folder; a full disk is no reason to stop the others."""
    try:
        store.fail(run, why)
    except OSError as error:
        print(f"attngraft: cannot note that {run} failed: {error}", file=sys.stderr)
