"""From a study's folder to its verdicts: runs are paired by seed, whatever seeds an arm has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attngraft.coco.matches import Matches
from attngraft.coco.metrics import metric_values
from attngraft.study.judging.bootstrap import Resampled, resample, resample_breakdown
from attngraft.study.judging.statistics import Estimate, estimate
from attngraft.study.judging.verdict import Criterion, Verdict, judge
from attngraft.study.plan import STOCK, Arm, Fixed, Plan
from attngraft.study.running.records import Run, Store, at_seed, next_seed

RESAMPLES = 1000
BREAKDOWN_RESAMPLES = 400


def criterion(plan: Plan) -> Criterion:
    """Say what a plan promised to judge by."""
    return Criterion(
        sesoi=plan.sesoi,
        metric=plan.metric,
        alpha=plan.alpha,
        max_seeds=plan.max_seeds,
        first_look=max(plan.seeds, 2) if plan.max_seeds else 3,
        resamples=RESAMPLES,
    )


@dataclass(frozen=True)
class Row:
    """One line of the table of verdicts.

    Attributes:
        arm: The arm or control.
        verdict: Its verdict against the stock model; None for a control.
        estimate: Its difference to the stock model.
        interval: The interval of that, at the plan's level.
        against_conv: Its verdict against the convolution of equal cost, if there is one.
        level: Its mean AP over seeds, in points.
        cost: What was measured of it.
        front: Whether no other arm beats it on gain and latency at once.
    """

    arm: Arm
    verdict: Verdict | None
    estimate: Estimate
    interval: tuple[float, float]
    against_conv: Verdict | None
    level: float
    cost: Mapping[str, Any]
    front: bool = False


@dataclass(frozen=True)
class Evidence:
    """The match tables of the finished runs, by arm and seed.

    Attributes:
        fixed: The plan.
        tables: The tables.
    """

    fixed: Fixed
    tables: dict[str, dict[int, Matches]]

    @classmethod
    def of(cls, store: Store, fixed: Fixed) -> Evidence:
        """Read every finished run of a study."""
        plan = fixed.plan
        tables: dict[str, dict[int, Matches]] = {arm.name: {} for arm in fixed.arms}
        for seed in range(plan.first_seed, plan.first_seed + (plan.max_seeds or plan.seeds)):
            for run in store.finished(at_seed(fixed.arms, seed)):
                tables[run.arm.name][seed] = store.matches(run)
        return cls(fixed, tables)

    @property
    def arms(self) -> list[Arm]:
        """The arms that can be compared with the stock model: at least one seed in common."""
        return [arm for arm in self.fixed.arms if arm.name != STOCK and self.seeds(arm.name)]

    def seeds(self, arm: str, other: str = STOCK) -> list[int]:
        """List the seeds that two arms have in common."""
        return sorted(self.tables[arm].keys() & self.tables[other].keys())

    def differences(self, metric: str, arm: str, other: str = STOCK) -> Resampled:
        """Return the paired differences of two arms over their common seeds."""
        mine, theirs = (self._resampled(metric, name, tuple(self.seeds(arm, other))) for name in (arm, other))
        return mine - theirs

    def against_stock(self) -> dict[str, Verdict]:
        """Judge every arm that was asked for; controls are estimated, and are not in the family of verdicts."""
        wanted = [arm.name for arm in self.arms if arm.kind == "arm"]
        return self._judge({name: self.differences(self.fixed.plan.metric, name) for name in wanted})

    def against_conv(self) -> dict[str, Verdict]:
        """Judge every arm against the convolution of equal cost, a family of its own."""
        pairs = {name: arm.name for arm in self.arms if arm.against for name in arm.against if self.tables[name]}
        common = {name: conv for name, conv in pairs.items() if self.seeds(name, conv)}
        return self._judge({n: self.differences(self.fixed.plan.metric, n, conv) for n, conv in common.items()})

    def estimates(self, metric: str) -> dict[str, Estimate]:
        """Estimate the difference of every arm and control to the stock model."""
        return {arm.name: estimate(self.differences(metric, arm.name)) for arm in self.arms}

    def breakdown(self, arm: str) -> dict[str, Estimate]:
        """Estimate an arm's difference in every metric, and in the AP of every class under ``AP/NAME``."""
        mine, theirs = (
            self._broken_down([self.tables[name][seed] for seed in self.seeds(arm)]) for name in (arm, STOCK)
        )
        there = {"AP", "AP50", "AP75", *self.sizes(), *(name for name in mine if "/" in name)}
        pairs = {name: mine[name] - theirs[name] for name in mine if name in there}
        return {name: estimate(pair) for name, pair in pairs.items() if np.isfinite(pair.observed).all()}

    def _broken_down(self, runs: Sequence[Matches]) -> dict[str, Resampled]:
        if self.fixed.plan.folds is None:
            return resample_breakdown(runs, resamples=BREAKDOWN_RESAMPLES)
        parts = [resample_breakdown([run], resamples=1) for run in runs]
        names = [name for name in parts[0] if all(name in part for part in parts)]
        values = {name: np.concatenate([part[name].observed for part in parts]) for name in names}
        images = sum(len(run.images) for run in runs)
        return {name: Resampled(value, np.stack([value, value], 1), images) for name, value in values.items()}

    def sizes(self) -> list[str]:
        """List the metrics by size that the ground truth has objects for."""
        some = next(iter(self.tables[STOCK].values()))
        there = {"APs": 1, "APm": 2, "APl": 3}
        return [name for name, row in there.items() if some.objects[row].any()]

    def _judge(self, pairs: dict[str, Resampled]) -> dict[str, Verdict]:
        return {verdict.arm: verdict for verdict in judge(criterion(self.fixed.plan), pairs)} if pairs else {}

    def _resampled(self, metric: str, arm: str, seeds: tuple[int, ...]) -> Resampled:
        key = metric, arm, seeds
        if key not in _kept(self):
            runs = [self.tables[arm][seed] for seed in seeds]
            folds = self.fixed.plan.folds
            _kept(self)[key] = (
                resample(runs, metric, resamples=RESAMPLES) if folds is None else over_folds(runs, metric)
            )
        return _kept(self)[key]


