"""Looking after every seed, extending a study, and looking for ever, without paying for it in false verdicts.

**Planned looks.** A study may be looked at after each seed from the ``first`` to the ``last`` of its plan. At the look
after n seeds a test gives a p-value ``p_n``, and what counts is the smallest so far, each weighted by its share of the
planned seeds:

    m_n = min_{k <= n} p_k / (k / last),        sequential p = P(m_last <= m_n) under the null

The sequential p is a p-value at whatever look a study stops, so Holm and TOST take it as any other. The null
distribution of ``m_last`` is that of the t statistics of the first, ..., last of ``last`` standard normal differences,
free of every unknown, and is drawn once per plan with a fixed seed.

**Extensions.** A plan that ends undecided may be extended, because it has kept a `RESERVE` of its alpha. The new seeds
are a stage of their own, with looks of its own, and the stages' p-values are combined by ``sum_i w_i z_i``, ``w_i^2``
being a stage's share of the planned seeds. Half of what is kept goes to the first extension, a quarter to the second,
and so on, so there may be any number.

**No plan.** `Anytime` is valid however long a study goes on: a Bayes factor of one-sided t tests, with a half-normal
prior on the effect in standard deviations, is a martingale under the null, and one over its largest value a p-value.

Sources: Jennison and Turnbull, Group Sequential Methods, 2000, chapters 9 (repeated intervals) and 11 (t tests); Liu
and Anderson, On adaptive extensions of group sequential trials for clinical investigations, JASA 2008 (sequential p);
Lehmacher and Wassmer, Adaptive sample size calculations in group sequential trials, Biometrics 1999 (combination);
Wang and Ramdas, Anytime-valid t-tests and confidence sequences, Sequential Analysis 2025 (e-processes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attngraft._core.errors import OptionError
from attngraft.study.judging import learning

Floats = NDArray[np.float64]

DRAWS = 200_000

RESERVE = 0.1
"""Share of a plan's alpha that is kept for extensions of it."""

GRID = 400
"""Points on which the sum of stages is followed."""


class Rule(Protocol):
    """What turns the p-values of successive looks into ones that hold wherever a study stops."""

    @property
    def first(self) -> int:
        """Seeds before the first look."""

    def p_values(self, p: Floats, freedom: NDArray[Any]) -> Floats:
        """Turn one-sided p-values of t tests, ``(..., K)``, into sequential ones."""

    def more_often(self, arm: NDArray[Any], baseline: NDArray[Any], both: NDArray[Any], seeds: NDArray[Any]) -> Floats:
        """Return the sequential p against an arm that learns no more often than the baseline.

        Args:
            arm: Runs of the arm that learned, of the first ``seeds``, ``(..., K)``.
            baseline: The same of the baseline.
            both: Pairs in which both did.
            seeds: Seeds at each look, ``(..., K)``.
        """


@dataclass(frozen=True)
class Looks:
    """The seed counts after which a study is judged: all from ``first`` to ``last``, or the one if they are equal.

    Args:
        first: Seeds before the first look, 2 or more.
        last: Seeds at the last.
        reserve: Share of alpha that is kept for extensions.

    Raises:
        OptionError: If the two are out of order or below 2.

    Example:
        >>> looks = Looks(3, 20)
        >>> looks.p_values(np.array([0.20, 0.003, 0.30])).round(3).tolist()
        [1.0, 0.044, 0.044]
    """

    first: int
    last: int
    reserve: float = 0.0

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

    def p_values(self, p: Floats, freedom: NDArray[Any] | None = None) -> Floats:
        """Turn the one-sided p-values of successive looks, ``(..., K)``, into sequential ones.

        Args:
            p: From the first look on; K may fall short of the planned looks.
            freedom: Not needed by this rule.
        """
        if self.first == self.last:
            return np.minimum(p / (1 - self.reserve), 1)
        smallest = np.minimum.accumulate(p / self.shares[: p.shape[-1]], axis=-1)
        null = _null(self.first, self.last)
        drawn = (np.searchsorted(null, smallest, side="right") + 1) / (len(null) + 1)
        bonferroni = smallest * self.shares.sum()  # sharper in the tail that draws do not reach
        return np.minimum(np.minimum(drawn, bonferroni) / (1 - self.reserve), 1)

    def more_often(self, arm: NDArray[Any], baseline: NDArray[Any], both: NDArray[Any], seeds: NDArray[Any]) -> Floats:
        """Return the sequential p against an arm that learns no more often than the baseline; see `Rule`."""
        p = (
            learning.more_often(arm, baseline, seeds, self.last)
            if self.first < self.last
            else learning.more_often_once(arm, baseline, seeds)
        )
        return np.minimum(p / (1 - self.reserve), 1)

    def levels(self, alpha: float) -> Floats:
        """Return the one-sided p at each look that is worth a sequential p of ``alpha``."""
        alpha = alpha * (1 - self.reserve)
        if self.first == self.last:
            return np.array([alpha])
        null = _null(self.first, self.last)
        rank = int(alpha * (len(null) + 1)) - 2
        bonferroni = alpha / self.shares.sum()
        return np.asarray((max(null[rank], bonferroni) if rank >= 0 else bonferroni) * self.shares)


