"""Paired differences over seeds and images: estimate, interval, tests, and decisions look by look.

For one arm with S seeds, ``d_s`` is its AP minus the stock model's at seed s. Their mean would be another with other
seeds, and with other validation images:

    SE^2 = s_d^2 / S + v

``s_d`` is the standard deviation of the ``d_s``. ``v`` is the variance over sets of images of the expected difference:
with ``V_m`` the bootstrap variance over images of the mean difference, and ``V_1`` the mean over seeds of that of one
difference, ``v = V_m - (V_1 - V_m) / (S - 1)``, which takes out the part that differs from seed to seed and is in
``s_d`` already. The seed part is known from S values and the image part from many, so ``mean / SE`` is judged by

    F(t) = w T_{S-1}(t) + (1 - w) Phi(t),        w = (s_d^2 / S) / SE^2

Satterthwaite's single t in its place errs up to thirteen times too often in the far tail that several arms and looks
need (3 seeds); F never errs noticeably too often. docs/method.md shows both, and what a percentile bootstrap would do.

Sources: Holm, Scandinavian Journal of Statistics 1979; Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics
1987 (two one-sided tests); Cochran and Cox, Experimental Designs, 1957 (weighting by variance); Chuang and Lai, Hybrid
resampling methods for confidence intervals, Statistica Sinica 2000 (intervals after looks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attngraft.study.judging.bootstrap import Resampled
from attngraft.study.judging.sequential import Floats, Looks, path

Outcome = Literal["undecided", "better", "worse", "no difference"]

OUTCOMES: tuple[Outcome, ...] = ("undecided", "better", "worse", "no difference")
"""By the numbers that `decide` gives them."""

DRAWS = 2000
"""Simulated courses of a study behind an interval after looks."""


@dataclass(frozen=True)
class Estimate:
    """A paired difference in AP points, and where its uncertainty comes from.

    Attributes:
        seeds: Pairs of runs S.
        difference: Their mean difference.
        seed_sd: Standard deviation of one difference over seeds, ``s_d``; NaN with one seed.
        image_sd: Standard deviation of the expected difference over sets of as many images, ``sqrt(v)``.
    """

    seeds: int
    difference: float
    seed_sd: float
    image_sd: float

    @property
    def error(self) -> float:
        """Standard error SE; infinite with one seed."""
        return math.inf if self.seeds < 2 else math.hypot(self.seed_sd / math.sqrt(self.seeds), self.image_sd)

    @property
    def share(self) -> float:
        """Share w of the seeds in ``SE^2``; 1 where there is no error at all."""
        return self.seed_sd**2 / self.seeds / self.error**2 if self.image_sd else 1.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval of a study that looks once."""
        if self.seeds < 2:
            return -math.inf, math.inf
        half = float(quantile((1 + level) / 2, self.seeds - 1, self.share)) * self.error
        return self.difference - half, self.difference + half


def estimate(pairs: Resampled) -> Estimate:
    """Estimate a difference and its error from S pairs, by the formulas of this module."""
    seeds = len(pairs.observed)
    difference = float(pairs.observed.mean())
    if seeds < 2:
        return Estimate(seeds, difference, math.nan, math.nan)
    of_mean = float(_variance(pairs.resampled.mean(0)))
    of_one = float(_variance(pairs.resampled).mean())
    image_variance = max(of_mean - (of_one - of_mean) / (seeds - 1), 0.0)
    return Estimate(seeds, difference, float(pairs.observed.std(ddof=1)), math.sqrt(image_variance))


def _variance(values: Floats) -> Floats:
    """Return the variance along the last axis of the values that are not NaN, themselves NaN if there are under two."""
    there = ~np.isnan(values)
    count = there.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(-1) / count
        squares = np.where(there, values - np.expand_dims(mean, -1), 0) ** 2
        return np.asarray(squares.sum(-1) / np.where(count > 1, count - 1, np.nan))


def probability(t: NDArray[Any], freedom: NDArray[Any] | float, share: NDArray[Any] | float) -> Floats:
    """Return ``F(t) = w T_freedom(t) + (1 - w) Phi(t)``."""
    return np.asarray(share * special.stdtr(freedom, t) + (1 - share) * special.ndtr(t))


