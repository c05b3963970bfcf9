"""``attngraft bench``: a table, its JSON and its picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from attngraft._core.errors import MissingExtraError
from attngraft._core.files import free_path
from attngraft.bench import Bench, bench, draw
from attngraft.cli.host import parse_pairs, require_known
from attngraft.measure import Timing

KEYS = ("model", "imgsz", "batch", "backends", "train", "rounds", "device")
PAIR = re.compile(r"[a-z_]+=")
MEBI = 2**20


def run_bench(words: Sequence[str], out: Path) -> None:
    """Measure what the words name, print a table and write ``bench.json`` and ``bench.png``.

    Args:
        words: Recipes, ``model=`` recipes or ``.txt`` files of them, and ``key=value``.
        out: Folder to fill; the next free name is taken if it exists.

    Raises:
        UsageError: If the words make no sense.
    """
    models = [word.removeprefix("model=") for word in words if word.startswith("model=") or not PAIR.match(word)]
    options = parse_pairs([word for word in words if PAIR.match(word) and not word.startswith("model=")])
    require_known("bench", options, KEYS)
    if not models:
        raise click.UsageError("say what to measure, as in: attngraft bench model=yolo11n model=yolo11n+mhsa@P5")
    if "backends" in options:
        options["backends"] = _words(options["backends"])
    console = Console()
    with console.status("") as status:
        found = bench(_listed(models), **options, started=lambda what: status.update(what))
    _print(console, found)
    out = free_path(out)
    console.print(f"{found.write(out / 'bench.json')} written", soft_wrap=True)
    try:
        console.print(f"{draw(found, out / 'bench.png')} written", soft_wrap=True)
    except MissingExtraError as error:
        console.print(f"no picture: {error}", soft_wrap=True)


def _words(given: Any) -> list[str]:
    return [str(word).strip() for word in (given if isinstance(given, (list, tuple)) else str(given).split(","))]


def _listed(models: Sequence[str]) -> list[str]:
    """Read models, or files that list one a line."""
    found: list[str] = []
    for model in models:
        lines = Path(model).read_text(encoding="utf-8").splitlines() if model.endswith(".txt") else [model]
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return found


def _print(console: Console, found: Bench) -> None:
    settings = found.settings
    for backend in found.backends:
        measured = found.on(backend)
        trains = any(m.train_latency for m in measured)
        title = f"{backend}, {settings.imgsz} x {settings.imgsz}, batch {settings.batch}"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("model", overflow="fold", min_width=14)
        headings = ["M parameters", "GFLOPs", "weights MiB", "peak MiB", "p50 ms", "p90 ms", "ratio"]
        for heading in [*headings, *(("step ms", "step ratio", "step peak MiB") if trains else ())]:
            table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
        for m in measured:
            time = m.latency
            row = [
                _in(m.parameters, 1e6, 3), _in(m.flops, 1e9, 2),
                _in(m.weight_bytes, MEBI, 1), _in(m.peak_bytes, MEBI, 1),
                f"{time.p50_ms:.1f}" if time else "", f"{time.p90_ms:.1f}" if time else "", _ratio(time),
            ]  # fmt: skip
            if trains:
                step = m.train_latency
                row += [f"{step.p50_ms:.1f}" if step else "", _ratio(step), _in(m.train_peak_bytes, MEBI, 1)]
            table.add_row(m.name, *row)
        console.print(table)
    for backend, why in found.absent.items():
        console.print(f"{backend}: not measured: {why}", soft_wrap=True, markup=False)
    console.print(
        f"{found.environment.device}, {found.environment.threads} thread(s), "
        f"torch {found.environment.versions['torch']}; {settings.rounds} interleaved rounds. "
        "Ratios are against the first, with 95 % intervals; without the search for duplicates.",
        soft_wrap=True,
    )


def _in(count: int | None, unit: float, digits: int) -> str:
    return "" if count is None else f"{count / unit:.{digits}f}"


def _ratio(timing: Timing | None) -> str:
    return f"{timing.ratio:.2f}\n{timing.ratio_low:.2f}-{timing.ratio_high:.2f}" if timing else ""
