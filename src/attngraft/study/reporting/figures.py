"""The report's figures: SVG that stands in the page, takes its colours from it, and keeps its words as text."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attngraft._core.lettering import lettered
from attngraft.study.judging.results import ArmResult, Results, Setting

WIDTH = 7.6
BASELINE = "stock"
INK, FAINT, PAPER, BAND = "#010203", "#040506", "#070809", "#0a0b0c"
"""Stand-ins that the finished SVG replaces by variables of the page, so that both themes are drawn at once."""

VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", PAPER: "var(--paper)", BAND: "var(--band)"}
SERIES = ("#0d0e01", "#0d0e02", "#0d0e03", "#0d0e04", "#0d0e05", "#0d0e06", "#0d0e07")
VARIABLES |= {colour: f"var(--s{index})" for index, colour in enumerate(SERIES)}


def figures(results: Results) -> dict[str, str]:
    """Draw every figure that there is something to draw for, by name."""
    shade = colours(results.arms)
    drawn = {"gains": gains_figure(results, shade)}
    if any(arm.cost.latency for arm in results.arms):
        drawn["latency"] = latency_figure(results, shade)
    if results.curves:
        drawn["curves"] = curves_figure(results.curves, shade, curves_label(results.setting))
    if any(results.errors.values()):
        drawn["errors"] = bars_figure(results.errors, shade, "errors", "AP50 points that it costs")
    return drawn


def colours(arms: Sequence[ArmResult]) -> dict[str, str]:
    """Return each arm's colour, the same in every figure: controls are grey, the baseline is black."""
    asked = [arm.name for arm in arms if not arm.control]
    series = {name: SERIES[index % len(SERIES)] for index, name in enumerate(asked)}
    return {BASELINE: INK, **{arm.name: series.get(arm.name, FAINT) for arm in arms}}


def gains_figure(results: Results, shade: Mapping[str, str]) -> str:
    """Draw each arm's gain with its interval and its seeds, over the band of differences below the SESOI."""
    arms, setting = results.arms, results.setting
    figure, axes = new_figure(0.42 * len(arms) + 0.9)
    axes.axvspan(-setting.sesoi, setting.sesoi, color=BAND, lw=0)
    axes.axvline(0, color=INK, lw=0.8)
    for row, arm in enumerate(reversed(arms)):
        axes.plot(_ends(arm), [row, row], color=shade[arm.name], lw=2.2, solid_capstyle="round")
        seeds = list(arm.differences.values())
        axes.plot(seeds, [row + 0.22] * len(seeds), ".", color=shade[arm.name], ms=4, alpha=0.7)
        axes.plot([arm.estimate.difference], [row], "o", color=shade[arm.name], ms=7)
    axes.set_yticks(range(len(arms)), [plain(arm.name) for arm in reversed(arms)])
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.set_xlabel(
        f"difference to the baseline, {plain(setting.metric)} points; small dots are single seeds, "
        f"the band is ±{setting.sesoi:g}"
    )
    return as_svg(figure, "gains")


def latency_figure(results: Results, shade: Mapping[str, str]) -> str:
    """Draw gain against latency, both with intervals, and join the arms that no other beats on both."""
    figure, axes = new_figure(3.4)
    timed = [(arm, arm.cost.latency) for arm in results.arms if arm.cost.latency is not None]
    axes.axhline(0, color=INK, lw=0.8)
    axes.plot([1], [0], "s", color=INK, ms=7)
    axes.annotate("baseline", (1, 0), xytext=(6, 5), textcoords="offset points", color=INK)
    for arm, (ratio, left, right) in timed:
        gain = arm.estimate.difference
        axes.plot([left, right], [gain] * 2, color=shade[arm.name], lw=1)
        axes.plot([ratio] * 2, _ends(arm), color=shade[arm.name], lw=1)
        axes.plot([ratio], [gain], "o", color=shade[arm.name], ms=7)
        if not arm.control:  # controls lie close together, and their names would cover each other
            axes.annotate(plain(arm.name), (ratio, gain), xytext=(6, 5), textcoords="offset points", color=INK)
    corners = sorted([(1.0, 0.0), *((latency[0], arm.estimate.difference) for arm, latency in timed if arm.pareto)])
    axes.plot(*zip(*corners, strict=True), color=INK, lw=1, ls=(0, (2, 3)), zorder=0)
    axes.set_xlabel("latency, as a multiple of the baseline's; grey: controls; dotted: the Pareto front")
    axes.set_ylabel(f"gain, {plain(results.setting.metric)} points")
    return as_svg(figure, "latency")


def curves_label(setting: Setting) -> str:
    """Say what learning curves show: Ultralytics' AP, or what a program of the user's notes, which has no options."""
    if setting.train:
        return "AP on the validation split, by Ultralytics"
    return "metric that the program notes, in points"


def curves_figure(curves: Mapping[str, Sequence[Sequence[float]]], shade: Mapping[str, str], label: str) -> str:
    """Draw mean learning curves with the range over seeds.

    Args:
        curves: Points of each arm, ``(seeds, epochs)``.
        shade: The colour of each arm.
        label: What they are points of.
    """
    figure, axes = new_figure(3.2)
    for name, rows in curves.items():
        values = np.array(rows)
        epochs = np.arange(1, values.shape[1] + 1)
        axes.fill_between(epochs, values.min(0), values.max(0), color=shade[name], alpha=0.15, lw=0)
        style = (0, (4, 2)) if shade[name] == FAINT else "-"
        marker = "o" if values.shape[1] == 1 else ""
        axes.plot(epochs, values.mean(0), color=shade[name], lw=1.6, ls=style, marker=marker, label=_label(name))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axes.set_ylabel(label)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return as_svg(figure, "curves")


def bars_figure(values: Mapping[str, Mapping[str, float]], shade: Mapping[str, str], name: str, label: str) -> str:
    """Draw groups of bars: one group for each key, one bar for each arm."""
    figure, axes = new_figure(3.0)
    groups = list(dict.fromkeys(key for row in values.values() for key in row))
    width = 0.8 / len(values)
    for index, (arm, row) in enumerate(values.items()):
        at = [g - 0.4 + width * (index + 0.5) for g in range(len(groups))]
        axes.bar(at, [row.get(group, 0) for group in groups], width * 0.9, color=shade[arm], label=_label(arm))
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return as_svg(figure, name)


def plain(text: str) -> str:
    """Keep matplotlib from reading a name as mathematics."""
    return text.replace("$", r"\$")


def _label(arm: str) -> str:
    return "baseline" if arm == BASELINE else plain(arm)


def _ends(arm: ArmResult) -> list[float]:
    return [value if math.isfinite(value) else arm.estimate.difference for value in arm.interval]


def new_figure(height: float) -> tuple[Figure, Axes]:
    """Return an empty figure in the colours of the page."""
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


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element whose ids no other figure of the page has."""
    import matplotlib

    sink = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    with matplotlib.rc_context(settings), lettered(figure, as_text=True):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    head = rf'<svg viewBox="\1" class="figure" role="img" id="{name}">'
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', head, svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", svg)
    return re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)  # as newer releases of matplotlib write it