@dataclass(frozen=True)
class Anytime:
    """Looks after every seed from ``first`` on, without a last one.

    Args:
        first: Seeds before the first look, 2 or more.
        effect: Standard deviation of the prior on the effect, in standard deviations of a paired difference.
    """

    first: int = 3
    effect: float = 1.0

    reserve: ClassVar[float] = 0.0

    def p_values(self, p: Floats, freedom: NDArray[Any]) -> Floats:
        """Turn one-sided p-values of t tests with ``freedom``, ``(..., K)``, into one over the largest Bayes factor."""
        t = -special.stdtrit(freedom, np.clip(p, 1e-15, 1 - 1e-15))
        largest = np.maximum.accumulate(np.where(p >= 1, 0.0, bayes_factor(t, freedom + 1, self.effect)), axis=-1)
        return np.asarray(1 / np.maximum(largest, 1))

    def more_often(self, arm: NDArray[Any], baseline: NDArray[Any], both: NDArray[Any], seeds: NDArray[Any]) -> Floats:
        """Return the same for learning more often, from the pairs in which one alone learned; see `Rule`."""
        factor = np.where(seeds >= learning.FIRST_LOOK, _discordant_factor(arm - both, baseline - both), 0)
        return np.asarray(1 / np.maximum(np.maximum.accumulate(factor, axis=-1), 1))


def _discordant_factor(mine: NDArray[Any], theirs: NDArray[Any]) -> Floats:
    """Integrate the likelihood ratio of ``mine`` of ``mine + theirs`` over rates above a half, against a half."""
    above = special.betaincc(mine + 1, theirs + 1, 0.5)
    return np.asarray(np.exp((mine + theirs + 1) * np.log(2) + special.betaln(mine + 1, theirs + 1)) * above)


def bayes_factor(t: Floats, seeds: NDArray[Any], effect: float) -> Floats:
    """Return the Bayes factor of a positive effect against none, from a t statistic of n differences.

    The effect in standard deviations is half-normal with scale ``effect``; the standard deviation itself has the prior
    that makes the factor depend on t alone.
    """
    freedom, spread = seeds - 1, 1 + seeds * effect**2
    shrunk = freedom + t**2 / spread
    both_sides = np.exp(0.5 * seeds * (np.log(freedom + t**2) - np.log(shrunk)) - 0.5 * np.log(spread))
    return np.asarray(2 * both_sides * special.stdtr(seeds, t * seeds * effect / np.sqrt(spread * shrunk)))


def combine(stages: Sequence[Floats], planned: Sequence[int], correlation: Floats | float = 0.0) -> Floats:
    """Combine the one-sided p-values of a plan and its extensions into one that holds wherever the study stops.

    Args:
        stages: Sequential p of each stage, the first without its reserve; of equal shapes.
        planned: Seeds that each stage planned, for its weight.
        correlation: Of the stages' statistics, from what they share: the images.

    Returns:
        Smallest alpha at which any stage so far would have rejected.
    """
    weights = np.sqrt(np.array(planned) / np.sum(planned))
    z = [special.ndtri(1 - np.clip(p, 1e-15, 1 - 1e-15)) for p in stages]
    found = stages[0] / (1 - RESERVE)
    for stage in range(1, len(stages)):
        part = weights[: stage + 1] / np.sqrt((weights[: stage + 1] ** 2).sum())
        spread = np.sqrt(1 + correlation * (part.sum() ** 2 - 1))
        both = sum(w * value for w, value in zip(part, z, strict=False)) / spread
        limits, alphas = _alphas(tuple(planned[: stage + 1]))
        log_alpha = np.interp(special.log_ndtr(-both), limits, alphas)
        found = np.minimum(found, np.exp(log_alpha))
    return np.minimum(found, 1)


@lru_cache(maxsize=32)
def _alphas(planned: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Tabulate, as logarithms, the combined p at which the last of some stages rejects, over alpha; both rising."""
    alphas = np.concatenate([np.geomspace(1e-8, 0.2, 80), [0.3, 0.5, 0.7, 0.9, 0.999]])
    limits = np.array([bounds(alpha, planned)[-1] for alpha in alphas])
    return np.maximum.accumulate(special.log_ndtr(-limits)), np.log(alphas)


def bounds(alpha: float, planned: tuple[int, ...]) -> list[float]:
    """Return the z at which each stage rejects; up to the j-th extension all of alpha is spent but ``RESERVE / 2^j``.

    The sum of ``sqrt(n_i) z_i`` is followed from stage to stage on a grid of what has not rejected yet (Armitage,
    McPherson and Rowe, JRSS A 1969).
    """
    found = [float(-special.ndtri(alpha * (1 - RESERVE)))]
    scale = np.sqrt(planned[0])
    grid = np.linspace(-9, found[0], GRID) * scale
    density = np.exp(-0.5 * (grid / scale) ** 2) / np.sqrt(2 * np.pi) / scale
    for stage in range(1, len(planned)):
        step, total = np.sqrt(planned[stage]), np.sqrt(sum(planned[: stage + 1]))
        weight = density * np.gradient(grid)
        weight[[0, -1]] /= 2
        spent = alpha * RESERVE * (0.5 ** (stage - 1) - 0.5**stage)
        low, high = -9.0, 12.0
        for _ in range(60):
            middle = (low + high) / 2
            rejects = float((weight * special.ndtr((grid - middle * total) / step)).sum())
            low, high = (low, middle) if rejects < spent else (middle, high)
        found.append(high)
        after = np.linspace(-9, high, GRID) * total
        kernel = np.exp(-0.5 * ((after[:, None] - grid) / step) ** 2) / np.sqrt(2 * np.pi) / step
        grid, density = after, kernel @ weight
    return found


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
