"""How far a study's runs are, on a screen: a row of bars a run in a terminal, a line at every change elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.running.records import Run, Store
from attngraft.study.running.run import curve


class Display(AbstractContextManager["Display"]):
    """Says how far each run is: a row of bars a run in a terminal, a line at every change elsewhere.

    Args:
        store: The study's folder.
        frozen: Its plan.
        console: Where to say it.
    """

    def __init__(self, store: Store, frozen: FrozenPlan, console: Console) -> None:
        self.store = store
        self.epochs = frozen.plan.train.get("epochs")
        self.metric = frozen.plan.metric
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description:32.32}", markup=False),
            BarColumn(20),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.rows: dict[Run, TaskID] = {}
        self.said: dict[Run, str] = {}

    def __enter__(self) -> Display:
        """Begin."""
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.bars.stop()

    def expect(self, runs: list[Run]) -> None:
        """Take in runs, those that are finished included."""
        for run in runs:
            self.rows[run] = self.bars.add_task(
                str(run), total=self.epochs, start=False, state="waiting", visible=False
            )
        finished = sum(self.store.has(run) for run in runs)
        self.console.print(f"{len(runs)} runs, {finished} of them finished before")

    def started(self, run: Run) -> None:
        """Say that a run has started."""
        self.bars.update(self.rows[run], visible=True, state="starting")
        self.bars.start_task(self.rows[run])
        self._line(run, "started")

    def update(self, runs: list[Run]) -> None:
        """Look how far runs are."""
        for run in runs:
            rows = curve(self.store.training(run))
            if rows:
                state = progress(rows, self.epochs)
                self.bars.update(self.rows[run], completed=len(rows), state=state)
                self._line(run, state)

    def ended(self, run: Run, why: str) -> None:
        """Say how a run ended."""
        state = f"failed: {why}" if why else f"{self.metric} {self._value(run):.2f}"
        self.bars.update(self.rows[run], completed=self.epochs, state=state if not why else "failed")
        if why and self.console.is_terminal:
            self.console.print(f"{run}: {state}", markup=False)
        self._line(run, state)

    def _value(self, run: Run) -> float:
        return self.store.value(run, self.metric)

    def _line(self, run: Run, state: str) -> None:
        if not self.console.is_terminal and self.said.get(run) != state:
            self.said[run] = state
            self.console.print(f"{run}: {state}", markup=False, soft_wrap=True)


def progress(rows: list[dict[str, float]], epochs: int | None) -> str:
    """Say how far a run is and how good its last epoch was, by Ultralytics' column or a program's own.

    Example:
        >>> progress([{"metrics/mAP50-95(B)": 0.25}], 10), progress([{"metric": 0.5}, {"metric": 0.75}], None)
        ('epoch 1/10, mAP 25.0', 'epoch 2, metric 75.0')
    """
    of = "" if epochs is None else f"/{epochs}"
    known = {"mAP": rows[-1].get("metrics/mAP50-95(B)"), "metric": rows[-1].get("metric")}
    value = next((f", {name} {100 * value:.1f}" for name, value in known.items() if value is not None), "")
    return f"epoch {len(rows)}{of}{value}"
