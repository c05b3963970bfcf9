"""One figure of a comparison: bars of time with intervals, and what each detector weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.errors import OutputError
from attngraft._core.extras import extra_package
from attngraft._core.files import write_whole
from attngraft._core.lettering import lettered
from attngraft.bench.comparison import Bench
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

    panels, names = _panels(found), found.names
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
    for index, (axis, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        _bars(axis, panel, names)
        axis.set_yticks(range(len(names)), names if index % columns == 0 else [""] * len(names))
    figure.suptitle(
        f"{found.settings.size} pixels, batch {found.settings.batch}; {found.environment.device}, "
        f"{found.environment.threads} thread(s), torch {found.environment.versions['torch']}, "
        f"{found.environment.date[:10]}",
        fontsize=8, color=INK, x=0.01, ha="left",
    )  # fmt: skip
    with lettered(figure):
        write_whole(file, figure.savefig)
    return file


@dataclass(frozen=True)
class _Panel:
    """Bars of one figure: a value for each detector that has one, its text, and the interval of a time."""

    title: str
    values: dict[str, float]
    texts: dict[str, str]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def _panels(found: Bench) -> list[_Panel]:
    panels: list[_Panel] = []
    for backend in found.backends:
        measured = found.on(backend)
        where = "" if measured[0].device == found.environment.device else f" on {measured[0].device}"
        panels.append(_times(f"inference, {backend}{where}, ms", {m.name: m.latency for m in measured}))
    first = {name: next(m for m in found.measurements if m.name == name) for name in found.names}
    eager = {m.name: m for m in found.on("eager")}
    panels.append(_times("training step, ms", {name: m.train_latency for name, m in eager.items()}))
    panels += [
        _counts("parameters, millions", {name: m.parameters for name, m in first.items()}, 1e6, 2),
        _counts("GFLOPs of an inference", {name: m.flops for name, m in first.items()}, 1e9, 2),
        _counts("peak memory of an inference, MiB", {name: m.peak_bytes for name, m in eager.items()}, 2**20, 1),
        _counts("peak memory of training, MiB", {name: m.train_peak_bytes for name, m in eager.items()}, 2**20, 1),
    ]
    return [panel for panel in panels if panel.values]


def _times(title: str, timed: Mapping[str, Timing | None]) -> _Panel:
    known = {name: timing for name, timing in timed.items() if timing}
    first = next(iter(known), "")
    return _Panel(
        title,
        {name: timing.p50_ms for name, timing in known.items()},
        {n: f"{t.p50_ms:.1f}" + ("" if n == first else f"  ({t.ratio:.2f}x)") for n, t in known.items()},
        {name: bootstrap_median(np.array(timing.samples_ms), 0) for name, timing in known.items()},
    )


def _counts(title: str, counted: Mapping[str, int | None], unit: float, digits: int) -> _Panel:
    values = {name: count / unit for name, count in counted.items() if count is not None}
    return _Panel(title, values, {name: f"{value:.{digits}f}" for name, value in values.items()})


def _bars(axis: Any, panel: _Panel, names: Sequence[str]) -> None:
    places = [names.index(name) for name in panel.values]
    values = list(panel.values.values())
    colours = [FIRST if index == 0 else OTHERS for index in range(len(values))]
    axis.barh(places, values, height=0.62, color=colours, zorder=2)
    intervals = [panel.intervals.get(name, (value, value)) for name, value in panel.values.items()]
    ends = [max(value, high) for value, (_, high) in zip(values, intervals, strict=True)]
    if panel.intervals:
        below = [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)]
        above = [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)]
        axis.errorbar(values, places, xerr=[below, above], fmt="none", ecolor=INK, elinewidth=1, capsize=2.5, zorder=3)
    widest = max(ends) or 1.0
    for place, end, text in zip(places, ends, panel.texts.values(), strict=True):
        axis.text(end + 0.025 * widest, place, text, va="center", fontsize=8, color=INK)
    axis.set_xlim(0, ROOM * widest)
    axis.set_ylim(len(names) - 0.5, -0.5)  # the first on top, and a place for those that are absent
    axis.set_title(panel.title, fontsize=9, loc="left", color=INK)
    axis.tick_params(axis="y", length=0, labelsize=8.5, colors=INK)
    axis.tick_params(axis="x", labelsize=7, colors=INK)
    axis.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
    for edge in ("top", "right", "left"):
        axis.spines[edge].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
