"""The figure of probes: accuracy of each mechanism on each probe, with how many seeds learned it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.extras import extra_package
from attngraft._core.files import write_bytes
from attngraft.probe.tally import Tally

INK, FAINT, ABSENT = "#1b1f24", "#d7dbe0", "#f1f2f4"


def draw(found: Tally, file: Path) -> Path:
    """Draw the table of mechanisms and probes as a PNG, and beside it accuracy by distance where that was run.

    Args:
        found: What the runs came to.
        file: Where to; replaced if it exists.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        OutputError: If it cannot be written.
    """
    extra_package("matplotlib", "study")
    from matplotlib.figure import Figure

    curves = [m for m in found.mechanisms if m.reach]
    rows, columns = len(found.mechanisms), len(found.probes)
    widths = [max(6.0, 1.0 * columns + 2), 5.0][: 1 + bool(curves)]
    height = max(3.0, 1.2 + 0.32 * rows)
    figure = Figure(figsize=(sum(widths), height), dpi=130, facecolor="white", layout="constrained")
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    _cells(axes[0], found)
    if curves:
        _by_distance(axes[1], found)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_bytes(file, content.getvalue())
    return file


def _cells(axis: Any, found: Tally) -> None:
    scores = [[m.score(probe) for probe in found.probes] for m in found.mechanisms]
    values = np.array([[np.nan if s is None else s.accuracy for s in row] for row in scores])
    axis.set_facecolor(ABSENT)
    axis.imshow(np.ma.masked_invalid(values), cmap="YlGnBu", vmin=0.45, vmax=1.3, aspect="auto")
    for row, line in enumerate(scores):
        for column, score in enumerate(line):
            text = "–" if score is None else f"{score.learned}/{score.seeds}  {score.accuracy:.2f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=INK)
    axis.set_xticks(range(len(found.probes)), found.probes, fontsize=8)
    axis.set_yticks(range(len(found.mechanisms)), [m.name for m in found.mechanisms], fontsize=8)
    axis.tick_params(length=0)
    axis.xaxis.tick_top()
    axis.set_xlabel("seeds that learned / seeds, mean accuracy (chance 0.5); – was not run", fontsize=7, color=INK)
    for side in axis.spines.values():
        side.set_visible(False)


def _by_distance(axis: Any, found: Tally) -> None:
    """Draw a line a mechanism; those that reach everywhere lie on each other and are grey."""
    for m in (m for m in found.mechanisms if m.reach):
        middle = [(one.low + one.high) / 2 for one in m.reach]
        accuracy = [one.right / one.objects for one in m.reach]
        everywhere = m.reached(found.instrument.learned) == m.reach[-1].high
        style = {"color": FAINT, "zorder": 1} if everywhere else {"label": m.name, "marker": "o", "markersize": 3}
        axis.plot(middle, accuracy, linewidth=1.2, **style)
    axis.axhline(0.5, color=INK, linewidth=0.6, linestyle=":")
    axis.set_ylim(0.3, 1.03)
    axis.set_xlabel("pixels from the object to the cue", fontsize=8)
    axis.set_title("reach: accuracy by distance (grey: reaches everywhere)", fontsize=8, color=INK, loc="left")
    axis.tick_params(labelsize=8)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=7, frameon=False)
