"""From a study's folder to its verdicts: runs are paired by seed, in the order in which pairs were completed.

A pair that failed and was made up for later comes after those that were looked at before it, so no past look changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from attngraft._core.errors import DataError
from attngraft.coco.matches import Matches, require_comparable
from attngraft.coco.metrics import metric_values
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.advice import decidable, image_warnings
from attngraft.study.judging.bootstrap import Draw, Resampled, resample_breakdown
from attngraft.study.judging.cache import Cache
from attngraft.study.judging.criterion import Criterion
from attngraft.study.judging.judge import Paired, judge, judge_second
from attngraft.study.judging.statistics import Estimate, estimate
from attngraft.study.judging.verdict import Verdict
from attngraft.study.plan import STOCK, Arm, Plan
from attngraft.study.running.records import Run

RESAMPLES = 500
BREAKDOWN_RESAMPLES = 100
NOOP = "noop"
WORKERS = 2


def criterion(plan: Plan, extensions: Sequence[int] = ()) -> Criterion:
    """Say what a plan promised to judge by.

    Args:
        plan: The plan.
        extensions: Most seeds after each extension of it.
    """
    return Criterion(
        sesoi=plan.sesoi,
        metric=plan.metric,
        alpha=plan.alpha,
        max_seeds=plan.max_seeds,
        first_look=max(plan.seeds, 2) if plan.max_seeds else 3,
        seeds=plan.seeds,
        extensions=tuple(extensions),
        rule=plan.rule,
        folds=plan.folds,
        arms=len(plan.arms),
        resamples=RESAMPLES,
    )


@dataclass(frozen=True)
class Evidence:
    """The match tables of the finished runs, by arm and seed.

    Attributes:
        frozen: The plan.
        tables: The tables.
        finished: When each run was finished, for the order of looks; by seed where that is unknown.
        failed: Runs that were tried and failed, by arm: their seeds are not asked for again by looks.
        diverged: Runs that diverged, by arm; they count as 0 AP.
        unpaired: Runs that lack what a pair with the baseline's run of that seed has in common, by arm; left out.
        criterion: What is judged by; None for runs that exist already.
        draw: How images are drawn.
        cache: What was resampled before.
    """

    frozen: FrozenPlan
    tables: dict[str, dict[int, Matches]]
    finished: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    failed: Mapping[str, frozenset[int]] = field(default_factory=dict)
    diverged: Mapping[str, frozenset[int]] = field(default_factory=dict)
    unpaired: Mapping[str, frozenset[int]] = field(default_factory=dict)
    criterion: Criterion | None = None
    draw: Draw = field(default_factory=lambda: Draw(RESAMPLES))
    cache: Cache = field(default_factory=lambda: Cache(None))

    @property
    def rule(self) -> Criterion:
        """What is judged by; runs that exist already are judged at all the pairs there are."""
        if self.criterion is not None:
            return self.criterion
        pairs = max((len(self.seeds(arm.name)) for arm in self.frozen.arms if arm.name != STOCK), default=1)
        return replace(criterion(self.frozen.plan), seeds=max(pairs, 1), max_seeds=None)

    @property
    def arms(self) -> list[Arm]:
        """The arms that can be compared with the baseline: at least one seed in common."""
        return [arm for arm in self.frozen.arms if arm.name != STOCK and self.seeds(arm.name)]

    def seeds(self, arm: str, other: str = STOCK) -> list[int]:
        """List the seeds that two arms have in common, in the order in which the pairs were completed."""
        common = self.tables[arm].keys() & self.tables[other].keys()
        common -= {seed for name in (arm, other) for seed in self.unpaired.get(name, ())}
        made = [self.finished.get(name, {}) for name in (arm, other)]
        return sorted(common, key=lambda seed: (max(one.get(seed, "") for one in made), seed))

    def differences(self, metric: str, arm: str, other: str = STOCK) -> Resampled:
        """Return the paired differences of two arms over their common seeds."""
        return self.paired(metric, arm, other).difference

    def paired(self, metric: str, arm: str, other: str = STOCK) -> Paired:
        """Return the runs of two arms at their common seeds."""
        seeds = self.seeds(arm, other)
        mine, theirs = (self._resampled(metric, name, tuple(seeds)) for name in (arm, other))
        for name, found in ((arm, mine), (other, theirs)):
            missing = [seed for seed, value in zip(seeds, found.observed, strict=True) if np.isnan(value)]
            if missing:
                raise DataError(
                    f"{name} has no {metric} at seed {missing[0]}: the images that it was evaluated on hold no object "
                    "of that size or class; judge another metric"
                )
        off = [seed in self.diverged.get(name, ()) for seed in seeds for name in (arm, other)]
        return Paired(
            mine,
            theirs,
            complete=self._complete(arm, other),
            diverged=tuple(one or two for one, two in zip(off[::2], off[1::2], strict=True)),
        )

    def against_stock(self) -> dict[str, Verdict]:
        """Judge every arm that was asked for; controls are estimated, and are not in the family of verdicts."""
        found = judge(self.rule, self._first, others=self._others, second=self._second if self.has_conv else None)
        return {verdict.arm: verdict for verdict in found}

    def against_conv(self) -> dict[str, Verdict]:
        """Judge the arms that came out better against the convolution of equal cost, within the same alpha."""
        found = judge_second(self.rule, self._first, self._second, others=self._others)
        return {verdict.arm: verdict for verdict in found}

    @property
    def has_conv(self) -> bool:
        """Whether arms have a convolution of equal cost among the controls."""
        return any(arm.against for arm in self.frozen.arms)

    def conv(self, arm: str) -> Arm | None:
        """Return the convolution of equal cost of an arm."""
        return next((control for control in self.frozen.arms if arm in control.against), None)

    def warnings(self) -> list[str]:
        """Say what is wrong with the validation images, and what they can decide at all."""
        some = next(iter(self.tables[STOCK].values()), None)
        if some is None or self.rule.folds:  # each image is in one fold, and other folds are what seeds vary by
            return []
        return image_warnings(some, self.draw)

    def decidable(self) -> str:
        """Say what can be decided on these images, from the first pair of the baseline with noop or an arm."""
        for arm in sorted(self.arms, key=lambda arm: arm.name != NOOP):
            pair = self.differences(self.rule.metric, arm.name)
            if pair.effective == 1:  # its verdict says why
                return ""
            spread = float(np.sqrt(pair.resampled[0].var(ddof=1) * pair.correction))
            return decidable(spread, self.rule, len(self.frozen.plan.arms))
        return ""

    @cached_property
    def _first(self) -> dict[str, Paired]:
        metric = self.rule.metric
        return {arm.name: self.paired(metric, arm.name) for arm in self.arms if arm.kind == "arm"}

    @cached_property
    def _second(self) -> dict[str, Paired]:
        controls = {name: self.conv(name) for name in self._first}
        return {
            name: self.paired(self.rule.metric, name, control.name)
            for name, control in controls.items()
            if control is not None and self.seeds(name, control.name)
        }

    @cached_property
    def _others(self) -> list[Any]:
        """Values of the controls, by which runs that did not learn are found too."""
        controls = [arm.name for arm in self.frozen.arms if arm.kind == "control" and arm.name != STOCK]
        found = [self._resampled(self.rule.metric, name, tuple(sorted(self.tables[name]))) for name in controls]
        return [values.observed for values in found if len(values.observed)]

    def next_pair(self, arm: str, other: str) -> list[Run]:
        """Return the runs of the first seed that two arms have not attempted, of those that the plan has."""
        plan, last = self.frozen.plan, self.rule.last or 0
        for seed in range(plan.first_seed, plan.first_seed + last):
            if any(seed in self.failed.get(name, ()) for name in (arm, other)):
                continue
            missing = [name for name in (arm, other) if seed not in self.tables[name]]
            if missing:
                return [Run(self.frozen.arm(name), seed) for name in missing]
        return []

    def _complete(self, arm: str, other: str) -> bool:
        """Tell whether a plan with one look has tried all of its pairs."""
        if self.criterion is None:
            return True
        plan = self.frozen.plan
        planned = range(plan.first_seed, plan.first_seed + (self.rule.seeds or plan.seeds))
        return all(
            seed in self.tables[name] or seed in self.failed.get(name, ()) for name in (arm, other) for seed in planned
        )

    def estimates(self, metric: str) -> dict[str, Estimate]:
        """Estimate the difference of every arm and control to the baseline."""
        overlap = self.rule.overlap
        return {arm.name: estimate(self.differences(metric, arm.name), overlap=overlap) for arm in self.arms}

    def breakdown(self, arm: str) -> dict[str, Estimate]:
        """Estimate an arm's difference in every metric, and in the AP of every class under ``AP/NAME``."""
        mine, theirs = (self._broken_down(name, tuple(self.seeds(arm))) for name in (arm, STOCK))
        there = {"AP", "AP50", "AP75", *self.sizes(), *(name for name in mine if "/" in name)}
        pairs = {name: mine[name] - theirs[name] for name in mine if name in there}
        overlap = self.rule.overlap
        return {
            name: estimate(pair, overlap=overlap) for name, pair in pairs.items() if np.isfinite(pair.observed).all()
        }

    def metrics(self) -> list[str]:
        """List the metrics that are broken down."""
        return ["AP", "AP50", "AP75", *self.sizes()]

    def sizes(self) -> list[str]:
        """List the metrics by size that the ground truth has objects for."""
        some = next(iter(self.tables[STOCK].values()))
        there = {"APs": 1, "APm": 2, "APl": 3}
        return [name for name, row in there.items() if some.objects[row].any()]

    def _broken_down(self, arm: str, seeds: tuple[int, ...]) -> dict[str, Resampled]:
        key = "breakdown", arm, seeds
        if key not in self._kept:
            runs = [self.tables[arm][seed] for seed in seeds]
            self._kept[key] = breakdown_over_folds(runs) if self.rule.folds else self._resampled_breakdown(runs)
        return dict(self._kept[key])

    def _resampled_breakdown(self, runs: Sequence[Matches]) -> dict[str, Resampled]:
        return resample_breakdown(
            runs,
            resamples=BREAKDOWN_RESAMPLES,
            seed=self.draw.seed,
            workers=WORKERS,
            groups=self.draw.groups,
            kept=self.draw.kept,
        )

    def _resampled(self, metric: str, arm: str, seeds: tuple[int, ...]) -> Resampled:
        """Resample an arm's runs; each run once, whatever it is paired with."""
        runs = [self.tables[arm][seed] for seed in seeds]
        if self.rule.folds:
            return over_folds(runs, metric)
        missing = [(seed, run) for seed, run in zip(seeds, runs, strict=True) if (metric, arm, seed) not in self._kept]
        require_comparable([run for table in self.tables.values() for run in table.values()][:1] + runs)
        with ThreadPoolExecutor(WORKERS) as pool:
            made = list(pool.map(lambda one: self.cache.resampled(one[1], metric, self.draw), missing))
        self._kept.update({(metric, arm, seed): found for (seed, _), found in zip(missing, made, strict=True)})
        return together([self._kept[metric, arm, seed] for seed in seeds])

    @cached_property
    def _kept(self) -> dict[Any, Any]:
        """What was resampled: it is asked for by verdicts, intervals and figures."""
        return {}


