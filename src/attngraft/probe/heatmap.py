"""The figure of probes: accuracy of each mechanism on each probe, with how many seeds learned it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.extras import extra_package
from attngraft._core.files import write_bytes
from attngraft._core.lettering import lettered
from attngraft.probe.tally import Tally

INK, ABSENT = "#1b1f24", "#f1f2f4"
PALE, DARK = 0.45, 1.3
"""Accuracies of the ends of the colours: pale at chance, and never so dark that text cannot be read."""


def draw(found: Tally, file: Path) -> Path:
    """Draw the table of mechanisms and probes as a PNG, and beside it accuracy by distance where that was run.

    Args:
        found: What the runs came to.
        file: Where to; replaced if it exists.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        OutputError: If it cannot be written.
    """
    content = io.BytesIO()
    drawn = figure(found)
    with lettered(drawn):
        drawn.savefig(content, format="png")
    write_bytes(file, content.getvalue())
    return file


def figure(found: Tally) -> Any:
    """Return the figure as matplotlib's: cells of the table, and where `reach` was run, the same rows by distance."""
    extra_package("matplotlib", "study")
    from matplotlib.figure import Figure

    bins = sorted({(one.low, one.high) for m in found.mechanisms for one in m.reach})
    rows, columns = len(found.mechanisms), len(found.probes)
    widths = [max(6.0, 1.0 * columns + 2), 0.6 * len(bins)][: 1 + bool(bins)]
    height = max(3.0, 1.2 + 0.32 * rows)
    drawn = Figure(figsize=(sum(widths), height), dpi=130, facecolor="white", layout="constrained")
    axes = drawn.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    _cells(axes[0], found)
    if bins:
        _by_distance(axes[1], found, bins)
    return drawn


def _cells(axis: Any, found: Tally) -> None:
    scores = [[m.score(probe) for probe in found.probes] for m in found.mechanisms]
    values = np.array([[np.nan if s is None else s.accuracy for s in row] for row in scores])
    _shade(axis, values, found.probes)
    for row, line in enumerate(scores):
        for column, score in enumerate(line):
            text = "–" if score is None else f"{score.learned}/{score.seeds}  {score.accuracy:.2f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=INK)
    axis.set_yticks(range(len(found.mechanisms)), [m.name for m in found.mechanisms], fontsize=8)
    axis.set_xlabel("seeds that learned / seeds, mean accuracy (chance 0.5); – was not run", fontsize=7, color=INK)


def _by_distance(axis: Any, found: Tally, bins: list[tuple[int, int]]) -> None:
    """Draw the rows of the table once more, by the distance from the object to the cue."""
    values = np.full((len(found.mechanisms), len(bins)), np.nan)
    for row, m in enumerate(found.mechanisms):
        for one in m.reach:
            values[row, bins.index((one.low, one.high))] = one.right / one.objects
    _shade(axis, values, [f"{low}–{high}" for low, high in bins])
    for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
        axis.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", fontsize=7, color=INK)
    axis.set_yticks([])
    axis.set_xlabel("reach: accuracy by pixels from the object to the cue", fontsize=7, color=INK)


def _shade(axis: Any, values: np.ndarray, columns: Sequence[str]) -> None:
    """Draw cells by their values, those without one in grey, with the names of the columns above."""
    axis.set_facecolor(ABSENT)
    axis.imshow(np.ma.masked_invalid(values), cmap="YlGnBu", vmin=PALE, vmax=DARK, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, fontsize=8)
    axis.tick_params(length=0)
    axis.xaxis.tick_top()
    for side in axis.spines.values():
        side.set_visible(False)
