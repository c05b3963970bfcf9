"""Judging the runs of a study: from resampled runs, arm by arm, to `attngraft.study.judging.verdict.Verdict`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attngraft._core.errors import DataError, OptionError
from attngraft.coco.matches import Matches, require_comparable
from attngraft.study.judging.advice import hopeless, images_to_verdict, seeds_range
from attngraft.study.judging.bootstrap import Resampled, resample, resample_breakdown
from attngraft.study.judging.course import Pairs
from attngraft.study.judging.criterion import Criterion
from attngraft.study.judging.decision import BETTER, EQUAL, EQUAL_FROM, LEAST_LEVEL, OUTCOMES, Decision, decide
from attngraft.study.judging.design import Design
from attngraft.study.judging.learning import FIRST_LOOK, GAP, Floats, failures_not_excluded, has_floor, rate_interval
from attngraft.study.judging.statistics import Estimate, estimate, gatekeep, image_variance
from attngraft.study.judging.verdict import OFTEN, Learning, Verdict

ONE_IMAGE = "no class is on two images, and how much hangs on the images takes two to tell; evaluate on more of them"
"""Why an arm stays open whose image part has no estimate."""


@dataclass(frozen=True, eq=False)
class Paired:
    """The runs of one arm and of what it is compared with, in the order in which they were attempted.

    Attributes:
        arm: The arm's runs.
        baseline: As many of the baseline, at the same seeds.
        complete: Whether a plan with one look asks for no further pair.
        diverged: Whether a run of the pair diverged, ``(S,)``; such a run counts as 0 AP.
    """

    arm: Resampled
    baseline: Resampled
    complete: bool = True
    diverged: tuple[bool, ...] = ()

    @property
    def difference(self) -> Resampled:
        """The paired differences."""
        return self.arm - self.baseline


def compare(
    criterion: Criterion, stock: Sequence[Matches], arms: Mapping[str, Sequence[Matches]], *, workers: int = 1
) -> list[Verdict]:
    """Judge every arm of a study against the baseline.

    Args:
        criterion: What the plan promised.
        stock: The baseline's runs, one a seed.
        arms: Each arm's runs, at the same places the same seeds; an arm may have fewer.
        workers: Threads for the bootstrap.

    Raises:
        DataError: If runs rest on different ground truths, an arm has no seed or one that the baseline lacks, or the
            metric is of a size that no object has.
        OptionError: If an arm has more seeds than the plan.
    """
    for name, runs in arms.items():
        if not 0 < len(runs) <= len(stock):
            raise DataError(f"arm {name} needs 1 to {len(stock)} seeds to pair with the baseline's, got {len(runs)}")
    require_comparable([*stock, *(run for runs in arms.values() for run in runs)])
    base, *others = (
        resample(runs, criterion.metric, resamples=criterion.resamples, seed=criterion.seed, workers=workers)
        for runs in (stock, *arms.values())
    )
    if np.isnan(base.observed).any():
        raise DataError(f"{criterion.metric} has no meaning here: the ground truth has no object of that size")
    pairs = {name: Paired(values, base[: len(values.observed)]) for name, values in zip(arms, others, strict=True)}
    return judge(criterion, pairs)


def judge(
    criterion: Criterion,
    pairs: Mapping[str, Paired],
    *,
    others: Sequence[Floats] = (),
    second: Mapping[str, Paired] | None = None,
) -> list[Verdict]:
    """Give the verdicts of `compare` from resampled runs.

    Args:
        criterion: What the plan promised.
        pairs: Each arm with the baseline.
        others: Values of the study's other series, by which runs that did not learn are found too.
        second: Arms with what they are compared with once they are better, such as the matched convolution: an arm
            then leaves Holm's count only when it is better than that too. None where there is no second question.

    Raises:
        OptionError: If an arm has more seeds than the plan.
    """
    return _Judging(criterion, pairs, others).verdicts(second)


def judge_second(
    criterion: Criterion,
    pairs: Mapping[str, Paired],
    second: Mapping[str, Paired],
    *,
    others: Sequence[Floats] = (),
) -> list[Verdict]:
    """Judge arms that are better than the baseline against what comes second, with no alpha of its own.

    Args:
        criterion: What the plan promised.
        pairs: Each arm with the baseline.
        second: Arms with the second; those that are not better are left out.
        others: As for `judge`.
    """
    if not pairs:
        return []
    first = _Judging(criterion, pairs, others)
    better = [verdict.arm for verdict in first.verdicts(second) if verdict.outcome == "better"]
    p = first.second_p(second)
    done = gatekeep(first.decision(p).p_single, p)[1] <= criterion.alpha
    found = []
    for name in better:
        if name in second:
            others_done = int(done.sum() - done[list(pairs).index(name)])
            own = replace(criterion, arms=max((criterion.arms or len(pairs)) - others_done, 1))
            found += _Judging(own, {name: second[name]}, others).verdicts(None)
    return found


class _Judging:
    """The pairs of a study as arrays, and what follows from them."""

    def __init__(self, criterion: Criterion, pairs: Mapping[str, Paired], others: Sequence[Floats]) -> None:
        for name, runs in pairs.items():
            count = len(runs.arm.observed)
            if criterion.rule == "looks" and criterion.looks_often and count > (criterion.last or count):
                raise OptionError(f"arm {name} has {count} seeds and its plan {criterion.last}; judge the planned ones")
        self.criterion, self.pairs = criterion, dict(pairs)
        self.seeds = max((len(runs.arm.observed) for runs in pairs.values()), default=0)
        self.design: Design = criterion.design(self.seeds)
        laid = self._pairs(others) if self.seeds else None
        self.floor = laid is None or laid.floor
        self.courses = self.design.courses(laid, criterion.sesoi) if laid is not None else []
        self.p = self.design.p_values(self.courses, criterion.sesoi) if self.seeds else None

    def decision(self, second: Floats | None) -> Decision:
        """Decide on all arms."""
        assert self.p is not None
        return decide(
            self.p,
            sesoi=self.criterion.sesoi,
            alpha=self.criterion.alpha,
            planned=self.criterion.arms,
            second=second,
        )

    def second_p(self, second: Mapping[str, Paired]) -> Floats:
        """Return the two-sided p of each arm's second question, after looks; 1 where it has none."""
        found = np.ones(len(self.pairs))
        for index, name in enumerate(self.pairs):
            if name in second:
                arms = max(self.criterion.arms or 0, len(self.pairs))
                own = _Judging(replace(self.criterion, arms=arms), {name: second[name]}, ())
                found[index] = own.decision(None).p_single[0]
        return found

    def judged(self, index: int) -> bool:
        """Tell whether an arm may be judged: a plan with one look waits for all of its pairs."""
        runs = list(self.pairs.values())[index]
        return self.criterion.looks_often or self.criterion.seeds is None or runs.complete

    def verdicts(self, second: Mapping[str, Paired] | None) -> list[Verdict]:
        """Judge every arm."""
        if not self.pairs:
            return []
        asked = np.ones(len(self.pairs)) if second is not None else None
        decision = self.decision(asked)
        for _ in range(len(self.pairs) if second else 0):
            better = [name for name, outcome in zip(self.pairs, decision.outcome, strict=True) if outcome == BETTER]
            asked = self.second_p({name: second[name] for name in better if second and name in second})
            decision = self.decision(asked)
        waiting = max(int((decision.outcome == 0).sum()), 1)
        return [self._verdict(name, index, decision, waiting) for index, name in enumerate(self.pairs)]

    def _verdict(self, name: str, index: int, decision: Decision, waiting: int) -> Verdict:
        criterion, runs = self.criterion, self.pairs[name]
        count = len(runs.arm.observed)
        remaining = None if criterion.last is None else max(criterion.last - count, 0)
        whole = estimate(runs.difference, overlap=criterion.overlap)
        blank = Verdict(
            name, criterion.metric, "undecided", whole, (-math.inf, math.inf), 1.0, 1.0, remaining=remaining,
            without_diverged=self._without_diverged(runs),
        )  # fmt: skip
        if runs.difference.empty:
            return replace(blank, learned=False)
        if not self.judged(index):
            return replace(blank, outcome="interim", stop=False)
        if math.isinf(whole.image_sd):
            return replace(blank, reason=ONE_IMAGE, stop=True)
        if criterion.selected:
            return replace(blank, reason="chosen on the images it is judged on; confirm it on others")
        return self._decided(blank, index, decision, waiting)

    def _decided(self, blank: Verdict, index: int, decision: Decision, waiting: int) -> Verdict:
        criterion, runs = self.criterion, self.pairs[blank.arm]
        outcome = OUTCOMES[int(decision.outcome[index])]
        seeds = self._seeds(index, decision)
        now = estimate(runs.difference[:seeds], overlap=criterion.overlap)
        low, high = self._interval(index, decision)
        clean = bool(decision.clean[index])
        found = replace(
            blank,
            outcome=outcome,
            estimate=now,
            interval=(low, high),
            level=1 - criterion.alpha * (2 if outcome == "no difference" else 1),
            unbiased=self._unbiased(index, decision) if clean else None,
            p_difference=float(decision.p_difference[index]),
            p_equivalence=float(decision.p_equivalence[index]),
            learning=None if clean else self._learning(index, decision),
            not_excluded=failures_not_excluded(now.seeds, criterion.alpha) if clean else None,
        )
        return found if outcome != "undecided" else self._open(found, waiting)

    def _open(self, found: Verdict, waiting: int) -> Verdict:
        """Say what would decide an open arm."""
        criterion, now = self.criterion, found.estimate
        spent = found.remaining == 0
        if found.learning is not None:
            return replace(found, reason=self._why_open(found), stop=spent)
        reason = self._why_open(found)
        seeds = seeds_range(now, criterion, waiting)
        images = images_to_verdict(now, criterion, waiting) if seeds is None else None
        stop = spent or hopeless(now, criterion, waiting)
        return replace(found, more_seeds=seeds, more_images=images, reason=reason, stop=stop)

    def _why_open(self, found: Verdict) -> str:
        """Say why an arm is open, where it is not for want of seeds alone."""
        criterion, now = self.criterion, found.estimate
        level = float(self.pairs[found.arm].baseline.observed.mean())
        spent = found.remaining == 0 or (found.remaining is None and not criterion.looks_often)
        if found.learning is not None:
            few = f"runs that did not learn are compared from {FIRST_LOOK} seeds on"
            return few if now.seeds < FIRST_LOOK else "some runs did not learn"
        if spent and now.seeds < FIRST_LOOK and abs(now.difference) > GAP * criterion.sesoi:
            return (
                f"a difference this large may be that runs of one of the two did not learn; it takes {FIRST_LOOK} seeds"
            )
        if self.floor and level < LEAST_LEVEL * criterion.sesoi and abs(now.difference) < criterion.sesoi:
            return (
                f"the baseline is at {level:.2f} points, under {LEAST_LEVEL} times the SESOI, "
                "so nothing is called equal to it; train longer"
            )
        if spent and now.seeds < EQUAL_FROM and abs(now.difference) < criterion.sesoi:
            return f"nothing is called equal before {EQUAL_FROM} seeds"
        return ""

    def _seeds(self, index: int, decision: Decision) -> int:
        """Return the pairs at an arm's last look."""
        assert self.p is not None
        return int(self.p.course.seeds[index, decision.look[index]])

    def _interval(self, index: int, decision: Decision) -> tuple[float, float]:
        """Return the interval that agrees with the outcome."""
        outcome, alpha = int(decision.outcome[index]), self.criterion.alpha
        if not decision.clean[index]:
            return -math.inf, math.inf
        if outcome == EQUAL:
            return self._limits(index, decision, alpha, "equal")
        arms = max(self.criterion.arms or 0, len(self.pairs))
        low, high = self._limits(index, decision, alpha / (2 * arms), "every")
        if outcome == 0:
            return low, high
        return (max(low, 0.0), high) if outcome == BETTER else (low, min(high, 0.0))

    def _unbiased(self, index: int, decision: Decision) -> float | None:
        low, high = self._limits(index, decision, 0.5, "every")
        return (low + high) / 2 if math.isfinite(low + high) else None

    def _limits(self, index: int, decision: Decision, alpha: float, kind: str) -> tuple[float, float]:
        low, high = self.design.interval(self.courses, decision.look, alpha, kind=kind)
        return float(low[index]), float(high[index])

    def _learning(self, index: int, decision: Decision) -> Learning:
        assert self.p is not None
        course, look = self.p.course, int(decision.look[index])
        runs = self._seeds(index, decision)
        arm, baseline = int(course.arm[index, look]), int(course.baseline[index, look])
        among = course.among
        pairs = int(among.freedom[index, look]) + 1
        found = None
        interval = (-math.inf, math.inf)
        if pairs >= 2:
            deviation = float(among.error[index, look] * np.sqrt(among.share[index, look] * pairs))
            images = float(among.error[index, look] * np.sqrt(1 - among.share[index, look]))
            found = Estimate(
                pairs, float(among.mean[index, look]), deviation, images, float(among.image_freedom[index, look])
            )
            arms = max(self.criterion.arms or 0, len(self.pairs))
            interval = self._limits(index, decision, self.criterion.alpha / (4 * arms), "among")
        return Learning(
            arm=arm,
            baseline=baseline,
            runs=runs,
            arm_interval=rate_interval(arm, runs),
            baseline_interval=rate_interval(baseline, runs),
            outcome=OFTEN[int(decision.learning[index])],
            among=found,
            among_interval=interval,
            among_outcome=OUTCOMES[int(decision.among[index])],
        )

    def _without_diverged(self, runs: Paired) -> Estimate | None:
        if not any(runs.diverged):
            return None
        kept = ~np.array(runs.diverged)
        part = replace(
            runs.difference, observed=runs.difference.observed[kept], resampled=runs.difference.resampled[kept]
        )
        return estimate(part, overlap=self.criterion.overlap) if kept.any() else None

    def _pairs(self, others: Sequence[Floats]) -> Pairs:
        """Lay out the runs as arrays, an arm a row."""
        names = list(self.pairs)
        arm, baseline = np.full((len(names), self.seeds), np.nan), np.full((len(names), self.seeds), np.nan)
        variance = np.zeros_like(arm)
        for row, runs in enumerate(self.pairs.values()):
            count = len(runs.arm.observed)
            arm[row, :count], baseline[row, :count] = runs.arm.observed, runs.baseline.observed[:count]
            difference = runs.difference
            if not self.criterion.overlap:
                variance[row, 1:count] = [image_variance(difference[:pairs]) for pairs in range(2, count + 1)]
        freedom = np.array([runs.arm.freedom for runs in self.pairs.values()])
        rest = np.full((len(others), self.seeds), np.nan)
        for row, values in enumerate(others):
            rest[row, : len(values)] = values[: self.seeds]
        rounded = max(runs.difference.rounded for runs in self.pairs.values())
        return Pairs(
            arm, baseline, variance, freedom, rest if len(others) else None, self.criterion.overlap, rounded,
            floor=has_floor(arm, baseline, rest),
        )  # fmt: skip


def breakdown(
    stock: Sequence[Matches], arm: Sequence[Matches], *, resamples: int = 1000, seed: int = 0, workers: int = 1
) -> dict[str, Estimate]:
    """Estimate an arm's difference in every metric and in the AP of every class, ``AP/name``; for reading, not judging.

    Their intervals hold one by one, so among many some miss.

    Args:
        stock: The baseline's runs.
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
