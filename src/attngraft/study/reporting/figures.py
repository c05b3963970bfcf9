"""The report's figures: SVG that stands in the page, takes its colours from it, and keeps its words as text."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 7.6
INK, FAINT, PAPER, BAND = "#010203", "#040506", "#070809", "#0a0b0c"
"""Stand-ins that the finished SVG replaces by variables of the page, so that both themes are drawn at once."""

VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", PAPER: "var(--paper)", BAND: "var(--band)"}
SERIES = ("#0d0e01", "#0d0e02", "#0d0e03", "#0d0e04", "#0d0e05", "#0d0e06", "#0d0e07")
VARIABLES |= {colour: f"var(--s{index})" for index, colour in enumerate(SERIES)}


@dataclass(frozen=True)
class Gain:
    """An arm's difference to the stock model, in AP points.

    Attributes:
        name: The arm.
        control: Whether it is a control.
        mean: The mean difference.
        interval: Its interval; infinite ends where one seed gives none.
        seeds: The difference at each seed.
        latency: Its latency as a multiple of the stock model's, and the ends of that interval; None if not measured.
    """

    name: str
    control: bool
    mean: float
    interval: tuple[float, float]
    seeds: Sequence[float]
    latency: tuple[float, float, float] | None = None


def colour(index: int, control: bool) -> str:
    """Return the colour of an arm: controls are grey, arms take their turn."""
    return FAINT if control else SERIES[index % len(SERIES)]


def colours(gains: Sequence[Gain]) -> dict[str, str]:
    """Return each arm's colour, the same in every figure."""
    asked = [gain.name for gain in gains if not gain.control]
    return {g.name: colour(asked.index(g.name) if g.name in asked else 0, g.control) for g in gains}


def gains_figure(gains: Sequence[Gain], sesoi: float, metric: str) -> str:
    """Draw each arm's gain with its interval and its seeds, over the band of differences not worth having."""
    figure, axes = _figure(0.42 * len(gains) + 0.9)
    axes.axvspan(-sesoi, sesoi, color=BAND, lw=0)
    axes.axvline(0, color=INK, lw=0.8)
    shade = colours(gains)
    for row, gain in enumerate(reversed(gains)):
        low, high = (value if math.isfinite(value) else gain.mean for value in gain.interval)
        axes.plot([low, high], [row, row], color=shade[gain.name], lw=2.2, solid_capstyle="round")
        axes.plot(gain.seeds, [row + 0.22] * len(gain.seeds), ".", color=shade[gain.name], ms=4, alpha=0.7)
        axes.plot([gain.mean], [row], "o", color=shade[gain.name], ms=7)
    axes.set_yticks(range(len(gains)), [gain.name for gain in reversed(gains)])
    axes.set_ylim(-0.6, len(gains) - 0.4)
    axes.set_xlabel(f"difference to stock, {metric} points; small dots are single seeds, the band is ±{sesoi:g}")
    return _svg(figure, "gains")


def latency_figure(gains: Sequence[Gain], metric: str) -> str:
    """Draw gain against latency, both with intervals, and join the arms that no other beats on both."""
    figure, axes = _figure(3.4)
    shade = colours(gains)
    timed = [(gain, gain.latency) for gain in gains if gain.latency is not None]
    axes.axhline(0, color=INK, lw=0.8)
    axes.plot([1], [0], "s", color=INK, ms=7)
    axes.annotate("stock", (1, 0), xytext=(6, 5), textcoords="offset points", color=INK)
    for gain, (ratio, left, right) in timed:
        low, high = (value if math.isfinite(value) else gain.mean for value in gain.interval)
        axes.plot([left, right], [gain.mean] * 2, color=shade[gain.name], lw=1)
        axes.plot([ratio] * 2, [low, high], color=shade[gain.name], lw=1)
        axes.plot([ratio], [gain.mean], "o", color=shade[gain.name], ms=7)
        if not gain.control:  # controls lie close together, and their names would cover each other
            axes.annotate(gain.name, (ratio, gain.mean), xytext=(6, 5), textcoords="offset points", color=INK)
    front = pareto(gains)
    corners = sorted([(1.0, 0.0), *((latency[0], gain.mean) for gain, latency in timed if gain.name in front)])
    axes.plot(*zip(*corners, strict=True), color=INK, lw=1, ls=(0, (2, 3)), zorder=0)
    axes.set_xlabel("latency, as a multiple of the stock model's; grey: controls; dotted: the Pareto front")
    axes.set_ylabel(f"gain, {metric} points")
    return _svg(figure, "latency")


def pareto(gains: Sequence[Gain]) -> list[str]:
    """Name the arms that no other, nor the stock model, beats on gain and latency at once; noop is none."""
    points = {gain.name: (gain.latency[0], gain.mean) for gain in gains if gain.latency and gain.name != "noop"}
    return [name for name, point in points.items() if not any(_beats(o, point) for o in [*points.values(), (1.0, 0.0)])]


def curves_figure(curves: Mapping[str, np.ndarray[Any, Any]], gains: Sequence[Gain]) -> str:
    """Draw mean learning curves with the range over seeds.

    Args:
        curves: AP points of each arm, ``(seeds, epochs)``.
        gains: For the colours.
    """
    figure, axes = _figure(3.2)
    shade = colours(gains) | {"stock": INK}
    for name, values in curves.items():
        epochs = np.arange(1, values.shape[1] + 1)
        axes.fill_between(epochs, values.min(0), values.max(0), color=shade[name], alpha=0.15, lw=0)
        style = (0, (4, 2)) if shade[name] == FAINT else "-"
        marker = "o" if values.shape[1] == 1 else ""
        axes.plot(epochs, values.mean(0), color=shade[name], lw=1.6, ls=style, marker=marker, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("AP on the validation split, by the host")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return _svg(figure, "curves")


def bars_figure(values: Mapping[str, Mapping[str, float]], gains: Sequence[Gain], name: str, label: str) -> str:
    """Draw groups of bars: one group for each key, one bar for each arm."""
    figure, axes = _figure(3.0)
    shade = colours(gains) | {"stock": INK}
    groups = list(dict.fromkeys(key for row in values.values() for key in row))
    width = 0.8 / len(values)
    for index, (arm, row) in enumerate(values.items()):
        at = [g - 0.4 + width * (index + 0.5) for g in range(len(groups))]
        axes.bar(at, [row.get(group, 0) for group in groups], width * 0.9, color=shade[arm], label=arm)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return _svg(figure, name)


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set(color=INK, size=9)
    axes.yaxis.label.set(color=INK, size=9)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element whose ids no other figure of the page has."""
    import matplotlib

    sink = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    with matplotlib.rc_context(settings):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    head = rf'<svg viewBox="\1" class="figure" role="img" id="{name}">'
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', head, svg, count=1)
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px inherit; font-size: \1px; font-family: inherit", svg)