def together(runs: Sequence[Resampled]) -> Resampled:
    """Put single runs together."""
    if not runs:
        return Resampled(np.empty(0), np.empty((0, 0)), 0)
    observed, resampled = (np.concatenate([getattr(run, name) for run in runs]) for name in ("observed", "resampled"))
    return replace(runs[0], observed=observed, resampled=resampled)


def over_folds(runs: Sequence[Matches], metric: str) -> Resampled:
    """Return a metric of runs that each have a validation fold of their own.

    What depends on the images is then part of what varies between seeds, and nothing is left to resample.

    Args:
        runs: One a seed, on different images.
        metric: What `attngraft.coco.metrics.parse_metric` reads.
    """
    values = np.array([metric_values(run, metric, None)[0] for run in runs])
    return Resampled(values, np.stack([values, values], 1), sum(len(run.images) for run in runs))


def breakdown_over_folds(runs: Sequence[Matches]) -> dict[str, Resampled]:
    """Return every metric that all of some runs on different folds have, as `over_folds` does."""
    parts = [resample_breakdown([run], resamples=1) for run in runs]
    names = [name for name in parts[0] if all(name in part for part in parts)]
    values = {name: np.concatenate([part[name].observed for part in parts]) for name in names}
    images = sum(len(run.images) for run in runs)
    return {name: Resampled(value, np.stack([value, value], 1), images) for name, value in values.items()}