def _kept(evidence: Evidence) -> dict[tuple[str, str, tuple[int, ...]], Resampled]:
    """Return what was resampled before: it is asked for by the verdicts, the intervals and the figures."""
    kept: dict[tuple[str, str, tuple[int, ...]], Resampled] = evidence.__dict__.setdefault("_kept", {})
    return kept


def over_folds(runs: Sequence[Matches], metric: str) -> Resampled:
    """Return a metric of runs that each have a validation fold of their own.

    What depends on the images is then part of what varies between seeds, and nothing is left to resample.

    Args:
        runs: One a seed, on different images.
        metric: One of `attngraft.coco.average_precision.METRICS`.
    """
    values = np.array([metric_values(run, metric, None)[0] for run in runs])
    return Resampled(values, np.stack([values, values], 1), sum(len(run.images) for run in runs))


def undecided(store: Store, fixed: Fixed) -> list[Run]:
    """Return the runs of the next seed for the arms that may still be decided, and for what they are compared with."""
    evidence = Evidence.of(store, fixed)
    waiting = [name for name, verdict in evidence.against_stock().items() if not verdict.stop]
    if not waiting:
        return []
    end = fixed.plan.first_seed + (fixed.plan.max_seeds or fixed.plan.seeds)
    seeds = {name: seed for name in waiting if (seed := next_seed(store, fixed, name)) < end}
    runs = [Run(fixed.arm(name), seed) for name, seed in seeds.items()]
    for arm in fixed.arms:
        paired = {seeds[name] for name in seeds if arm.name == STOCK or name in arm.against}
        runs += [Run(arm, seed) for seed in sorted(paired)]
    return runs
