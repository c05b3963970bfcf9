"""Intervals over queries: the bootstrap, and the paired bootstrap of a difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attngraft.retrieve.evaluation.measures import Array

RESAMPLES = 10_000
LEVEL = 0.95
DRAWN = 2_000_000
"""Counts that are drawn at a time, so that memory does not grow with the queries."""


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its bootstrap interval.

    Attributes:
        mean: Over the queries.
        low: Lower end of the 95 % percentile interval; the mean itself where there is one query.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def intervals(values: Array, *, seed: int = 0, resamples: int = RESAMPLES) -> list[Interval]:
    """Return the mean of each column and its interval; the queries of a resample are the same for all columns.

    A difference of two rows of the same queries as a column makes the interval a paired one.

    Args:
        values: One row for each query.
        seed: Of the resamples.
        resamples: How many.

    Shape:
        ``values``: ``(queries, columns)``.
    """
    queries, random = len(values), np.random.default_rng(seed)
    even = np.full(queries, 1 / queries)
    block = max(1, DRAWN // queries)
    means = np.concatenate(
        [
            random.multinomial(queries, even, size=min(block, resamples - start)) @ values / queries
            for start in range(0, resamples, block)
        ]
    )  # (resamples, columns)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [Interval(float(m), float(a), float(b)) for m, a, b in zip(values.mean(0), low, high, strict=True)]
