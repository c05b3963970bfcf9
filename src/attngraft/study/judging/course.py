"""What is known of every arm at every look: moments of paired differences, and which runs learned.

Everything here has leading axes for studies, so that one study and twenty thousand simulated ones are judged by the
same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft.study.judging.learning import FIRST_LOOK, Bools, Floats, apart, learned
from attngraft.study.judging.statistics import probability, rounding_variance

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Runs of A arms and of what they are compared with, paired in the order in which they were attempted.

    Attributes:
        arm: AP points of each arm's runs, ``(..., A, S)``; NaN where an arm has no further pair.
        baseline: Of what each is compared with, ``(..., A, S)``, or ``(..., 1, S)`` if all have the same.
        image_variance: Variance over sets of images after 1, ..., S pairs, ``(..., A, S)``, or a number.
        image_freedom: Effective images less one, a number or ``(..., A)``.
        others: Runs of the study's other series, ``(..., M, S)``, by which runs that did not learn are found too.
        overlap: Images in a validation fold over those trained on, where every seed has a fold of its own; else 0.
        rounded: The step that the runs' AP points were rounded to; 0 where they were not.
        floor: Whether 0 may be what a run scores that learned nothing.
    """

    arm: Floats
    baseline: Floats
    image_variance: Floats | float = 0.0
    image_freedom: Floats | float = np.inf
    others: Floats | None = None
    overlap: float = 0.0
    rounded: float = 0.0
    floor: bool = True


@dataclass(frozen=True, eq=False)
class Moments:
    """Estimates at K looks, each ``(..., A, K)``; NaN where there is none.

    Attributes:
        mean: Mean differences.
        error: Their standard errors.
        freedom: Degrees of freedom of the seed part, one less than the pairs.
        share: Its share of the squared error.
        image_freedom: Degrees of freedom of the image part.
    """

    mean: Floats
    error: Floats
    freedom: Floats
    share: Floats
    image_freedom: Floats

    def p_values(self, bound: Floats | float, sign: int) -> Floats:
        """Return the one-sided p against ``sign * difference <= bound``; 1 where there is no estimate."""
        gap = bound - sign * self.mean
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where((gap == 0) & (self.error == 0), 0, gap / self.error)
        there = ~np.isnan(self.mean) & (self.freedom >= 1)
        freedom = np.where(there, self.freedom, 1)
        return np.where(there, probability(np.where(there, t, 0), freedom, self.share, self.image_freedom), 1)


@dataclass(frozen=True, eq=False)
class Course:
    """What is known at K looks; arrays are ``(..., A, K)``.

    Attributes:
        seeds: Pairs at each look.
        every: Of all pairs.
        among: Of the pairs in which both runs learned.
        arm: Runs of the arm that learned.
        baseline: The same of what it is compared with.
        both: Pairs in which both did.
        clean: Whether all of these did.
        is_open: Whether this is a look: where any run of the study did not learn, or an arm is so far from its baseline
            that none of either may have, only from `FIRST_LOOK` seeds.
        level: Mean of what it is compared with, above 0; infinite where 0 is no floor.
        first: Pairs of this stage at its first look.
    """

    seeds: Counts
    every: Moments
    among: Moments
    arm: Counts
    baseline: Counts
    both: Counts
    clean: Bools
    is_open: Bools
    level: Floats
    first: int = 0


def course(pairs: Pairs, counts: Sequence[int], *, sesoi: float, start: int = 0) -> Course:
    """Estimate at several looks.

    Args:
        pairs: The runs.
        counts: Pairs at each look; an arm that has fewer is not looked at, save at a single look.
        sesoi: Smallest effect worth having.
        start: Pairs that belong to an earlier stage; they count only in finding runs that did not learn.
    """
    looks = [_look(pairs, count, start, sesoi, whole=len(counts) > 1) for count in counts]
    return replace(joined(looks, np.stack), first=counts[0] - start)


