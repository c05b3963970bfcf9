"""AP under image weights.

A resample of the images is an integer weight per image, so nothing is matched again: with weights w, COCO's curve
at the k-th detection is ``precision = sum_{j<=k} w tp / sum_{j<=k} w counted`` and ``recall = sum_{j<=k} w tp /
sum w objects``. The numbers equal those of evaluating a data set in which image i is there ``w_i`` times over.

Only true positives move a curve, so they are the steps kept; false positives enter as sums between them. Every array
has a row for each resample of a chunk, and runs along the curve.

Source: pycocotools 2.0.11, ``COCOeval.accumulate`` (the curve and its 101 points).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from attngraft.coco.matches import IOU_THRESHOLDS, SIZES, Matches, bits

Floats = NDArray[np.float64]
Weights = NDArray[np.integer[Any]]
Counts = NDArray[np.int32]

RECALL_STEP = 0.01
RECALL_POINTS = 101
CELLS = 1 << 16
"""Steps times resamples worked on at once: half a megabyte of float64, so that the few arrays stay in the L2 cache."""

METRICS: dict[str, tuple[str, slice]] = {
    "AP": ("all", slice(None)),
    "AP50": ("all", slice(0, 1)),
    "AP75": ("all", slice(5, 6)),
    "APs": ("small", slice(None)),
    "APm": ("medium", slice(None)),
    "APl": ("large", slice(None)),
}
"""Metrics that can be bootstrapped: the size range and the IoU thresholds that each averages over."""


def average_precision(matches: Matches, weights: Weights | None = None, *, size: str = "all") -> Floats:
    """Return COCO's AP of every class at every IoU threshold under image weights.

    Args:
        matches: The run.
        weights: How many times each image is there, ``(R, I)``, one row a resample; None takes each once.
        size: One of `SIZES`.

    Returns:
        AP as a fraction, ``(C, 10, R)``; NaN where a class has no object under the weights.
    """
    if weights is None:
        weights = np.ones((1, len(matches.images)), dtype=np.uint8)
    row = SIZES.index(size)
    objects = weighted_objects(matches, row, weights)
    found = np.empty((len(matches.classes), len(IOU_THRESHOLDS), len(weights)))
    copies = int(weights.max(initial=0))
    for index in range(len(matches.classes)):
        found[index] = _Curves.of(matches, index, row, copies).average_precision(weights, objects[index])
    return found


def mean_over_classes(per_class: Floats) -> Floats:
    """Average fractions ``(C, R)`` over the classes that have objects, those that are not NaN, into points ``(R,)``."""
    there = ~np.isnan(per_class)
    counted = there.sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * np.where(there, per_class, 0).sum(0) / np.where(counted, counted, np.nan))


@dataclass(frozen=True, eq=False)
class _Curves:
    """What the ten precision-recall curves of one class depend on: U units, K steps (true at some threshold).

    A unit is an image, or one copy of an image whose tied detections have to be walked through copy by copy.

    Attributes:
        image: Image index of each unit, ``(U,)``.
        copy: For the last units, the number of the copy each stands for, from 0.
        seen: Detections counted from one step to the next, per unit, ``(K, U)``.
        steps: For each threshold, which steps are true at it.
        unit: For each threshold, the units of those steps.
        excluded: For each threshold, detections that count at other thresholds but not at it, ``(steps, U)``, or None.
    """

    image: NDArray[np.intp]
    copy: NDArray[np.intp]
    seen: Any
    steps: list[NDArray[np.intp]]
    unit: list[NDArray[np.intp]]
    excluded: list[Any]

    @classmethod
    def of(cls, matches: Matches, index: int, size: int, copies: int) -> _Curves:
        """Read one class at one size from a run, for weights of at most ``copies``."""
        part = slice(matches.first[index], matches.first[index + 1])
        ignored = bits(matches.ignored[size, part])
        true = bits(matches.matched[size, part]) & ~ignored
        order, copy = _unroll_ties(matches.score[part], matches.image[part], np.any(true, axis=1), copies)
        kept = ~np.all(ignored, axis=1)[order]
        order, copy = order[kept], copy[kept]
        image, unit = np.unique(matches.image[part][order], return_inverse=True)
        tied = np.flatnonzero(copy >= 0)
        unit[tied] = len(image) + np.arange(len(tied))
        units = np.concatenate([image, matches.image[part][order[tied]]]).astype(np.intp)

        true, ignored = true[order], ignored[order]
        step = np.flatnonzero(true.any(1))
        steps = [np.flatnonzero(column) for column in true[step].T]
        return cls(
            image=units,
            copy=copy[tied],
            seen=_between(np.arange(len(order)), step, unit, len(units)),
            steps=steps,
            unit=[unit[step[at]] for at in steps],
            excluded=[
                _between(np.flatnonzero(column), step[at], unit, len(units)) if column.any() else None
                for column, at in zip(ignored.T, steps, strict=True)
            ],
        )

    def average_precision(self, weights: Weights, objects: Floats) -> Floats:
        """Return AP at each threshold, ``(10, R)``, for weights ``(R, I)`` that leave ``objects`` to find, ``(R,)``."""
        found = np.zeros((len(self.steps), len(weights)))
        count = self.seen.shape[0]
        if count:
            width = max(4, CELLS // count)
            for start in range(0, len(weights), width):
                part = slice(start, start + width)
                found[:, part] = list(self._areas(weights[part].take(self.image, axis=1), objects[part, None]))
        found[:, objects == 0] = np.nan
        return found

    def _areas(self, weight: Weights, objects: Floats) -> Iterator[Floats]:
        plain = len(self.image) - len(self.copy)
        weight[:, plain:] = weight[:, plain:] > self.copy
        per_unit = np.ascontiguousarray(weight.T)  # (U, R)
        seen = _running(self.seen, per_unit)
        objects = np.where(objects, objects, 1)
        for steps, unit, excluded in zip(self.steps, self.unit, self.excluded, strict=True):
            true = weight.take(unit, axis=1).cumsum(axis=1, dtype=np.int32)  # (R, steps)
            counted = seen.take(steps, axis=1)
            if excluded is not None:
                counted -= _running(excluded, per_unit)
            yield _area(true, counted, objects)


def _area(true: Counts, counted: Counts, objects: Floats) -> Floats:
    """Average the interpolated precision over 101 recalls, from running sums ``(R, steps)``.

    The best precision at or after each step is a running maximum from the end. It is taken on the bits: those of
    floats that are not negative rise with their values, and integers need no wait for the floating-point unit.
    """
    precision = true / (counted + np.spacing(1))
    from_the_end = precision.view(np.int64)[:, ::-1]
    np.maximum.accumulate(from_the_end, axis=1, out=from_the_end)
    reached = _points_reached(true / objects)
    reached[:, 1:] -= reached[:, :-1].copy()
    return np.asarray(np.einsum("rs,rs->r", precision, reached) / RECALL_POINTS)


def _points_reached(recall: Floats) -> Floats:
    """Count the recalls ``0, 0.01, ..., 1`` at or below each, comparing in floating point exactly as COCO does.

    The last point at or below ``recall`` is ``floor(100 recall)``; the factor lifts exact hundredths over the rounding,
    and the comparison then decides them as COCO's ``searchsorted`` on ``linspace(0, 1, 101)`` would.
    """
    point = np.floor(recall * (100 * (1 + 1e-12)))
    point += point * RECALL_STEP <= recall
    return np.asarray(point)


def _running(between: Any, per_unit: Weights) -> Counts:
    """Sum weighted detections up to each step, ``(R, steps)``, from what `_between` counted."""
    sums = np.ascontiguousarray((between @ per_unit).T, dtype=np.int32)
    return np.cumsum(sums, axis=1, out=sums)


def _between(detections: NDArray[np.intp], step: NDArray[np.intp], unit: NDArray[np.intp], units: int) -> Any:
    """Count, per unit, the detections after one step and up to the next, ``(steps, units)``."""
    at = np.searchsorted(step, detections)
    ends = np.searchsorted(at, np.arange(len(step) + 1))
    entries = (np.ones(ends[-1], dtype=np.int32), unit[detections[: ends[-1]]], ends)
    return sparse.csr_matrix(entries, shape=(len(step), units))


def _unroll_ties(
    score: Floats, image: NDArray[np.int32], true: NDArray[np.bool_], copies: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order detections so that tied ones of one image repeat as a block, once per copy of the image.

    Two copies of an image with tied detections a and b are walked as a b a b, which weights on single detections
    (a a b b) would not give. Blocks without a true positive need no care: only their number matters.

    Returns:
        Indices of the detections in the order of the walk, and for each the copy it belongs to, -1 for all copies.
    """
    everything = np.arange(len(score))
    fresh = np.ones(len(score), dtype=bool)
    fresh[1:] = (score[1:] != score[:-1]) | (image[1:] != image[:-1])
    block = np.cumsum(fresh) - 1
    mixed = (np.bincount(block) > 1) & (np.bincount(block, weights=true) > 0)
    if copies < 2 or not mixed.any():
        return everything, np.full(len(score), -1)
    times = np.where(mixed[block], copies, 1)
    order = np.repeat(everything, times)
    copy = np.arange(len(order)) - np.repeat(np.cumsum(times) - times, times)
    walk = np.lexsort((order, copy, block[order]))
    order = order[walk]
    return order, np.where(mixed[block[order]], copy[walk], -1)


def weighted_objects(matches: Matches, row: int, weights: Weights) -> Floats:
    """Count the objects of each class under image weights, ``(C, R)``, in one row of `SIZES`."""
    shape = (len(matches.classes), len(matches.images))
    entries = (matches.objects[row].astype(np.int32), (matches.object_class, matches.object_image))
    return np.asarray(sparse.csr_matrix(entries, shape=shape) @ weights.T, dtype=np.float64)
