"""``attngraft probe``: what came out, mechanism by mechanism, and the report of everything in the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from attngraft.cli import pairs
from attngraft.cli.output import console as new_console
from attngraft.cli.progress import StatusLine
from attngraft.probe import Tally, everything, opened, probe
from attngraft.probe.ledger import INSTRUMENT
from attngraft.probe.markdown import cell, learned, write
from attngraft.probe.probing import HOME

KEYS = ("probes", "seeds", "controls", "parallel", "epochs", "images")
FEW = 3
"""Mechanisms of which every probe is said in a sentence."""

WIDTH = 100


def run_probe(words: Sequence[str], output: Path | None, *, everyone: bool) -> int:
    """Probe what the words name, print a table and write the report.

    Args:
        words: Mechanisms, and ``key=value``; none at all writes the report of what the folder holds.
        output: The folder; None takes ``runs/probe``. What it holds already is added to.
        everyone: Whether all mechanisms of the registry are meant.

    Returns:
        The exit status: 1 if a run failed.

    Raises:
        UsageError: If the words make no sense.
    """
    named, options = pairs.read(words)
    folder = Path(pairs.take(options, "probe", "output", "out", given=output) or HOME)
    pairs.require_known("probe", options, (*KEYS, "output"))
    if everyone:
        named = [*everything(), *named]
    if not named and (options or not (folder / INSTRUMENT).is_file()):
        raise click.UsageError("say what to probe, as in: attngraft probe mhsa ema, or attngraft probe --all")
    console = new_console(least=WIDTH)
    progress = _Failures(console)
    with progress:
        found = probe(named, folder=folder, progress=progress, **options) if named else opened(folder)
    if not found.runs:
        return 1
    _print(console, found)
    for file in write(found, folder):
        console.print(f"{file} written", soft_wrap=True, highlight=False)
    if progress.failed:
        runs = "1 run" if progress.failed == 1 else f"{progress.failed} runs"
        console.print(f"{runs} failed; the same command tries again", soft_wrap=True)
    return int(progress.failed > 0)


class _Failures(StatusLine):
    """The status line, which counts what failed."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.failed = 0

    def finished(self, what: str, result: object = None) -> None:
        """Count a run without a record."""
        self.failed += result is None


def _print(console: Console, found: Tally) -> None:
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("mechanism", no_wrap=True)
    for name in found.probes:
        grid.add_column(name, no_wrap=True)
    for one in found.mechanisms:
        grid.add_row(one.name, *(cell(one.score(name)) for name in found.probes))
    console.print(grid, highlight=False)
    console.print(
        "seeds that learned / seeds, and mean accuracy: guessing gives .50; none is the detector without a mechanism",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    if len(found.mechanisms) <= FEW + 1:
        for one in found.mechanisms:
            for score in one.scores:
                if not score.control:
                    console.print(learned(one, score), soft_wrap=True, highlight=False)
