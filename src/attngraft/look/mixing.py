"""What attentions mixed, gates scaled and grafts changed in one forward pass, for the detections of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attngraft import maps
from attngraft._core.errors import MapError
from attngraft.look.arrays import Array, Attention, Gate, Graft, Size
from attngraft.look.drawn import lay
from attngraft.maps import Detection, RecordedAttention, RecordedGate, Subject

COARSE = 20
"""Cells along a side of the grid whose rows are kept; of a map no larger, all cells are."""
FINE = 40
"""Cells along a side of the map that the rows of that grid are kept on."""
CHUNK = 256
"""Cells whose rows are averaged at once."""
AT_ONCE = 16_000_000
"""Weights that are held at once while they are laid on a smaller map."""


def mixed(
    watched: Subject, tensor: Tensor, detections: Sequence[Detection]
) -> tuple[list[Attention], list[Gate], list[Graft]]:
    """Record one forward pass with gradients: rows, gates and strengths.

    Args:
        watched: The model.
        tensor: The image, ``(1, 3, H, W)``.
        detections: Its detections.
    """
    grafted = maps.grafts(watched.network)
    with torch.enable_grad(), watched.only(detections), maps.record(watched.network) as tape:
        if grafted:
            with maps.strength(watched.network) as strengths:
                predictions = watched.predict(tensor.clone().requires_grad_())
        else:
            strengths, predictions = {}, watched.predict(tensor.clone().requires_grad_())
    recorded = list(tape.attentions.values())
    asked = {a.name: [_rows_asked(a, watched, tensor, d) for d in detections] for a in recorded}
    weighted = _weighted(recorded, asked, [d.target().of(predictions) for d in detections])
    attentions = [_attention(a, asked[a.name], *weighted[a.name]) for a in recorded]
    gates = [_gate(gate) for gate in tape.gates.values()]
    grafts = [
        Graft(
            name,
            _scale(grafted[name]),
            float(found.ratio()[0]),
            array(found.per_cell()[0]),
        )
        for name, found in strengths.items()
    ]
    return attentions, gates, grafts


def coarse_cells(grid: Size, most: int = COARSE) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the flat cells in the middle of the parts of a grid, ``(q, r)``: all where no side is above ``most``.

    Example:
        >>> coarse_cells((2, 3)).tolist(), coarse_cells((40, 3))[:2].tolist()
        ([[0, 1, 2], [3, 4, 5]], [[4, 5], [10, 11]])
    """
    step = -(-max(grid) // most)
    rows, columns = (np.minimum(np.arange(0, side, step) + step // 2, side - 1) for side in grid)
    return np.asarray(rows[:, None] * grid[1] + columns, np.int64)


def _scale(graft: Any) -> float:
    return 1.0 if graft.gamma is None else float(graft.gamma.detach().abs().mean())


class Asked(NamedTuple):
    """Which queries of an attention a detection is asked by.

    Attributes:
        own: Its own cell, a decoder's query, or all cells of a classifier.
        box: Cells of its box; empty for a decoder and a classifier.
        cells: How many cells lie in the box.
    """

    own: list[int]
    box: list[int]
    cells: int


def _rows_asked(attention: RecordedAttention, watched: Subject, tensor: Tensor, detection: Detection) -> Asked:
    grid, size = attention.grid, (int(tensor.shape[2]), int(tensor.shape[3]))
    if grid is None:
        return Asked([detection.candidate], [], 0)
    if watched.task == "classify":
        return Asked(list(range(grid[0] * grid[1])), [], 0)
    inside = maps.cells_in(detection.box, size, grid)
    return Asked([maps.cell_at(detection.place, size, grid)], spaced(inside, grid), len(inside))


def spaced(cells: Sequence[int], grid: Size, most: int = COARSE**2) -> list[int]:
    """Return cells of a rectangle, evenly spaced, so that there are no more than so many.

    Example:
        >>> spaced(range(12), (3, 4)) == list(range(12)), spaced(range(36), (6, 6), 9)
        (True, [7, 9, 11, 19, 21, 23, 31, 33, 35])
    """
    rows = sorted({cell // grid[1] for cell in cells})
    columns = sorted({cell % grid[1] for cell in cells})
    step = 1
    while len(rows[step // 2 :: step]) * len(columns[step // 2 :: step]) > most:
        step += 1
    return [row * grid[1] + column for row in rows[step // 2 :: step] for column in columns[step // 2 :: step]]


Means = tuple[Array, Array | None]
"""Mean rows of the detections' own cells and of their boxes, ``(D, h, N)``."""


def _means(read: Sequence[Callable[[list[int]], Tensor]], asked: Sequence[Asked]) -> Means | None:
    """Return the mean rows of what each detection is asked by; None where there is no detection."""
    if not asked:
        return None
    own = [_mean(of, one.own) for of, one in zip(read, asked, strict=True)]
    if not all(one.box for one in asked):
        return array(torch.stack(own)), None
    box = [_mean(of, one.box) for of, one in zip(read, asked, strict=True)]
    return array(torch.stack(own)), array(torch.stack(box))


def _mean(read: Callable[[list[int]], Tensor], cells: list[int]) -> Tensor:
    """Return the mean row of chosen queries of the first image, ``(h, N)``."""
    total = torch.zeros(())
    for start in range(0, len(cells), CHUNK):
        total = total + read(cells[start : start + CHUNK])[0].sum(1)
    return total / len(cells)


def _attention(attention: RecordedAttention, asked: Sequence[Asked], weighted: Means | None, reason: str) -> Attention:
    grid = attention.grid
    heads, N = (int(attention.rows([0]).shape[axis]) for axis in (1, 3))
    rows, box_rows = _means([attention.rows] * len(asked), asked) or (np.zeros((0, heads, N), np.float32), None)
    cells = np.zeros((0, 0), np.int64) if grid is None else coarse_cells(grid)
    cell_rows, cell_grid = _laid_rows(attention, cells.ravel().tolist(), heads, N)
    return Attention(
        attention.name,
        type(attention.module).__name__,
        grid,
        attention.key_grids,
        rows,
        None if weighted is None else weighted[0],
        reason,
        cells,
        cell_rows,
        cell_grid,
        box_rows,
        None if weighted is None else weighted[1],
        tuple(one.cells for one in asked),
    )


def _laid_rows(attention: RecordedAttention, cells: list[int], heads: int, N: int) -> tuple[Array, Size]:
    """Return the rows of many cells on a map with no side above `FINE`: never all of them at full resolution."""
    parts, (_, grid) = [], lay(np.zeros((0, N), np.float32), attention.key_grids, FINE)
    chunk = max(1, AT_ONCE // (heads * N))
    for start in range(0, len(cells), chunk):
        rows = attention.rows(cells[start : start + chunk])[0].transpose(0, 1)  # (Q, h, N)
        parts.append(lay(array(rows.reshape(-1, N)), attention.key_grids, FINE)[0])
    found = np.concatenate(parts) if parts else np.zeros((0, *grid), np.float32)
    return found.reshape(len(cells), heads, grid[0] * grid[1]), grid


def _weighted(
    recorded: Sequence[RecordedAttention], asked: Mapping[str, Sequence[Asked]], scores: Sequence[Tensor]
) -> dict[str, tuple[Means | None, str]]:
    """Return gradient-weighted rows of each attention, or the reason that there are none."""
    if not scores:
        return {a.name: (None, "there is no detection whose score could be derived") for a in recorded}
    found: dict[str, tuple[Means | None, str]] = {}
    usable = []
    for attention in recorded:
        try:
            maps.mixture_gradients([attention], scores[0])
            usable.append(attention)
        except MapError as error:
            found[attention.name] = None, str(error)
    gradients = [maps.mixture_gradients(usable, score) for score in scores]
    for number, attention in enumerate(usable):
        read = [partial(attention.weighted_by, of_score[number]) for of_score in gradients]
        found[attention.name] = _means(read, asked[attention.name]), ""
    return found


def _gate(gate: RecordedGate) -> Gate:
    values = gate.values()[0]  # (C or 1, H or 1, W or 1)
    return Gate(gate.name, type(gate.module).__name__, array(values.mean((1, 2))), array(values.mean(0)))


def array(tensor: Tensor) -> Array:
    """Return a tensor as an array."""
    return tensor.detach().to("cpu", torch.float32).numpy()
