"""``attngraft doctor``: a row for each check, as it comes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attngraft._core.streams import stdout_to_stderr
from attngraft.cli import pairs
from attngraft.cli.output import console as new_console
from attngraft.cli.progress import StatusLine
from attngraft.doctor import Diagnosis, Finding, doctor, subject
from attngraft.doctor.examination import is_mechanism
from attngraft.doctor.mechanism.subject import options_of

KEYS = ("imgsz", "batch", "data", "channels")
COLOURS = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
HEALTHY, UNHEALTHY = 0, 1


def run_doctor(words: Sequence[str], *, as_json: bool) -> int:
    """Examine what the words name and print what is found.

    Args:
        words: A mechanism or ``model=``, and ``key=value``, among them options of a mechanism.
        as_json: Whether to print JSON instead of rows.

    Returns:
        The exit code: 1 if a check failed.

    Raises:
        UsageError: If the words make no sense.
    """
    if as_json:
        with stdout_to_stderr():
            diagnosis = _examine(words, StatusLine(new_console(stderr=True)))
        click.echo(json.dumps(diagnosis.to_dict(), indent=1))
        return HEALTHY if diagnosis.healthy else UNHEALTHY
    console = new_console()
    diagnosis = _examine(words, _Rows(console))
    counts = [sum(f.status == word for f in diagnosis.findings) for word in COLOURS]
    said = ", ".join(f"{count} {word}" for count, word in zip(counts, COLOURS, strict=True) if count)
    console.print(f"{diagnosis.subject}: {said} in {sum(f.seconds for f in diagnosis.findings):.0f} s")
    return HEALTHY if diagnosis.healthy else UNHEALTHY


def _examine(words: Sequence[str], progress: StatusLine) -> Diagnosis:
    named, given = pairs.read(words)
    targets = [*named, *([given.pop("model")] if "model" in given else [])]
    if len(targets) != 1:
        raise click.UsageError("say what to examine, as in: attngraft doctor model=yolo11n+ema@P4")
    circumstances = {key: given.pop(key) for key in KEYS if key in given}
    own = options_of(subject(targets[0]).cls) if is_mechanism(targets[0]) else []
    if own is not None:
        pairs.require_known("doctor", given, ["model", *KEYS, *own])
    with progress:
        return doctor(targets[0], **circumstances, options=given, progress=progress)


class _Rows(StatusLine):
    """Print a row for each finding as it comes."""

    def finished(self, what: str, result: object = None) -> None:
        """Print what a check found."""
        if isinstance(result, Finding):
            _print(self.console, result)


def _print(console: Console, finding: Finding) -> None:
    row = Table.grid(padding=(0, 2))
    for width in (4, 18):
        row.add_column(width=width)
    row.add_column()
    row.add_row(Text(finding.status, COLOURS[finding.status]), finding.name, finding.detail)
    if finding.remedy:
        row.add_row("", "", f"-> {finding.remedy}")
    console.print(row, highlight=False)
