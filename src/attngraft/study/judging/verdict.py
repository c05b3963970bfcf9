"""From the runs of a study to its verdicts: `better`, `worse`, `no difference`, or `undecided: about N more seeds`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from attngraft._core.errors import DataError, OptionError
from attngraft.coco.matches import Matches, require_comparable
from attngraft.coco.metrics import parse_metric
from attngraft.study.judging.bootstrap import Resampled, resample, resample_breakdown
from attngraft.study.judging.sequential import Looks
from attngraft.study.judging.statistics import (
    OUTCOMES,
    Course,
    Decision,
    Estimate,
    Outcome,
    decide,
    estimate,
    interval_after_looks,
    probability,
    quantile,
)

MOST_SEEDS = 1000
"""More than this is no longer a number of seeds to suggest."""

MOST_IMAGES = 1000
"""More times the images than this are no longer a suggestion either."""


@dataclass(frozen=True)
class Criterion:
    """What a plan promises to judge by.

    Args:
        sesoi: Smallest effect worth having, in AP points (0 to 100).
        metric: What `attngraft.coco.metrics.parse_metric` reads.
        alpha: Chance of any false `better` or `worse` among the arms; and, arm by arm, of a false `no difference`.
        max_seeds: Seeds after which an arm stops undecided; looks are then taken after every seed. None makes one look,
            at all the seeds there are.
        first_look: Seeds before the first look.
        power: Chance of a verdict that suggested seeds aim at.
        resamples: Bootstrap resamples of the images.
        seed: Of the bootstrap.

    Raises:
        OptionError: If a number cannot be.
        UnknownNameError: If there is no such metric.
    """

    sesoi: float
    metric: str = "AP"
    alpha: float = 0.05
    max_seeds: int | None = None
    first_look: int = 3
    power: float = 0.8
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        parse_metric(self.metric)
        if not self.sesoi > 0:
            raise OptionError(f"a criterion needs sesoi above 0 AP points, got {self.sesoi}; name a worthwhile effect")
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise OptionError(f"a criterion needs {name} between 0 and 1, got {getattr(self, name)}")
        if self.resamples < 2:
            raise OptionError(f"a criterion needs 2 resamples or more, got {self.resamples}")
        if self.max_seeds is not None:
            Looks(self.first_look, self.max_seeds)

    @property
    def looks(self) -> Looks:
        """The planned looks; a single one stands for whatever seeds there are."""
        return Looks(2, 2) if self.max_seeds is None else Looks(self.first_look, self.max_seeds)


@dataclass(frozen=True)
class Verdict:
    """What is known of one arm against the stock model.

    Attributes:
        arm: Its name.
        metric: What was compared, in AP points.
        outcome: The verdict in words.
        estimate: The difference with all seeds.
        interval: Two-sided, at confidence 1 - alpha for this arm alone.
        p_difference: Of no difference in either direction, after looks and Holm.
        p_equivalence: Of a difference of SESOI or more, after looks.
        more_seeds: About how many more seeds would decide, if the difference stays as it is; None where it is decided,
            or no number of seeds would.
        more_images: Where no number of seeds would: about how many times the validation images might; else None.
        stop: Whether further seeds are no use: it is decided, the plan's seeds are spent, or no number would decide.
        learned: Whether any run found anything. Where none did, equal zeros are no evidence of equal models.
    """

    arm: str
    metric: str
    outcome: Outcome
    estimate: Estimate
    interval: tuple[float, float]
    p_difference: float
    p_equivalence: float
    more_seeds: int | None
    more_images: float | None
    stop: bool
    learned: bool = True

    def __str__(self) -> str:
        """Say the verdict in one line."""
        low, high = self.interval
        found = f"{self.metric} {self.estimate.difference:+.2f}, {low:+.2f} to {high:+.2f}, {self.estimate.seeds} seeds"
        return f"{self.arm}: {self.outcome}{self.advice} ({found})"

    @property
    def advice(self) -> str:
        """What would decide, to be put behind `undecided`."""
        if not self.learned:
            return f": {self.metric} is 0 in every run, so nothing was learned that could be compared; train longer"
        if self.more_seeds is not None:
            return f": about {self.more_seeds} more seeds"
        if self.more_images == math.inf:
            return ": neither more seeds nor more validation images would do, the difference is too near the SESOI"
        if self.more_images is not None:
            return f": more seeds would not do, about {self.more_images:.1f} times the validation images might"
        return ""


def compare(
    criterion: Criterion, stock: Sequence[Matches], arms: Mapping[str, Sequence[Matches]], *, workers: int = 1
) -> list[Verdict]:
    """Judge every arm of a study against the stock model.

    Args:
        criterion: What the plan promised.
        stock: The stock model's runs, one a seed.
        arms: Each arm's runs, at the same places the same seeds; an arm may have fewer.
        workers: Threads for the bootstrap.

    Raises:
        DataError: If runs rest on different ground truths, an arm has no seed or one that the stock model lacks, or the
            metric is of a size that no object has.
        OptionError: If an arm has more seeds than the plan.
    """
    for name, runs in arms.items():
        if not 0 < len(runs) <= len(stock):
            raise DataError(f"arm {name} needs 1 to {len(stock)} seeds to pair with the stock model's, got {len(runs)}")
    require_comparable([*stock, *(run for runs in arms.values() for run in runs)])
    base, *others = (
        resample(runs, criterion.metric, resamples=criterion.resamples, seed=criterion.seed, workers=workers)
        for runs in (stock, *arms.values())
    )
    if np.isnan(base.observed).any():
        raise DataError(f"{criterion.metric} has no meaning here: the ground truth has no object of that size")
    return judge(criterion, {name: values - base for name, values in zip(arms, others, strict=True)})


def judge(criterion: Criterion, differences: Mapping[str, Resampled]) -> list[Verdict]:
    """Give the verdicts of `compare` from paired differences.

    Raises:
        OptionError: If an arm has more seeds than the plan.
    """
    for name, pairs in differences.items():
        if criterion.max_seeds is not None and len(pairs.observed) > criterion.max_seeds:
            raise OptionError(
                f"arm {name} has {len(pairs.observed)} seeds and its plan {criterion.max_seeds}; judge the planned ones"
            )
    course = _course([_estimates(criterion, pairs) for pairs in differences.values()])
    decision = decide(course, criterion.looks, sesoi=criterion.sesoi, alpha=criterion.alpha)
    waiting = int((decision.outcome == 0).sum())
    return [
        _nothing(criterion, name, estimate(pairs))
        if pairs.empty
        else _verdict(criterion, name, estimate(pairs), decision, index, waiting)
        for index, (name, pairs) in enumerate(differences.items())
    ]


def _verdict(criterion: Criterion, arm: str, now: Estimate, decision: Decision, index: int, waiting: int) -> Verdict:
    outcome = OUTCOMES[int(decision.outcome[index])]
    undecided = outcome == "undecided"
    arms = len(decision.outcome)
    interval = interval_after_looks(now, criterion.looks, sesoi=criterion.sesoi, alpha=criterion.alpha, arms=arms)
    more_seeds = seeds_to_verdict(now, criterion, waiting) if undecided else None
    return Verdict(
        arm=arm,
        metric=criterion.metric,
        outcome=outcome,
        estimate=now,
        interval=interval,
        p_difference=float(decision.p_difference[index]),
        p_equivalence=float(decision.p_equivalence[index]),
        more_seeds=more_seeds,
        more_images=images_to_verdict(now, criterion, waiting) if undecided and more_seeds is None else None,
        stop=not undecided or now.seeds == criterion.max_seeds or _hopeless(now, criterion, waiting),
    )


def _nothing(criterion: Criterion, arm: str, now: Estimate) -> Verdict:
    """Leave an arm open whose runs, and those it is compared with, found nothing at all."""
    unknown = (-math.inf, math.inf)
    return Verdict(arm, criterion.metric, "undecided", now, unknown, 1.0, 1.0, None, None, stop=True, learned=False)


def breakdown(
    stock: Sequence[Matches], arm: Sequence[Matches], *, resamples: int = 1000, seed: int = 0, workers: int = 1
) -> dict[str, Estimate]:
    """Estimate an arm's difference in every metric and in the AP of every class, ``AP/name``; for reading, not judging.

    Their intervals hold one by one, so among many some miss.

    Args:
        stock: The stock model's runs.
        arm: The arm's runs at the same seeds; as many or fewer.
        resamples: Bootstrap resamples of the images.
        seed: Of the bootstrap.
        workers: Threads.
    """
    require_comparable([*stock, *arm])
    base, other = (
        resample_breakdown(runs, resamples=resamples, seed=seed, workers=workers) for runs in (stock[: len(arm)], arm)
    )
    return {name: estimate(other[name] - base[name]) for name in base}


def seeds_to_verdict(now: Estimate, criterion: Criterion, arms: int = 1) -> int | None:
    """Return about how many more seeds give ``criterion.power`` for a verdict, if the difference stays as it is.

    Args:
        now: The estimate so far.
        criterion: What is judged by.
        arms: Arms that still wait, among which Holm shares alpha.

    Returns:
        The number, or None if `MOST_SEEDS` would not do. With one seed nothing is known of the spread, and it is what
        the first look lacks.
    """
    if now.seeds < 2:
        return criterion.looks.first - now.seeds
    seeds = np.arange(now.seeds + 1, MOST_SEEDS + 1)
    variance = now.seed_sd**2 / seeds + now.image_sd**2
    share = np.divide(now.seed_sd**2 / seeds, variance, out=np.ones(len(seeds)), where=variance > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift, room = abs(now.difference) / np.sqrt(variance), criterion.sesoi / np.sqrt(variance)
    different = probability(shift - quantile(1 - criterion.alpha / (2 * arms), seeds - 1, share), seeds - 1, share)
    room = room - quantile(1 - criterion.alpha, seeds - 1, share)
    equal = probability(room - shift, seeds - 1, share) - probability(-room - shift, seeds - 1, share)
    enough = np.flatnonzero(np.maximum(different, equal) >= criterion.power)
    return int(seeds[enough[0]] - now.seeds) if len(enough) else None


def images_to_verdict(now: Estimate, criterion: Criterion, arms: int = 1) -> float:
    """Return how many times the images a verdict takes with endless seeds, if the difference stays as it is."""
    times = np.geomspace(1, MOST_IMAGES, 400)
    error = now.image_sd / np.sqrt(times)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift, room = abs(now.difference) / error, criterion.sesoi / error
    different = special.ndtr(shift - special.ndtri(1 - criterion.alpha / (2 * arms)))
    room = room - special.ndtri(1 - criterion.alpha)
    equal = special.ndtr(room - shift) - special.ndtr(-room - shift)
    enough = np.flatnonzero(np.maximum(different, equal) >= criterion.power)
    return float(times[enough[0]]) if len(enough) else math.inf


def _hopeless(now: Estimate, criterion: Criterion, arms: int) -> bool:
    """Say whether endless seeds would leave the arm undecided, on these images.

    They would bring the difference to somewhere in the interval that seeds alone leave open, with the images' error
    about it still; nowhere in there may be far enough from nothing, or near enough to it, for a verdict.
    """
    if now.seeds < 2:
        return False
    low, high = replace(now, image_sd=0.0).interval(1 - criterion.alpha)
    nearest, farthest = 0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high))
    different = farthest > special.ndtri(1 - criterion.alpha / (2 * arms)) * now.image_sd
    equal = nearest < criterion.sesoi - special.ndtri(1 - criterion.alpha) * now.image_sd
    return not (different or equal)


def _estimates(criterion: Criterion, pairs: Resampled) -> list[Estimate]:
    """Estimate at every look that the seeds suffice for, or once at all seeds."""
    seeds = len(pairs.observed)
    first = max(seeds, 2) if criterion.max_seeds is None else criterion.first_look
    return [estimate(pairs[:count]) for count in range(first, seeds + 1)]


def _course(arms: Sequence[Sequence[Estimate]]) -> Course:
    """Stack estimates as ``(arms, K)``, NaN after an arm's last look."""
    looks = max(1, *(len(estimates) for estimates in arms), 1)
    stacked = np.full((4, len(arms), looks), math.nan)
    for index, estimates in enumerate(arms):
        for look, now in enumerate(estimates):
            stacked[:, index, look] = now.difference, now.error, now.seeds - 1, now.share
    return Course(*stacked)
