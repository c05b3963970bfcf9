"""What ``attngraft study`` prints: where a study stands, what it came to and what it will take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from attngraft.study import Study
    from attngraft.study.judging.results import RunResult
    from attngraft.study.running.records import Run

COMPLETE, INCOMPLETE = 0, 1


def conclude(screen: Console, finished: Study, failed: Mapping[Run, str]) -> int:
    """Write the report of a study and print what it came to; returns the status to exit with."""
    if finished.comparable():
        concluded = finished.conclude()
        for sentence in concluded.answers:
            screen.print(sentence, highlight=False, soft_wrap=True)
        screen.print(f"report: {concluded.report}", soft_wrap=True)
    for one, why in failed.items():
        screen.print(f"failed: {one}: {why}", soft_wrap=True)
    if failed:
        screen.print(f"resume with: attngraft study resume {quoted(finished.folder)}", soft_wrap=True)
    return INCOMPLETE if failed else COMPLETE


def print_status(begun: Study) -> int:
    """Print what is finished and what it came to so far; the status says whether anything is missing."""
    from rich.table import Table

    from attngraft.cli.output import console
    from attngraft.study.reporting.words import headline

    results, screen = begun.results, console()
    table = Table("arm", "seed", "state", title=f"{begun.folder}, plan {results.setting.hash}")
    for run in results.runs:
        table.add_row(run.arm, str(run.seed), _state(begun, run))
    screen.print(table)
    for sentence in headline(results):
        screen.print(sentence, highlight=False, soft_wrap=True)
    return COMPLETE if len(results.finished) == len(results.runs) else INCOMPLETE


def _state(begun: Study, run: RunResult) -> str:
    from attngraft.study.running.records import Run
    from attngraft.study.running.run import curve

    if run.value is not None:
        return f"{begun.plan.metric} {run.value:.2f}"
    if run.error:
        return f"failed: {run.error}"
    epochs = len(curve(begun.store.training(Run(begun.frozen_plan().arm(run.arm), run.seed))))
    planned = begun.plan.train.get("epochs")  # a program of the user's has its own
    return f"epoch {epochs}{f'/{planned}' if planned else ''}" if epochs else "missing"


def print_estimate(screen: Console, begun: Study, parallel: int | None) -> None:
    """Print what a study will take."""
    from rich.table import Table

    from attngraft.cli.progress import StatusLine

    with StatusLine(screen) as progress:
        found = begun.forecast(parallel, progress=progress)
    table = Table("arm", "recipe", "one run", title=f"{found.runs} runs, {found.parallel} at once")
    for arm in found.frozen.arms:
        table.add_row(arm.name, Path(arm.model).name, _duration(found.seconds[arm.name]))
    screen.print(table)
    for arm in found.frozen.arms:
        if arm.note:
            screen.print(f"{arm.name}: {arm.note}", soft_wrap=True)
    most = " at most" if begun.plan.max_seeds else ""
    screen.print(
        f"about {_duration(found.seconds[''])}{most}, from timing training steps on this machine; "
        f"{found.bytes / 1e9:.1f} GB of {found.free / 1e9:.0f} GB free in {begun.folder}. Nothing was run or written.",
        soft_wrap=True,
    )
    if said := begun.decidable():
        screen.print(said, soft_wrap=True, highlight=False)
    for warning in found.warnings:
        screen.print(f"warning: {warning}", soft_wrap=True)


def _duration(seconds: float) -> str:
    """Write a duration.

    Example:
        >>> [_duration(s) for s in (42, 630, 9000, 400_000)]
        ['42 s', '10 min', '2.5 h', '4.6 days']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds // 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def quoted(folder: Path) -> str:
    """Return a folder as a shell takes it in a command."""
    return shlex.quote(str(folder))
