"""Intervals over queries: the bootstrap, and the paired bootstrap of a difference.

The spread of bootstrap means is too small by ``(n - 1) / n``, and a normal's tails are too short where the spread is
known from n queries: percentile intervals of 5 queries hold the truth in 84 % of cases in place of 95 %. So the levels
of the percentiles are moved out to ``Phi(-sqrt(n / (n - 1)) t)``, with t the quantile of Student's t at ``n - 1``. No
resample leaves the range of what was measured, and n queries lie on one side of the truth with a chance of
``2^(1 - n)``, which is over 5 % under six queries; there the interval is Student's.

Source: Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 2015 (section 5.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from attngraft.retrieve.evaluation.measures import Array

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 6
"""Queries from which on percentiles of resamples can hold the truth in 95 % of cases."""
DRAWN = 2_000_000
"""Counts that are drawn at a time, so that memory does not grow with the queries."""


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its bootstrap interval.

    Attributes:
        mean: Over the queries.
        low: Lower end of the 95 % interval.
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
    if queries < FEWEST:
        return [_of_few(column) for column in values.T]
    even = np.full(queries, 1 / queries)
    block = max(1, DRAWN // queries)
    means = np.concatenate(
        [
            random.multinomial(queries, even, size=min(block, resamples - start)) @ values / queries
            for start in range(0, resamples, block)
        ]
    )  # (resamples, columns)
    tail = _tail(queries)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return [Interval(float(m), float(a), float(b)) for m, a, b in zip(values.mean(0), low, high, strict=True)]


def _tail(queries: int) -> float:
    """Return the level of the lower percentile, by the formula of this module."""
    t = special.stdtrit(queries - 1, (1 + LEVEL) / 2)
    return float(special.ndtr(-np.sqrt(queries / (queries - 1)) * t))


def _of_few(values: Array) -> Interval:
    """Return Student's interval; of values that show no spread, all that shares and their differences can be."""
    queries, mean = len(values), float(values.mean())
    if queries < 2 or not np.ptp(values):
        return Interval(mean, mean - 1, mean + 1)
    half = float(special.stdtrit(queries - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / np.sqrt(queries))
    return Interval(mean, mean - half, mean + half)
