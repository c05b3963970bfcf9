"""One picture of a comparison: bars of time with intervals, and what each detector weighs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.errors import OutputError
from attngraft._core.extras import extra_package
from attngraft.bench.report import Bench
from attngraft.measure import Timing
from attngraft.measure.latency import bootstrap_median

FIRST, OTHERS, INK, FAINT = "#8a8f98", "#2f6fb2", "#1b1f24", "#d7dbe0"
ROOM = 1.45
"""Width of an axis by its longest bar, which leaves space for the figure at its end."""


def draw(found: Bench, file: str | Path) -> Path:
    """Draw a comparison as a PNG on a light ground.

    Args:
        found: The figures.
        file: Where to; never overwritten.

    Raises:
        OutputError: If it is there already.
        MissingExtraError: If matplotlib is not installed.
    """
    file = Path(file)
    if file.exists():
        raise OutputError(f"{file} exists and is left as it is; name another file")
    extra_package("matplotlib", "study")
    from matplotlib.figure import Figure

    panels = _panels(found)
    names = list(dict.fromkeys(m.name for m in found.measurements))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    label = max(len(name) for name in names)
    figure = Figure(
        figsize=(1.2 + 0.085 * label + 3.1 * columns, 0.9 + rows * (0.75 + 0.42 * len(names))),
        dpi=150, facecolor="white", layout="constrained",
    )  # fmt: skip
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for index, (axis, (title, values, intervals, texts)) in enumerate(zip(axes.flat, panels, strict=False)):
        _bars(axis, title, values, intervals, texts)
        axis.set_yticks(range(len(names)), names if index % columns == 0 else [""] * len(names))
    side, batch = found.settings.imgsz, found.settings.batch
    figure.suptitle(
        f"{side} x {side} pixels, batch {batch}; {found.environment.device}, {found.environment.threads} thread(s), "
        f"torch {found.environment.versions['torch']}, {found.environment.date[:10]}",
        fontsize=8, color=INK, x=0.01, ha="left",
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return file


Panel = tuple[str, list[float], list[tuple[float, float]] | None, list[str]]


def _panels(found: Bench) -> list[Panel]:
    panels: list[Panel] = []
    for backend in found.backends:
        timed = [m.latency for m in found.on(backend) if m.latency]
        panels.append(_times(f"inference, {backend}, ms", timed))
    eager = found.on("eager")
    steps = [m.train_latency for m in eager if m.train_latency]
    if steps:
        panels.append(_times("training step, ms", steps))
    figures: list[tuple[str, Sequence[float | None], str]] = [
        ("parameters, millions", [m.parameters and m.parameters / 1e6 for m in found.on(found.backends[0])], "{:.2f}"),
        ("GFLOPs of an inference", [m.flops and m.flops / 1e9 for m in found.on(found.backends[0])], "{:.2f}"),
        ("peak memory of an inference, MiB", [m.peak_bytes and m.peak_bytes / 2**20 for m in eager], "{:.1f}"),
        ("peak memory of training, MiB", [m.train_peak_bytes and m.train_peak_bytes / 2**20 for m in eager], "{:.1f}"),
    ]
    for title, values, form in figures:
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            panels.append((title, known, None, [form.format(value) for value in known]))
    return panels


def _times(title: str, timed: Sequence[Timing]) -> Panel:
    intervals = [bootstrap_median(np.array(timing.samples_ms), 0) for timing in timed]
    texts = [f"{t.p50_ms:.1f}" + (f"  ({t.ratio:.2f}x)" if index else "") for index, t in enumerate(timed)]
    return title, [timing.p50_ms for timing in timed], intervals, texts


def _bars(
    axis: Any, title: str, values: list[float], intervals: list[tuple[float, float]] | None, texts: list[str]
) -> None:
    places = range(len(values))
    axis.barh(places, values, height=0.62, color=[FIRST, *[OTHERS] * (len(values) - 1)], zorder=2)
    ends = [max(value, high) for value, (_, high) in zip(values, intervals or [(v, v) for v in values], strict=True)]
    if intervals:
        below = [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)]
        above = [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)]
        axis.errorbar(values, places, xerr=[below, above], fmt="none", ecolor=INK, elinewidth=1, capsize=2.5, zorder=3)
    widest = max(ends) or 1.0
    for place, end, text in zip(places, ends, texts, strict=True):
        axis.text(end + 0.025 * widest, place, text, va="center", fontsize=8, color=INK)
    axis.set_xlim(0, ROOM * widest)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=9, loc="left", color=INK)
    axis.tick_params(axis="y", length=0, labelsize=8.5, colors=INK)
    axis.tick_params(axis="x", labelsize=7, colors=INK)
    axis.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
    for edge in ("top", "right", "left"):
        axis.spines[edge].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