def quantile(p: NDArray[Any] | float, freedom: NDArray[Any] | float, share: NDArray[Any] | float) -> Floats:
    """Return the t at which `probability` is ``p``, by halving between those of its two parts.

    Example:
        >>> quantile(0.975, 4, np.array([0.0, 0.5, 1.0])).round(2).tolist()
        [1.96, 2.33, 2.78]
    """
    low, high = np.broadcast_arrays(special.ndtri(p), special.stdtrit(freedom, p), share)[:2]
    for _ in range(40):
        middle = (low + high) / 2
        beyond = (probability(middle, freedom, share) - p) * (high - low) > 0
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.asarray((low + high) / 2)


@dataclass(frozen=True, eq=False)
class Course:
    """Estimates of arms look after look, of one study or of many simulated ones at once; NaN where no seeds were run.

    Attributes:
        mean: Mean differences, ``(..., arms, K)``.
        error: Their standard errors.
        freedom: Degrees of freedom of the seed part, ``S - 1``.
        share: Its share w.
    """

    mean: Floats
    error: Floats
    freedom: Floats
    share: Floats

    def p_values(self, bound: float, sign: int) -> Floats:
        """Return the one-sided p against ``sign * difference <= bound``."""
        gap = bound - sign * self.mean
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where((gap == 0) & (self.error == 0), 0, gap / self.error)
        return np.where(np.isnan(self.mean), 1, probability(t, self.freedom, self.share))


@dataclass(frozen=True, eq=False)
class Decision:
    """Verdicts on arms, of one study or of many simulated ones at once.

    Attributes:
        outcome: Index into `OUTCOMES`, ``(..., arms)``.
        look: Index of the look at which it fell, or of the last.
        p_difference: Of no difference, two-sided, after looks and Holm.
        p_equivalence: Of a difference of SESOI or more, after looks.
    """

    outcome: NDArray[np.int64]
    look: NDArray[np.int64]
    p_difference: Floats
    p_equivalence: Floats


def decide(course: Course, looks: Looks, *, sesoi: float, alpha: float) -> Decision:
    """Judge arms look by look; an arm with a verdict is looked at no more.

    A difference shown and equivalence shown at once is `no difference`: it is there, and not worth having.

    Args:
        course: Estimates at the K looks taken.
        looks: The planned looks, of which those are the first.
        sesoi: Smallest effect worth having.
        alpha: Family-wise error over the arms of `better` and `worse`; error of each `no difference`.
    """
    above, below = (looks.p_values(course.p_values(0, sign)) for sign in (1, -1))
    difference = np.minimum(2 * np.minimum(above, below), 1)
    direction = np.where(above < below, OUTCOMES.index("better"), OUTCOMES.index("worse"))
    equivalence = np.maximum(*(looks.p_values(course.p_values(-sesoi, sign)) for sign in (1, -1)))

    outcome = np.zeros(course.mean.shape[:-1], dtype=np.int64)
    look, p_difference, p_equivalence = np.zeros_like(outcome), np.ones(outcome.shape), np.ones(outcome.shape)
    for k in range(course.mean.shape[-1]):
        waiting = outcome == 0
        look[waiting] = k
        p_difference = np.where(waiting, difference[..., k], p_difference)
        p_equivalence = np.where(waiting, equivalence[..., k], p_equivalence)
        now = np.where(holm(p_difference) <= alpha, direction[..., k], 0)
        now = np.where(p_equivalence <= alpha, OUTCOMES.index("no difference"), now)
        outcome = np.where(waiting, now, outcome)
    return Decision(outcome, look, holm(p_difference), p_equivalence)


