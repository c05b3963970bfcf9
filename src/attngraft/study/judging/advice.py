"""What would decide an open arm: how many more seeds, as a range, or more images, or nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import special

from attngraft.coco.matches import Matches
from attngraft.study.judging.bootstrap import Draw
from attngraft.study.judging.criterion import Criterion
from attngraft.study.judging.decision import EQUAL_FROM
from attngraft.study.judging.statistics import Estimate, probability, quantile

LEAST_VARIANCE = 1e-12
"""Of runs that are equal to the last digit, in squared AP points: so that nothing is divided by zero."""

MOST_SEEDS = 1000
"""More than this is no longer a number of seeds to suggest."""

MOST_IMAGES = 1000
"""More times the images than this are no longer a suggestion either."""

FEW_IMAGES, FEW_OF_CLASS = 100, 10
"""Images, and images of a class, below which the variance over images is poorly known."""

PLAUSIBLE = 0.8
"""Level of the intervals of the difference and of its deviation over which advice ranges."""

Range = tuple[int, int | None]


def seeds_range(now: Estimate, criterion: Criterion, arms: int = 1) -> Range | None:
    """Return how many more seeds would decide, at the least and at the most.

    Args:
        now: The estimate so far.
        criterion: What is judged by.
        arms: Arms that still wait, among which Holm shares alpha.

    Returns:
        The range over what the difference and its deviation may really be; the second is None where `MOST_SEEDS` might
        not do. None where they would not anywhere in it.
    """
    if now.seeds < 2:
        first = max(criterion.first_look if criterion.looks_often else criterion.seeds or 2, 2)
        return max(first - now.seeds, 1), None
    found = [seeds_to_verdict(one, criterion, arms) for one in plausible(now)]
    known = [seeds for seeds in found if seeds is not None]
    if not known:
        return None
    return min(known), None if len(known) < len(found) else max(known)


def plausible(now: Estimate) -> list[Estimate]:
    """List what an estimate may really stand for: its difference and deviation, and the ends of their intervals."""
    low, high = now.interval(PLAUSIBLE)
    tail, freedom = (1 - PLAUSIBLE) / 2, now.seeds - 1
    deviations = [now.seed_sd * math.sqrt(freedom / special.chdtri(freedom, p)) for p in (tail, 0.5, 1 - tail)]
    return [
        replace(now, difference=difference, seed_sd=float(deviation))
        for difference in (low, now.difference, high)
        for deviation in deviations
    ]


def seeds_to_verdict(now: Estimate, criterion: Criterion, arms: int = 1) -> int | None:
    """Return about how many more seeds give ``criterion.power`` for a verdict, if the difference stays as it is.

    Args:
        now: The estimate so far, of 2 seeds or more.
        criterion: What is judged by.
        arms: Arms that still wait, among which Holm shares alpha.

    Returns:
        The number, or None if `MOST_SEEDS` would not do.
    """
    seeds = np.arange(now.seeds + 1, MOST_SEEDS + 1)
    part = now.seed_sd**2 * (1 / seeds + now.overlap)
    variance = np.maximum(part + now.image_sd**2, LEAST_VARIANCE)
    share = np.where(variance > LEAST_VARIANCE, part / variance, 1.0)
    shift, room = abs(now.difference) / np.sqrt(variance), criterion.sesoi / np.sqrt(variance)
    parts = (seeds - 1, share, now.image_freedom)
    different = probability(shift - quantile(1 - criterion.alpha / (2 * arms), *parts), *parts)
    room = room - quantile(1 - criterion.alpha, *parts)
    equal = probability(room - shift, *parts) - probability(-room - shift, *parts)
    equal = np.where(seeds >= EQUAL_FROM, equal, 0)
    enough = np.flatnonzero(np.maximum(different, equal) >= criterion.power)
    return int(seeds[enough[0]] - now.seeds) if len(enough) else None


def images_to_verdict(now: Estimate, criterion: Criterion, arms: int = 1) -> float:
    """Return how many times the images a verdict takes with endless seeds, if the difference stays as it is.

    What folds share is of the images too: endless seeds leave it.
    """
    times = np.geomspace(1, MOST_IMAGES, 400)
    left = math.hypot(now.image_sd, now.seed_sd * math.sqrt(now.overlap))
    error = max(left, math.sqrt(LEAST_VARIANCE)) / np.sqrt(times)
    shift, room = abs(now.difference) / error, criterion.sesoi / error
    different = special.ndtr(shift - special.ndtri(1 - criterion.alpha / (2 * arms)))
    room = room - special.ndtri(1 - criterion.alpha)
    equal = special.ndtr(room - shift) - special.ndtr(-room - shift)
    enough = np.flatnonzero(np.maximum(different, equal) >= criterion.power)
    return float(times[enough[0]]) if len(enough) else math.inf


def hopeless(now: Estimate, criterion: Criterion, arms: int) -> bool:
    """Say whether endless seeds would leave the arm undecided, on these images.

    They would bring the difference to somewhere in the interval that seeds alone leave open, with the images' error
    about it still; nowhere in there may be far enough from nothing, or near enough to it, for a verdict.
    """
    if now.seeds < 2:
        return False
    low, high = replace(now, image_sd=0.0).interval(1 - criterion.alpha)
    error = math.hypot(now.image_sd, now.seed_sd * math.sqrt(now.overlap))
    nearest, farthest = 0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high))
    different = farthest > special.ndtri(1 - criterion.alpha / (2 * arms)) * error
    equal = nearest < criterion.sesoi - special.ndtri(1 - criterion.alpha) * error
    return not (different or equal)


def say(seeds: Range | None, images: float | None, remaining: int | None) -> str:
    """Say what would decide, to be put behind `undecided`.

    Args:
        seeds: From `seeds_range`.
        images: From `images_to_verdict`, where no number of seeds would.
        remaining: Seeds that the plan still has; None where it has no end, or there is no plan.

    Example:
        >>> say((2, 9), None, 5), say((4, None), None, None)
        (': about 2 to 9 more seeds (the plan has 5 more)', ': about 4 more seeds, or many more')
        >>> say(None, 2.5, 0)
        ': more seeds would not settle this; about 2.5 times the validation images might'
    """
    if seeds is not None:
        low, high = seeds
        many = (
            f"about {low} more seed{'s' if low != 1 else ''}"
            if high in (None, low)
            else f"about {low} to {high} more seeds"
        )
        open_end = ", or many more" if high is None else ""
        left = "" if not remaining or (high is not None and high <= remaining) else f" (the plan has {remaining} more)"
        return f": {many}{open_end}{left}"
    if images == math.inf:
        return ": neither more seeds nor more validation images would settle this; the difference is too near the SESOI"
    if images is not None:
        times = max(1.1, math.ceil(10 * images) / 10)
        return f": more seeds would not settle this; about {times:.1f} times the validation images might"
    return ""


def decidable(image_sd: float, criterion: Criterion, arms: int = 1) -> str:
    r"""Say what can be decided at all on these images, whatever the number of seeds.

    Args:
        image_sd: Standard deviation over sets of images of a difference, as the bootstrap of one pair of runs gives it.
        criterion: What is judged by.
        arms: Arms of the plan.

    Example:
        >>> decidable(0.2, Criterion(sesoi=0.5))
        'these images can show a gain of 0.39 AP or more, and that a difference within 0.17 AP is none'
        >>> print(decidable(0.4, Criterion(sesoi=0.5)).replace("; ", ";\n"))
        these images can show a gain of 0.78 AP or more;
        that there is none takes 1.7 times the images, or a validation fold for each seed (folds: 10)
    """
    gain = float(special.ndtri(1 - criterion.alpha / (2 * arms))) * image_sd
    room = criterion.sesoi - float(special.ndtri(1 - criterion.alpha)) * image_sd
    head = f"these images can show a gain of {gain:.2f} {criterion.metric} or more"
    if room > 0:
        return f"{head}, and that a difference within {room:.2f} {criterion.metric} is none"
    times = (float(special.ndtri(1 - criterion.alpha)) * image_sd / criterion.sesoi) ** 2
    fold = "a validation fold for each seed (folds: 10)"
    return f"{head}; that there is none takes {max(times, 1.1):.1f} times the images, or {fold}"


def image_warnings(run: Matches, draw: Draw) -> list[str]:
    """Say where images are too few for their variance to be known."""
    images = len(run.images) if draw.kept is None else int(draw.kept.sum())
    what = "images" if draw.groups is None else "groups of images"
    units = len(np.unique(draw.units(len(run.images))[slice(None) if draw.kept is None else draw.kept]))
    said = []
    if images < FEW_IMAGES or units < FEW_IMAGES // 5:
        counted = f"{images} images" if draw.groups is None else f"{images} images in {units} groups"
        said.append(
            f"only {counted}: how much a result depends on them is poorly known; evaluate on more of them, or plan a "
            "study with folds"
        )
    counts = draw.per_class(run)
    rare = int((counts < FEW_OF_CLASS).sum())
    if rare:
        said.append(
            f"{rare} of {len(counts)} classes are in fewer than {FEW_OF_CLASS} {what}, and weigh as much as the others"
        )
    return said
