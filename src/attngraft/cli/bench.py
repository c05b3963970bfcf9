"""``attngraft bench``: a table, its JSON and its figure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from attngraft._core.errors import MissingExtraError
from attngraft._core.files import free_path, require_writable
from attngraft.bench import Bench, bench, draw
from attngraft.cli import pairs
from attngraft.cli.output import console as new_console
from attngraft.cli.progress import StatusLine
from attngraft.measure import Timing

KEYS = ("model", "imgsz", "batch", "backends", "train", "rounds", "device")
OUTPUT = "attngraft-bench"
MEBI = 2**20
WIDTH = 80
"""Columns that a table needs to show its figures whole."""

Said = TypeVar("Said", bound=Hashable)


def run_bench(words: Sequence[str], output: Path | None = None) -> None:
    """Measure what the words name, print a table and write ``bench.json`` and ``bench.png``.

    Args:
        words: Recipes, ``model=`` recipes or ``.txt`` files of them, and ``key=value``.
        output: Folder to fill; None takes `OUTPUT`. The next free name is taken if it exists.

    Raises:
        UsageError: If the words make no sense.
        ClickException: If nothing could be measured.
    """
    keyed = [word for word in words if pairs.is_pair(word) and pairs.split(word)[0] != "model"]
    models = [pairs.split(word)[1] if pairs.is_pair(word) else word for word in words if word not in keyed]
    options = pairs.parse(keyed)
    out = Path(pairs.take(options, "bench", "output", "out", given=output) or OUTPUT)
    pairs.require_known("bench", options, (*KEYS, "output"))
    require_writable(out)
    if not models:
        raise click.UsageError("say what to measure, as in: attngraft bench model=yolo11n model=yolo11n+mhsa@P5")
    if "backends" in options:
        options["backends"] = pairs.several(options["backends"])
    console = new_console(least=WIDTH)
    with StatusLine(console) as progress:
        found = bench(_models(models), **options, progress=progress)
    _print(console, found)
    if not found.measurements:
        raise click.ClickException("nothing was measured: none of the backends asked for is available here; add eager")
    out = free_path(out)
    console.print(f"{found.write(out / 'bench.json')} written", soft_wrap=True)
    try:
        console.print(f"{draw(found, out / 'bench.png')} written", soft_wrap=True)
    except MissingExtraError as error:
        console.print(f"no figure: {error}", soft_wrap=True)


def _models(models: Sequence[str]) -> list[str]:
    """Read models, or files that list one a line."""
    found: list[str] = []
    for model in models:
        lines = Path(model).read_text(encoding="utf-8").splitlines() if model.endswith(".txt") else [model]
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return found


def _print(console: Console, found: Bench) -> None:
    settings = found.settings
    if settings.imgsz != settings.asked:
        asked = "{} x {}".format(*settings.asked)
        console.print(
            f"{asked} pixels become {settings.size}, the next multiples of the largest stride", soft_wrap=True
        )
    for backend in found.backends:
        _print_inference(console, found, backend)
    if any(m.train_latency for m in found.measurements):
        _print_training(console, found)
    for backend, failed in found.absent.items():
        for why, names in _together(failed.items()).items():
            all_of_them = backend not in found.backends and len(names) == len(failed)
            who = backend if all_of_them else f"{backend}, {', '.join(names)}"
            console.print(f"{who}: not measured: {why}", soft_wrap=True)
        if backend in found.backends:
            first = found.on(backend)[0].name
            console.print(f"{backend}: ratios are against {first}, the first that it takes", soft_wrap=True)
    console.print(
        f"{found.environment.threads} thread(s), torch {found.environment.versions['torch']}; {settings.rounds} "
        "interleaved rounds. Ratios are against the first of a table, with 95 % intervals; without non-maximum "
        "suppression.",
        soft_wrap=True,
    )
    taken = ((name, choice) for name, kernels in found.kernels.items() for choice in kernels.items())
    for (kernel, reason), names in _together(taken).items():
        console.print(f"{', '.join(names)}: attention by the kernel {kernel}: {reason}", soft_wrap=True)


def _print_inference(console: Console, found: Bench, backend: str) -> None:
    measured = found.on(backend)
    headings = ("M parameters", "GFLOPs", "weights MiB", "peak MiB", "p50 ms", "p90 ms", "ratio")
    table = _table(f"{backend}, {_where(found, measured[0].device)}", headings)
    for m in measured:
        table.add_row(
            m.name, _in(m.parameters, 1e6, 3), _in(m.flops, 1e9, 2),
            _in(m.weight_bytes, MEBI, 1), _in(m.peak_bytes, MEBI, 1), *_times(m.latency),
        )  # fmt: skip
    console.print(table)


def _print_training(console: Console, found: Bench) -> None:
    trained = [m for m in found.measurements if m.train_latency]
    headings = ("GFLOPs", "peak MiB", "p50 ms", "p90 ms", "ratio")
    table = _table(f"training step, {_where(found, trained[0].device)}", headings)
    for m in trained:
        table.add_row(m.name, _in(m.train_flops, 1e9, 2), _in(m.train_peak_bytes, MEBI, 1), *_times(m.train_latency))
    console.print(table)


def _where(found: Bench, device: str) -> str:
    return f"{found.settings.size}, batch {found.settings.batch}, on {device}"


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold", min_width=14)
    for heading in headings:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    return table


def _together(said: Iterable[tuple[str, Said]]) -> dict[Said, list[str]]:
    """Return the names of which the same is said."""
    found: dict[Said, list[str]] = {}
    for name, what in said:
        found.setdefault(what, []).append(name)
    return found


def _in(count: int | None, unit: float, digits: int) -> str:
    return "" if count is None else f"{count / unit:.{digits}f}"


def _times(timing: Timing | None) -> tuple[str, str, str]:
    if timing is None:
        return "", "", ""
    ratio = f"{timing.ratio:.2f}\n{timing.ratio_low:.2f}-{timing.ratio_high:.2f}"
    return f"{timing.p50_ms:.1f}", f"{timing.p90_ms:.1f}", ratio
