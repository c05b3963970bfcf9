"""``attngraft study combine``: what several studies of one arm, on other data or other bases, say together.

The effects of the studies are taken as drawn from a normal distribution of their own (random effects): its variance is
DerSimonian and Laird's, and intervals are Hartung and Knapp's, with a standard error never below the classic one.
The prediction interval is for the effect in one more such study. How many studies show the effect at all is counted by
partial conjunction tests (Bonferroni).

Sources: DerSimonian and Laird, Meta-analysis in clinical trials, 1986; Hartung and Knapp, A refined method for the
meta-analysis of controlled clinical trials, 2001; Higgins, Thompson and Spiegelhalter, A re-evaluation of random
effects meta-analysis, 2009 (prediction); Dror et al., Replicability analysis for natural language processing, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from attngraft._core.errors import DataError, suggest
from attngraft._core.schemas import json_schema
from attngraft.study.judging.results import ArmResult, Results

SCHEMA = "attngraft.combined/1"


@dataclass(frozen=True)
class Member:
    """One study of the combination.

    Attributes:
        name: Its folder and data.
        difference: The arm's difference to the baseline, in points.
        error: Its standard error.
        seeds: Pairs of runs.
        p: One-sided, of no improvement, of this difference and error alone; looks are not allowed for.
        weight: Its share of the combined difference, from 0 to 1.
    """

    name: str
    difference: float
    error: float
    seeds: int
    p: float
    weight: float


@dataclass(frozen=True)
class Combined:
    """What the studies say together.

    Attributes:
        arm: The arm.
        metric: What was compared.
        level: Confidence of the intervals.
        members: The studies.
        difference: The mean effect over such studies, in points.
        interval: Its interval (Hartung and Knapp).
        p: Of no mean effect, two-sided.
        tau: Standard deviation of the effects between studies.
        i_squared: Share of the differences' variance that is between studies.
        prediction: Interval for the effect in one more such study; None with two.
        replicated: How many of the studies are shown to improve, at the error of their own ``better``: half of
            ``1 - level``, after looks and over all arms of a study. A study without a verdict on the arm shows nothing,
            be it interim or of runs that did not learn.
    """

    arm: str
    metric: str
    level: float
    members: tuple[Member, ...]
    difference: float
    interval: tuple[float, float]
    p: float
    tau: float
    i_squared: float
    prediction: tuple[float, float] | None
    replicated: int


def combine(results: Sequence[tuple[str, Results]], arm: str | None = None) -> Combined:
    """Combine the studies of one arm.

    Args:
        results: A name and the results of each study.
        arm: The arm; None takes the only one that all of them have.

    Raises:
        DataError: If there are fewer than two, one is given twice, they lack the arm, compare by different metrics or
            at different alphas, or give no error.
    """
    _require_different(results)
    metric, alpha = _terms(results)
    arm = arm or _common(results)
    found = [(name, _arm(name, one, arm)) for name, one in results]
    effects = np.array([one.estimate.difference for _, one in found])
    errors = np.array([one.estimate.error for _, one in found])
    mean, error, tau2, weights = random_effects(effects, errors)
    k = len(effects)
    t = float(stats.t.ppf(1 - alpha / 2, k - 1))
    p = [_one_sided(one) for _, one in found]
    classic = 1 / weights.sum()
    return Combined(
        arm=arm,
        metric=metric,
        level=1 - alpha,
        members=tuple(
            Member(name, one.estimate.difference, one.estimate.error, one.estimate.seeds, value, float(share))
            for (name, one), value, share in zip(found, p, weights / weights.sum(), strict=True)
        ),
        difference=mean,
        interval=(mean - t * error, mean + t * error),
        p=float(2 * stats.t.sf(abs(mean) / error, k - 1)),
        tau=math.sqrt(tau2),
        i_squared=heterogeneity(effects, errors),
        prediction=_prediction(mean, tau2 + classic, k, alpha),
        replicated=replicated([_shown(one) for _, one in found], alpha / 2),
    )


def random_effects(effects: Any, errors: Any) -> tuple[float, float, float, Any]:
    """Return the mean effect, its standard error, the variance between studies and the studies' weights.

    Args:
        effects: One a study, ``(k,)``.
        errors: Their standard errors, ``(k,)``.
    """
    fixed = 1 / errors**2
    scale = float(fixed.sum() - (fixed**2).sum() / fixed.sum())
    tau2 = max(0.0, (cochran_q(effects, errors) - (len(effects) - 1)) / scale)
    weights = 1 / (errors**2 + tau2)
    mean = float((weights * effects).sum() / weights.sum())
    spread = float((weights * (effects - mean) ** 2).sum() / (len(effects) - 1))
    return mean, math.sqrt(max(spread, 1.0) / weights.sum()), tau2, weights


def heterogeneity(effects: Any, errors: Any) -> float:
    """Return I squared: the share of the variance of the effects that their own errors do not explain."""
    q = cochran_q(effects, errors)
    return max(0.0, 1 - (len(effects) - 1) / q) if q > 0 else 0.0


def cochran_q(effects: Any, errors: Any) -> float:
    """Return Cochran's Q: the squared distances of effects from their fixed-effect mean, in units of their errors."""
    fixed = 1 / errors**2
    return float((fixed * (effects - (fixed * effects).sum() / fixed.sum()) ** 2).sum())


