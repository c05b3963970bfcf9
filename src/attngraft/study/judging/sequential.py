"""Looking after every seed without paying for it in false verdicts.

A study may be looked at after each seed from the ``first`` to the ``last`` of its plan. At the look after n seeds a
test gives a p-value ``p_n``, and what counts is the smallest so far, each weighted by its share of the planned seeds:

    m_n = min_{k <= n} p_k / (k / last),        sequential p = P(m_last <= m_n) under the null

The sequential p is a p-value at whatever look a study stops, so Holm and TOST take it as any other. The null
distribution of ``m_last`` is that of the t statistics of the first, ..., last of ``last`` standard normal differences,
free of every unknown, and is drawn once per plan with a fixed seed.

Sources: Jennison and Turnbull, Group Sequential Methods, 2000, chapters 9 (repeated intervals) and 11 (t tests); Liu
and Anderson, On adaptive extensions of group sequential trials for clinical investigations, JASA 2008 (sequential p).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attngraft._core.errors import OptionError

Floats = NDArray[np.float64]

DRAWS = 200_000


@dataclass(frozen=True)
class Looks:
    """The seed counts after which a study is judged: all from ``first`` to ``last``, or the one if they are equal.

    Args:
        first: Seeds before the first look, 2 or more.
        last: Seeds at the last.

    Raises:
        OptionError: If the two are out of order or below 2.

    Example:
        >>> looks = Looks(3, 20)
        >>> looks.p_values(np.array([0.20, 0.003, 0.30])).round(3).tolist()
        [1.0, 0.044, 0.044]
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not 2 <= self.first <= self.last:
            raise OptionError(f"looks need 2 <= first <= last, got first={self.first} and last={self.last}")

    @property
    def seeds(self) -> NDArray[np.int64]:
        """The seed count of each look."""
        return np.arange(self.first, self.last + 1)

    @property
    def shares(self) -> Floats:
        """The weight of each look, its share of the planned seeds."""
        return self.seeds / self.last

    def p_values(self, p: Floats) -> Floats:
        """Turn the one-sided p-values of successive looks, ``(..., K)``, into sequential ones.

        Args:
            p: From the first look on; K may fall short of the planned looks.
        """
        if self.first == self.last:
            return p
        smallest = np.minimum.accumulate(p / self.shares[: p.shape[-1]], axis=-1)
        null = _null(self.first, self.last)
        drawn = (np.searchsorted(null, smallest, side="right") + 1) / (len(null) + 1)
        bonferroni = smallest * self.shares.sum()  # sharper in the tail that draws do not reach
        return np.asarray(np.minimum(drawn, bonferroni))

    def levels(self, alpha: float) -> Floats:
        """Return the one-sided p at each look that is worth a sequential p of ``alpha``."""
        if self.first == self.last:
            return np.array([alpha])
        null = _null(self.first, self.last)
        rank = int(alpha * (len(null) + 1)) - 2
        bonferroni = alpha / self.shares.sum()
        return np.asarray((max(null[rank], bonferroni) if rank >= 0 else bonferroni) * self.shares)


@lru_cache(maxsize=32)
def _null(first: int, last: int) -> Floats:
    """Draw the weighted smallest p of one-sided t tests at all looks, sorted; both sides of each draw are used."""
    rng = np.random.default_rng(first * 1_000_003 + last)
    shares = Looks(first, last).shares
    smallest = []
    for _ in range(10):
        mean, error, freedom = path(rng.standard_normal((DRAWS // 10, last)), first)
        below = special.stdtr(freedom, mean / error)
        smallest += [(below / shares).min(-1), ((1 - below) / shares).min(-1)]
    return np.sort(np.concatenate(smallest))


def path(differences: Floats, first: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return mean, its standard error and degrees of freedom after ``first``, ..., N of N differences, ``(..., N)``."""
    seeds = np.arange(first, differences.shape[-1] + 1)
    mean = np.cumsum(differences, -1)[..., first - 1 :] / seeds
    squares = np.cumsum(differences**2, -1)[..., first - 1 :]
    variance = np.maximum(squares - seeds * mean**2, np.finfo(float).tiny) / (seeds - 1)
    return mean, np.sqrt(variance / seeds), seeds - 1
