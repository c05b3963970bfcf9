"""A detection, where it stands on a map, and what becomes of detections when a model is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attngraft.attention._precision import at_least_single
from attngraft.maps.readers import Grid
from attngraft.maps.relevance import Quantity, Target

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the input."""

SAME = 0.5
"""Intersection over union from which two boxes of one class are the same object."""


@dataclass(frozen=True)
class Detection:
    """One detection, and which of the raw predictions it is.

    Attributes:
        image: Which image of the batch.
        candidate: Which candidate of `Predictions`.
        label: Its class.
        score: Its score, from 0 to 1.
        box: Its box.
        place: The point of the image that the candidate stands for, (x, y) in pixels: the centre of its own cell, or of
            the box where the detector has no cells.
    """

    image: int
    candidate: int
    label: int
    score: float
    box: Box
    place: tuple[float, float]

    def target(self, quantity: Quantity = "class") -> Target:
        """Return a number that was predicted of it: its class's score, or a side of its box."""
        return Target(self.image, self.candidate, self.label, quantity)


def cell_at(place: tuple[float, float], size: Grid, grid: Grid) -> int:
    """Return the flat cell of a map that a point of the image falls in; a point outside falls in the nearest.

    Args:
        place: (x, y) in pixels.
        size: Rows and columns of the image, in pixels.
        grid: Rows and columns of the map.

    Example:
        >>> cell_at((95.9, 40.0), (96, 96), (12, 12))
        71
    """
    column, row = (
        min(max(int(at * cells / pixels), 0), cells - 1)
        for at, pixels, cells in zip(place, size[::-1], grid[::-1], strict=True)
    )
    return row * grid[1] + column


def cells_in(box: Box, size: Grid, grid: Grid) -> list[int]:
    """Return the flat cells whose centres lie in a box; the cell of its own centre where there is none.

    Args:
        box: The box.
        size: Rows and columns of the image, in pixels.
        grid: Rows and columns of the map.

    Example:
        >>> cells_in((0, 0, 17, 9), (96, 96), (12, 12)), cells_in((1, 1, 2, 2), (96, 96), (12, 12))
        ([0, 1], [0])
    """
    inside = coverage(box, size, grid, centres=True).flatten().nonzero().flatten().tolist()
    left, top, right, bottom = box
    return inside or [cell_at(((left + right) / 2, (top + bottom) / 2), size, grid)]


def coverage(box: Box, size: Grid, grid: Grid, *, centres: bool = False) -> Tensor:
    """Return which part of each cell a box covers, ``(H, W)``.

    Args:
        box: The box.
        size: Rows and columns of the image, in pixels.
        grid: Rows and columns of the map.
        centres: Whether to tell only whether a cell's centre is covered, 0 or 1.
    """
    along = []
    for low, high, pixels, cells in ((box[1], box[3], size[0], grid[0]), (box[0], box[2], size[1], grid[1])):
        step = pixels / cells
        start = torch.arange(cells, dtype=torch.float64) * step
        if centres:
            middle = start + step / 2
            along.append(((middle >= low) & (middle < high)).double())
        else:
            along.append(((start + step).clamp(max=high) - start.clamp(min=low)).div(step).clamp(0, 1))
    return along[0][:, None] * along[1]


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of each pair of boxes, ``(A, 4)`` and ``(D, 4)`` to ``(A, D)``, in float32 at least.

    Two boxes without area have an IoU of 0.
    """
    from torchvision.ops import box_iou  # maps stand on torch alone until boxes are compared

    # float16 ends at the area of 256 x 256 pixels
    return torch.nan_to_num(box_iou(at_least_single(boxes), at_least_single(others)))


@dataclass(frozen=True)
class Change:
    """What became of one detection.

    Attributes:
        before: The detection of the model as it is; None for a new one.
        after: The detection of the changed model; None for one that is gone.
        kind: ``"kept"``, ``"gone"`` or ``"new"``.
        score: How much the score rose, from the one to the other; from or to 0 where one of them is missing.
        iou: Intersection over union of the two boxes; 0 where one is missing.
    """

    before: Detection | None
    after: Detection | None
    kind: Literal["kept", "gone", "new"]
    score: float
    iou: float


def compare(before: Sequence[Detection], after: Sequence[Detection]) -> list[Change]:
    """Say what became of each detection of a batch when the model was changed.

    Detections of one image and class are paired by IoU, the largest first, from `SAME` upwards.

    Args:
        before: Detections of the model as it is.
        after: Detections of the changed model.

    Returns:
        The detections before in their order, then the new ones.
    """
    pairs = _pairs(before, after)
    changes = []
    for index, old in enumerate(before):
        partner = pairs.get(index)
        if partner is None:
            changes.append(Change(old, None, "gone", -old.score, 0.0))
        else:
            new, iou = after[partner[0]], partner[1]
            changes.append(Change(old, new, "kept", new.score - old.score, iou))
    taken = {index for index, _ in pairs.values()}
    return changes + [Change(None, new, "new", new.score, 0.0) for i, new in enumerate(after) if i not in taken]


def _pairs(before: Sequence[Detection], after: Sequence[Detection]) -> dict[int, tuple[int, float]]:
    """Pair detections greedily: index before to index after and their IoU."""
    if not before or not after:
        return {}
    boxes, others = (torch.tensor([d.box for d in found], dtype=torch.float64) for found in (before, after))
    iou = intersection_over_union(boxes, others)
    alike = torch.tensor([[(a.image, a.label) == (b.image, b.label) for b in after] for a in before])
    iou = iou * alike
    pairs: dict[int, tuple[int, float]] = {}
    while (best := float(iou.max())) >= SAME:
        old, new = divmod(int(iou.argmax()), len(after))
        pairs[old] = (new, best)
        iou[old], iou[:, new] = 0.0, 0.0
    return pairs
