"""What a study can be judged by: COCO's AP and AR, those of one class, F1 at a stated confidence, and weighted means.

    AP  AP50  AP75  APs  APm  APl         COCO's, over the classes that have objects
    AR1 AR10 AR100  ARs  ARm  ARl         COCO's: recall with so many detections per image and class
    F1@0.25                               at IoU 0.5, of the detections from a confidence of 0.25; mean over classes
    AP/cat  AR100/cat  F1@0.25/cat        of one class
    0.7*AP/cat + 0.3*AP/dog               a weighted mean

All are in points (0 to 100) and defined under image weights, so all can be bootstrapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from attngraft._core.errors import DataError, OptionError, UnknownNameError, suggest
from attngraft.coco.average_precision import (
    METRICS,
    Floats,
    Weights,
    average_precision,
    mean_over_classes,
    weighted_objects,
)
from attngraft.coco.matches import IOU_THRESHOLDS, MAX_DETECTIONS, SIZES, Matches, bits

RECALLS = {
    "AR1": ("all", 1),
    "AR10": ("all", 10),
    "AR100": ("all", MAX_DETECTIONS),
    "ARs": ("small", MAX_DETECTIONS),
    "ARm": ("medium", MAX_DETECTIONS),
    "ARl": ("large", MAX_DETECTIONS),
}
"""COCO's recalls: the size range, and the most detections per image and class."""

F1 = re.compile(r"F1@(0?\.\d+)")
WEIGHTED = re.compile(r"(\d+(?:\.\d+)?)\s*\*\s*(.+)")


@dataclass(frozen=True)
class Term:
    """One metric of a weighted mean.

    Attributes:
        weight: Its share, before they are made to sum to 1.
        name: One of `METRICS` or `RECALLS`, or ``F1@CONFIDENCE``.
        of: The class; None is the mean over those that have objects.
    """

    weight: float
    name: str
    of: str | None


@lru_cache(maxsize=64)
def parse_metric(text: str) -> tuple[Term, ...]:
    """Read a metric.

    Raises:
        UnknownNameError: If there is none of that name.
        OptionError: If it names no class after ``/``, or its weights are all 0.

    Example:
        >>> parse_metric("2*AP/cat + 1*F1@0.25")
        (Term(weight=2.0, name='AP', of='cat'), Term(weight=1.0, name='F1@0.25', of=None))
    """
    terms = tuple(_term(text, part.strip()) for part in re.split(r"\s+\+\s+", text))
    if not sum(term.weight for term in terms) > 0:
        raise OptionError(f"the metric {text!r} needs a weight above 0")
    return terms


def is_metric(text: str) -> bool:
    """Tell whether there is such a metric.

    Example:
        >>> is_metric("AP/cat"), is_metric("top1")
        (True, False)
    """
    try:
        return bool(parse_metric(text))
    except (OptionError, UnknownNameError):
        return False


def _term(text: str, part: str) -> Term:
    match = WEIGHTED.fullmatch(part)
    weight, rest = (float(match[1]), match[2]) if match else (1.0, part)
    name, slash, of = rest.partition("/")
    if name not in METRICS and name not in RECALLS and not F1.fullmatch(name):
        raise UnknownNameError("metric", name, [*METRICS, *RECALLS, "F1@0.25"])
    if slash and not of:
        raise OptionError(f"the metric {text!r} names no class after /, as in AP/cat")
    return Term(weight, name, of or None)


def metric_values(matches: Matches, metric: str, weights: Weights | None = None) -> Floats:
    """Return a metric under each row of image weights, in points, ``(R,)``; NaN where it has no object.

    Args:
        matches: The run.
        metric: What `parse_metric` reads.
        weights: How many times each image is there, ``(R, I)``; None takes each once.

    Raises:
        DataError: If it is of a class that the ground truth lacks.
        UnknownNameError: If there is no such metric.

    Example:
        The mean of two classes is their weighted mean:

        ``metric_values(run, "1*AP/cat + 1*AP/dog")`` equals ``metric_values(run, "AP")`` where there are no others.
    """
    terms = parse_metric(metric)
    total = sum(term.weight for term in terms)
    known: dict[str, Floats] = {}
    values = []
    for term in terms:
        if term.name not in known:
            known[term.name] = _fractions(matches, term.name, weights)
        values.append(term.weight / total * _of(matches, known[term.name], term.of))
    return np.asarray(np.sum(values, axis=0))


def _fractions(matches: Matches, name: str, weights: Weights | None) -> Floats:
    if name in METRICS:
        size, thresholds = METRICS[name]
        return np.asarray(average_precision(matches, weights, size=size)[:, thresholds].mean(1))
    if weights is None:
        weights = np.ones((1, len(matches.images)), dtype=np.uint8)
    if name in RECALLS:
        size, most = RECALLS[name]
        row = SIZES.index(size)
        true = _true(matches, row) & (matches.rank < most)[:, None]
        found = _per_class_sums(matches, weights, true.sum(1) / len(IOU_THRESHOLDS))
        return _share(found, weighted_objects(matches, row, weights))
    match = F1.fullmatch(name)
    assert match is not None  # `parse_metric` said so
    sure = matches.score >= float(match[1])
    true = _true(matches, 0)[:, 0] & sure
    false = ~_true(matches, 0)[:, 0] & ~bits(matches.ignored[0])[:, 0] & sure
    right, wrong = (_per_class_sums(matches, weights, part.astype(np.float64)) for part in (true, false))
    objects = weighted_objects(matches, 0, weights)
    return np.where(objects > 0, 2 * right / np.maximum(right + wrong + objects, 1), np.nan)


def metric_sizes(metric: str) -> set[str]:
    """Return the size ranges that a metric is of, some of `SIZES`."""
    return {(METRICS | RECALLS).get(term.name, ("all",))[0] for term in parse_metric(metric)}


def needed_classes(metric: str) -> list[str]:
    """List the classes that a metric names."""
    return [term.of for term in parse_metric(metric) if term.of is not None]


def require_classes(metric: str, classes: Iterable[str]) -> None:
    """Require the classes that a metric names.

    Raises:
        DataError: If one is missing; names the nearest.
    """
    known = list(classes)
    for name in needed_classes(metric):
        if name not in known:
            raise DataError(f"the metric {metric!r} is of the class {name!r}; {suggest(name, known)}")


def _of(matches: Matches, values: Floats, name: str | None) -> Floats:
    """Return the row of a class, or the mean over the classes that have objects, in points."""
    if name is not None:
        require_classes(f"AP/{name}", matches.classes.tolist())
        return np.asarray(100 * values[matches.classes.tolist().index(name)])
    return mean_over_classes(values)


def _true(matches: Matches, row: int) -> Any:
    return bits(matches.matched[row]) & ~bits(matches.ignored[row])


def _per_class_sums(matches: Matches, weights: Weights, amount: Floats) -> Floats:
    """Sum an amount of every detection over images that count so many times, ``(C, R)``."""
    of = np.repeat(np.arange(len(matches.classes)), np.diff(matches.first))
    shape = (len(matches.classes), len(matches.images))
    return np.asarray(sparse.csr_matrix((amount, (of, matches.image)), shape=shape) @ weights.T, dtype=np.float64)


def _share(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