def replicated(p: Sequence[float], alpha: float) -> int:
    """Count the studies that are shown to improve: the most u for which "fewer than u do" is rejected.

    Example:
        >>> replicated([0.001, 0.01, 0.4], 0.05)
        2
    """
    rising = sorted(p)
    k = len(rising)
    shown = [(k - u + 1) * rising[u - 1] <= alpha for u in range(1, k + 1)]
    return next((u for u, one in enumerate(shown) if not one), k)


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``combined.json``."""
    return json_schema(Combined, SCHEMA)


def _prediction(mean: float, variance: float, k: int, alpha: float) -> tuple[float, float] | None:
    if k < 3:
        return None
    reach = float(stats.t.ppf(1 - alpha / 2, k - 2)) * math.sqrt(variance)
    return mean - reach, mean + reach


def _require_different(results: Sequence[tuple[str, Results]]) -> None:
    """Require two studies or more, none of them twice."""
    if len(results) < 2:
        raise DataError(f"a combination needs two studies or more, got {len(results)}")
    for (earlier, its), (title, own) in combinations(results, 2):
        if _same(its, own):
            whose = "" if earlier == title else f", it has the runs of {earlier}"
            raise DataError(f"{title} is given twice{whose}; a study counts once, so leave one out")


def _terms(results: Sequence[tuple[str, Results]]) -> tuple[str, float]:
    """Return the metric and the alpha that all studies are judged by."""
    metrics = sorted({one.setting.metric for _, one in results})
    if len(metrics) > 1:
        raise DataError(f"the studies are judged by {' and '.join(metrics)}; combine those of one metric")
    alphas = sorted({one.setting.alpha for _, one in results})
    if len(alphas) > 1:
        raise DataError(
            f"the studies are judged at alpha {' and '.join(f'{one:g}' for one in alphas)}, and a combination has one "
            "level; combine those of one alpha"
        )
    return metrics[0], alphas[0]


def _same(one: Results, other: Results) -> bool:
    """Tell whether two results rest on the same runs, wherever their folders are.

    A copy may have gone on, so one run in common is enough where the plan is the same; without a plan, all have to be.
    A run at 0 is no sign: whatever diverged is.
    """
    mine, theirs = ({(run.arm, run.seed, run.value) for run in study.finished} for study in (one, other))
    if mine and mine == theirs:
        return True
    same_plan = one.setting.hash != "" and one.setting.hash == other.setting.hash
    return same_plan and any(value for _, _, value in mine & theirs)


def _one_sided(arm: ArmResult) -> float:
    found = arm.estimate
    return found.p_value / 2 if found.difference > 0 else 1 - found.p_value / 2


def _shown(arm: ArmResult) -> float:
    """Return the one-sided p that a study's own verdict on an arm was made from; 1 where there is no verdict.

    The p of a single look would be too small: a study stops where its looks say so.
    """
    found = arm.verdict
    if found is None or found.outcome == "interim" or found.learning is not None:
        return 1.0
    if found.outcome == "undecided" and found.reason:
        return 1.0
    up = found.outcome == "better" or (found.outcome != "worse" and found.estimate.difference > 0)
    return found.p_difference / 2 if up else 1 - found.p_difference / 2


def _common(results: Sequence[tuple[str, Results]]) -> str:
    names = [[arm.name for arm in one.asked] for _, one in results]
    common = [name for name in names[0] if all(name in others for others in names)]
    if len(common) != 1:
        has = f"have {', '.join(common)} in common" if common else "have no arm in common"
        raise DataError(f"the studies {has}; say which to combine, as in: arm=mhsa@P5")
    return common[0]


def _arm(name: str, results: Results, arm: str) -> ArmResult:
    found = next((one for one in results.arms if one.name == arm), None)
    if found is None:
        raise DataError(f"{name} has no arm {arm!r}; {suggest(arm, [one.name for one in results.arms])}")
    if not 0 < found.estimate.error < math.inf:
        raise DataError(
            f"{name} has no standard error of {arm} from {found.estimate.seeds} pairs of runs; two that differ are "
            "needed"
        )
    return found