def holm(p: Floats) -> Floats:
    """Adjust p-values for the number of arms, the last axis: ``max_{j<=i} min(1, (m - j) p_(j))`` over the sorted ones.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, axis=-1)
    rising = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    rising = np.minimum(np.maximum.accumulate(rising, axis=-1), 1)
    adjusted = np.empty_like(rising)
    np.put_along_axis(adjusted, order, rising, -1)
    return adjusted


def interval_after_looks(
    now: Estimate, looks: Looks, *, sesoi: float, alpha: float = 0.05, arms: int = 1
) -> tuple[float, float]:
    """Return the two-sided interval of an arm whose study might have stopped before ``now``.

    Stopping at a lucky look makes the plain interval miss too often. So each difference is tried: if it were the true
    one, where in 2000 simulated courses of the study, stopped by the same rule, would the estimate stand? The interval
    holds those under which the estimate is not in the outer ``alpha``. The courses vary by the estimated deviations.

    Args:
        now: The estimate at the arm's last look.
        looks: The planned looks.
        sesoi: As in `decide`.
        alpha: One minus the confidence, and the error of the stopping rule.
        arms: Arms in the study.
    """
    plain = now.interval(1 - alpha)
    if looks.first == looks.last or now.seeds <= looks.first or not 0 < now.error < math.inf:
        return plain
    mean, error, freedom, image = _standard_courses(looks.first, now.seeds)
    mean = mean * now.seed_sd + image * now.image_sd  # (draws, K)
    seed_variance = (error * now.seed_sd) ** 2
    error = np.sqrt(seed_variance + now.image_sd**2)
    share = seed_variance / error**2
    standing = probability(mean / error, freedom, share)
    reach_different, reach_equal = (
        error * _critical(looks.levels(level)[: len(freedom)], freedom, share) for level in (alpha / (2 * arms), alpha)
    )
    tried = now.difference + np.linspace(-2, 2, 25) * (plain[1] - plain[0]) / 2
    at = probability((now.difference - tried) / now.error, now.seeds - 1, now.share)
    over, under = np.empty(len(tried)), np.empty(len(tried))
    for index, true in enumerate(tried):
        seen = mean + true
        below = np.logical_or.accumulate(seen + reach_equal < sesoi, axis=1)
        above = np.logical_or.accumulate(seen - reach_equal > -sesoi, axis=1)
        stop = (below & above) | (abs(seen) > reach_different)
        stop[:, -1] = True
        stood = standing[np.arange(len(stop)), stop.argmax(1)]
        low, high = np.quantile(stood, (alpha / 2, 1 - alpha / 2))
        over[index], under[index] = high - at[index], at[index] - low
    return _crossing(tried, over), -_crossing(-tried[::-1], under[::-1])


@lru_cache(maxsize=32)
def _standard_courses(first: int, seeds: int) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """Draw courses of a study with standard normal differences, and a standard normal effect of its images."""
    rng = np.random.default_rng(first * 1_000_003 + seeds)
    return *path(rng.standard_normal((DRAWS, seeds)), first), rng.standard_normal((DRAWS, 1))


def _critical(levels: Floats, freedom: NDArray[np.int64], share: Floats) -> Floats:
    """Return the t of one-sided ``levels`` at each look for many shares, ``(draws, K)``, by lines between 17 shares."""
    grid = np.linspace(0, 1, 17)
    at_grid = quantile(1 - levels, freedom, grid[:, None])  # (17, K)
    return np.stack([np.interp(share[:, k], grid, at_grid[:, k]) for k in range(len(freedom))], 1)


def _crossing(at: Floats, value: Floats) -> float:
    """Return where ``value``, rising along ``at``, first reaches zero, by straight lines between the points."""
    index = int(np.argmax(value >= 0))
    if index == 0:
        return float(at[0])
    return float(np.interp(0, value[index - 1 : index + 1], at[index - 1 : index + 1]))


def power(effect: float, sd: float, seeds: int, alpha: float = 0.05) -> float:
    """Return the power of a two-sided paired t test on differences of standard deviation ``sd``.

    Example:
        >>> round(power(0.3, 0.3 * 2**0.5, 18), 2)
        0.81
    """
    shift = min(abs(effect) / (sd / math.sqrt(seeds)), 30.0)  # beyond it the power is 1 and the function gives up
    critical = special.stdtrit(seeds - 1, 1 - alpha / 2)
    return float(1 - special.nctdtr(seeds - 1, shift, critical) + special.nctdtr(seeds - 1, shift, -critical))


def seeds_for(effect: float, sd: float, *, target: float = 0.8, alpha: float = 0.05) -> int:
    """Return the fewest seeds that give a paired t test such power, images taken as given.

    Args:
        effect: True difference.
        sd: Standard deviation of one paired difference: ``sqrt(2)`` times that of one run, if pairing gains nothing.
        target: The power.
        alpha: Two-sided error.

    Example:
        >>> [[seeds_for(effect, sd * 2**0.5) for effect in (0.3, 0.5, 1.0)] for sd in (0.2, 0.3, 0.5)]
        [[10, 5, 3], [18, 8, 4], [46, 18, 7]]
    """
    return next(seeds for seeds in range(2, 1_000_000) if power(effect, sd, seeds, alpha) >= target)
