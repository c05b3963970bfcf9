"""Paired differences over seeds and images: estimate, interval, tests, and what a number of seeds can show.

For one arm with S seeds, ``d_s`` is its AP minus the baseline's at seed s. Their mean would be another with other
seeds, and with other validation images:

    SE^2 = s_d^2 / S + v

``s_d`` is the standard deviation of the ``d_s``. ``v`` is the variance over sets of images of the expected difference:
with ``V_m`` the bootstrap variance over images of the mean difference, and ``V_1`` the mean over seeds of that of one
difference, ``v = V_m - (V_1 - V_m) / (S - 1)``, which takes out the part that differs from seed to seed and is in
``s_d`` already. The seed part is known from S values and the image part from I effective images, so ``mean / SE`` is
judged by

    F(t) = w T_{S-1}(t) + (1 - w) T_{I-1}(t),        w = (s_d^2 / S) / SE^2

Satterthwaite's single t in its place errs up to thirteen times too often in the far tail that several arms and looks
need (3 seeds); F never errs noticeably too often. docs/method.md shows both, and what a percentile bootstrap would do.

Numbers that were rounded to a step q before they came here may all differ by the same, and then show no spread though
there is one. The rounding of two numbers alone gives their difference a variance of ``q^2 / 6``, so ``s_d^2`` is never
taken to be smaller.

Where every seed has a validation fold of its own, the images vary with the seeds and are in ``s_d``; training sets then
overlap, and ``SE^2 = s_d^2 (1 / S + n_test / n_train)``.

Sources: Holm, Scandinavian Journal of Statistics 1979; Dmitrienko et al., Statistics in Medicine 2003 (gatekeeping);
Cochran and Cox, Experimental Designs, 1957 (weighting by variance); Nadeau and Bengio, Machine Learning 2003 (folds).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attngraft.study.judging.bootstrap import Resampled

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A paired difference in AP points, and where its uncertainty comes from.

    Attributes:
        seeds: Pairs of runs S.
        difference: Their mean difference.
        seed_sd: Standard deviation of one difference over seeds, ``s_d``; NaN with one seed.
        image_sd: Standard deviation of the expected difference over sets of as many images, ``sqrt(v)``; infinite where
            nothing is known of it, for no class is on two images.
        image_freedom: Effective images less one.
        overlap: Images in a validation fold over those trained on, where every seed has a fold of its own; else 0.
    """

    seeds: int
    difference: float
    seed_sd: float
    image_sd: float
    image_freedom: float = math.inf
    overlap: float = 0.0

    @property
    def error(self) -> float:
        """Standard error SE; infinite with one seed."""
        return math.inf if self.seeds < 2 else math.hypot(math.sqrt(self._seed_variance), self.image_sd)

    @property
    def share(self) -> float:
        """Share w of the seeds in ``SE^2``; 1 where there is no error at all."""
        return self._seed_variance / self.error**2 if self.image_sd else 1.0

    @property
    def _seed_variance(self) -> float:
        return self.seed_sd**2 * (1 / self.seeds + self.overlap)

    @property
    def p_value(self) -> float:
        """Two-sided p of no difference, of a study that looks once at one arm."""
        if self.seeds < 2:
            return 1.0
        t = -abs(self.difference) / self.error if self.error else (-math.inf if self.difference else 0.0)
        return min(1.0, 2 * float(probability(np.array(t), self.seeds - 1, self.share, self.image_freedom)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval of a study that looks once."""
        if self.seeds < 2:
            return -math.inf, math.inf
        half = float(quantile((1 + level) / 2, self.seeds - 1, self.share, self.image_freedom)) * self.error
        return self.difference - half, self.difference + half


def estimate(pairs: Resampled, *, overlap: float = 0.0) -> Estimate:
    """Estimate a difference and its error from S pairs, by the formulas of this module.

    Args:
        pairs: The differences.
        overlap: As in `Estimate`; the images then have no part of their own.
    """
    seeds = len(pairs.observed)
    difference = float(pairs.observed.mean())
    if seeds < 2:
        return Estimate(seeds, difference, math.nan, math.nan, pairs.freedom, overlap)
    variance = 0.0 if overlap else image_variance(pairs)
    deviation = math.sqrt(max(float(pairs.observed.var(ddof=1)), rounding_variance(pairs.rounded)))
    return Estimate(seeds, difference, deviation, math.sqrt(variance), pairs.freedom, overlap)


def image_variance(pairs: Resampled) -> float:
    """Return ``v`` of this module from two pairs or more; infinite where one image is all that it could come from."""
    if pairs.effective == 1:
        return math.inf
    seeds = len(pairs.observed)
    of_mean = float(_variance(pairs.resampled.mean(0)))
    of_one = float(_variance(pairs.resampled).mean())
    return max(of_mean - (of_one - of_mean) / (seeds - 1), 0.0) * pairs.correction


def rounding(values: Iterable[float]) -> float:
    """Return the largest step of 1, 0.1, ... that all values are whole multiples of; 0 if it is under 1e-4.

    Args:
        values: AP points; those that are not finite say nothing.

    Example:
        >>> [rounding(values) for values in ([40.1, 40.0], [40, 41], [40.12345, 40.1], [100 * 0.507, 50.6])]
        [0.1, 1.0, 0.0, 0.1]
    """
    known = np.array([value for value in values if math.isfinite(value)])
    for digits in range(5):
        if len(known) and np.allclose(known, known.round(digits), rtol=0, atol=1e-9):
            return float(10.0**-digits)
    return 0.0


def rounding_variance(step: float) -> float:
    """Return the variance of the difference of two numbers that were rounded to a step."""
    return step**2 / 6


def _variance(values: Floats) -> Floats:
    """Return the variance along the last axis of the values that are not NaN, themselves NaN if there are under two."""
    there = ~np.isnan(values)
    count = there.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(-1) / count
        squares = np.where(there, values - np.expand_dims(mean, -1), 0) ** 2
        return np.asarray(squares.sum(-1) / np.where(count > 1, count - 1, np.nan))


def probability(
    t: NDArray[Any],
    freedom: NDArray[Any] | float,
    share: NDArray[Any] | float,
    image_freedom: NDArray[Any] | float = math.inf,
) -> Floats:
    """Return ``F(t) = w T_freedom(t) + (1 - w) T_image_freedom(t)``; infinite freedom is the normal."""
    seeds = special.stdtr(freedom, t)
    if np.all(np.asarray(share) == 1):
        return np.asarray(seeds)
    images = np.where(np.isinf(image_freedom), special.ndtr(t), special.stdtr(np.minimum(image_freedom, 1e9), t))
    return np.asarray(share * seeds + (1 - share) * images)


def quantile(
    p: NDArray[Any] | float,
    freedom: NDArray[Any] | float,
    share: NDArray[Any] | float,
    image_freedom: NDArray[Any] | float = math.inf,
) -> Floats:
    """Return the t at which `probability` is ``p``, by halving between those of its two parts.

    Example:
        >>> quantile(0.975, 4, np.array([0.0, 0.5, 1.0])).round(2).tolist()
        [1.96, 2.33, 2.78]
    """
    if np.all(np.asarray(share) == 1):
        return np.asarray(np.broadcast_arrays(special.stdtrit(freedom, p), share)[0])
    of_images = np.where(np.isinf(image_freedom), special.ndtri(p), special.stdtrit(np.minimum(image_freedom, 1e9), p))
    low, high = np.broadcast_arrays(of_images, special.stdtrit(freedom, p), share)[:2]
    low, high = np.minimum(low, high), np.maximum(low, high)
    return halve(lambda middle: probability(middle, freedom, share, image_freedom) - p, low, high)


def halve(rising: Callable[[Floats], Floats], low: Floats, high: Floats, steps: int = 50) -> Floats:
    """Find where a rising function of each element is zero, between ``low`` and ``high``."""
    for _ in range(steps):
        middle = (low + high) / 2
        beyond = rising(middle) > 0
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.asarray((low + high) / 2)


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


def gatekeep(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Adjust the p-values of m arms and of the second question that each may be asked, by Holm over both.

    An arm's second question is asked only if its first was answered, and only when both are does Holm stop counting the
    arm. So all answers share one alpha: it is the closed test in which every hypothesis that can still be rejected has
    an equal part of alpha.

    Args:
        first: Of the first questions, ``(..., m)``.
        second: Of the second; 1 where it is not asked.

    Example:
        >>> [p.tolist() for p in gatekeep(np.array([0.01, 0.03]), np.array([0.02, 1.0]))]
        [[0.02, 0.04], [0.04, 1.0]]
    """
    arms = first.shape[-1]
    both = np.sort(np.maximum(first, second), -1)
    done = np.maximum.accumulate(both * np.arange(arms, 0, -1), axis=-1)
    adjusted = [np.ones_like(first), np.ones_like(first)]
    for count in range(arms):
        needed = done[..., count - 1, None] if count else np.zeros_like(first[..., :1])
        for index, p in enumerate((first, second)):
            adjusted[index] = np.minimum(adjusted[index], np.maximum(needed, (arms - count) * p))
    return adjusted[0], np.maximum(adjusted[0], adjusted[1])


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