def _look(pairs: Pairs, count: int, start: int, sesoi: float, *, whole: bool) -> Course:
    arm = pairs.arm[..., :count]
    baseline = np.broadcast_to(pairs.baseline[..., :count], arm.shape)
    there = ~np.isnan(arm) & ~np.isnan(baseline)
    arm_learned, baseline_learned, all_learned = _which_learned(pairs, count, sesoi)
    both = arm_learned & baseline_learned
    seeds = there.sum(-1)
    taken = (seeds == count) | (not whole)
    clean = np.asarray((both | ~there).all(-1))
    part = slice(start, None)
    variance = _at(pairs.image_variance, seeds, arm.shape)
    freedom = np.broadcast_to(pairs.image_freedom, seeds.shape)
    differences, now = (arm - baseline)[..., part], (there & both)[..., part]
    every = _moments(differences, there[..., part], variance, freedom, pairs)
    among = _among(every, ~clean & taken, differences, now, variance, freedom, pairs)
    return Course(
        seeds=seeds,
        every=every,
        among=among,
        arm=(there & arm_learned)[..., part].sum(-1),
        baseline=(there & baseline_learned)[..., part].sum(-1),
        both=(there & both)[..., part].sum(-1),
        clean=clean,
        is_open=taken & ((all_learned[..., None] & ~apart(arm, baseline, sesoi)) | (seeds >= FIRST_LOOK)),
        level=np.where(there, baseline if pairs.floor else np.inf, 0).sum(-1) / np.maximum(seeds, 1),
    )


def _which_learned(pairs: Pairs, count: int, sesoi: float) -> tuple[Bools, Bools, Bools]:
    """Say it of the arms, of what they are compared with, and whether it is all of the study's runs."""
    series = [pairs.arm[..., :count], pairs.baseline[..., :count]]
    if pairs.others is not None:
        series.append(pairs.others[..., :count])
    found = learned(np.concatenate(series, -2), sesoi, floor=pairs.floor)
    arms = pairs.arm.shape[-2]
    ends = arms + pairs.baseline.shape[-2]
    return found[..., :arms, :], found[..., arms:ends, :], np.asarray(found.all((-1, -2)))


def _at(variance: Floats | float, seeds: Counts, shape: tuple[int, ...]) -> Floats:
    """Return the image variance after as many pairs as each arm has."""
    if np.ndim(variance) == 0:
        return np.broadcast_to(np.asarray(variance, dtype=float), seeds.shape)
    full = np.broadcast_to(np.asarray(variance), (*shape[:-1], np.shape(variance)[-1]))
    return np.asarray(np.take_along_axis(full, np.maximum(seeds - 1, 0)[..., None], -1)[..., 0])


def _moments(differences: Floats, there: Bools, image: Floats, image_freedom: Floats, pairs: Pairs) -> Moments:
    count = there.sum(-1)
    mean = np.where(there, differences, 0).sum(-1) / np.maximum(count, 1)
    squares = np.where(there, differences - mean[..., None], 0) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.maximum(squares.sum(-1) / np.where(count > 1, count - 1, np.nan), rounding_variance(pairs.rounded))
        seed = spread * (1 / np.where(count, count, np.nan) + pairs.overlap)
    both = seed + image
    share = np.divide(seed, both, out=np.ones_like(both), where=(both > 0) & (image > 0))
    missing = count < 2
    return Moments(
        np.where(missing, np.nan, mean), np.sqrt(both), count - 1.0, np.where(missing, 1.0, share), image_freedom
    )


def _among(
    every: Moments, dirty: Bools, differences: Floats, both: Bools, image: Floats, freedom: Floats, pairs: Pairs
) -> Moments:
    """Return the moments of the pairs that learned, which are those of all pairs where all did."""
    if not dirty.any():
        return every
    freedom = np.broadcast_to(freedom, dirty.shape)[dirty]
    parts = _moments(differences[dirty], both[dirty], image[dirty], freedom, pairs)
    found = {field.name: np.array(getattr(every, field.name), dtype=float) for field in fields(Moments)}
    for name, values in found.items():
        values[dirty] = getattr(parts, name)
    return Moments(**found)


def joined(courses: Sequence[Course], how: Callable[..., Any]) -> Course:
    """Put courses together: ``np.stack`` for looks, ``np.concatenate`` for stages."""

    def join(values: Sequence[Any]) -> Any:
        if isinstance(values[0], Moments):
            return Moments(**{f.name: join([getattr(value, f.name) for value in values]) for f in fields(Moments)})
        return values[0] if isinstance(values[0], int) else how(values, axis=-1)

    return Course(**{f.name: join([getattr(course, f.name) for course in courses]) for f in fields(Course)})
