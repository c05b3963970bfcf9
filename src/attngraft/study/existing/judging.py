"""``attngraft study judge``: the verdicts of a study for runs that exist already, of whatever program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attngraft._core.errors import OutputError
from attngraft._core.files import free_path
from attngraft.coco.metrics import metric_values, parse_metric, require_classes
from attngraft.study.existing.runs import Found
from attngraft.study.existing.table import Numbers, left_out, require_pairs
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.breakdown import break_down
from attngraft.study.judging.collect import SHOWN_ARMS, mean_errors, table
from attngraft.study.judging.collect import baseline as baseline_of
from attngraft.study.judging.evidence import Evidence
from attngraft.study.judging.numbers import Numbered
from attngraft.study.judging.reproducibility import Reproducibility, own_version
from attngraft.study.judging.results import Cost, Results, RunResult, Setting
from attngraft.study.judging.samples import disagreements
from attngraft.study.plan import STOCK, Arm, Plan, check_fields
from attngraft.study.reporting.report import Conclusion, write_report

BASELINES = (STOCK, "baseline")
"""Names that an arm is taken as the baseline by, where none is named."""


@dataclass(frozen=True)
class Labels(Plan):
    """What runs that exist already are judged by; its arms are names, and nothing is trained."""

    def __post_init__(self) -> None:
        """Check what is judged by, and take names and data as they are."""
        check_fields(self, "seeds", "sesoi", "alpha")


@dataclass(frozen=True)
class Terms:
    """What existing runs are judged by.

    Args:
        metric: What the numbers are; one of COCO's where detections are evaluated.
        baseline: The arm that the others are compared with; None takes ``stock``, ``baseline`` or the first.
        sesoi: Smallest effect size of interest, in points.
        alpha: Family-wise error of the verdicts.
        drop: Whether runs without a partner are left out.
    """

    metric: str = "AP"
    baseline: str | None = None
    sesoi: float = 0.5
    alpha: float = 0.05
    drop: bool = False


def judge_numbers(numbers: Numbers, source: str, terms: Terms) -> Results:
    """Judge numbers of runs.

    Args:
        numbers: The number of each arm at each seed, in points.
        source: Where they are from, for the report.
        terms: What they are judged by.

    Raises:
        DataError: If runs cannot be paired.
        PlanError: If ``sesoi`` or ``alpha`` cannot be.
    """
    numbers = {arm: {seed: float(number) for seed, number in seeds.items()} for arm, seeds in numbers.items()}
    base = terms.baseline or _baseline(numbers)
    require_pairs(numbers, base, drop=terms.drop)
    renamed = _renamed(numbers, base)
    evidence = Numbered(_frozen(renamed, source, replace(terms, metric="AP")), renamed)
    runs = [
        RunResult(arm, seed, "finished", number)
        for arm, seeds in renamed.items()
        for seed, number in sorted(seeds.items())
    ]
    results = _results(evidence, base, "", terms.metric, runs)
    return replace(results, warnings=(*results.warnings, *left_out(numbers, base)))


def judge_found(found: Found, terms: Terms) -> Results:
    """Judge evaluated runs.

    Args:
        found: The runs.
        terms: What they are judged by.

    Raises:
        DataError: If runs cannot be paired.
        PlanError: If ``sesoi`` or ``alpha`` cannot be.
        UnknownNameError: If there is no such metric.
    """
    parse_metric(terms.metric)
    base = terms.baseline or _baseline(found.scored)
    require_pairs(found.scored, base, drop=terms.drop)
    scored = _renamed(found.scored, base)
    tables = {arm: {seed: one.matches for seed, one in seeds.items()} for arm, seeds in scored.items()}
    evidence = Evidence(_frozen(scored, found.data, terms), tables)
    some = next(iter(scored[STOCK].values())).matches
    require_classes(terms.metric, some.classes.tolist())
    costs = {arm: Cost(count) for arm, count in _renamed(found.parameters, base).items()}
    results = _results(evidence, base, found.task, terms.metric, _runs(scored, terms.metric), costs)
    return replace(
        results,
        setting=replace(results.setting, split=found.split, train=found.training, batch=found.training.get("batch")),
        warnings=(*results.warnings, *left_out(found.scored, base), *found.notes),
        breakdown=break_down(evidence, terms.alpha),
        errors={arm: mean_errors(seeds.values()) for arm, seeds in _renamed(found.errors, base).items()},
        samples=_samples(found, base),
        classes=tuple(some.classes.tolist()),
    )


def write_judgement(results: Results, folder: Path | None) -> Conclusion:
    """Write the report and ``results.json``.

    Args:
        results: The results.
        folder: Where to; None takes ``judged``, or ``judged-2`` if that is there.

    Raises:
        OutputError: If the folder holds something else.
    """
    folder = folder or free_path(Path("judged"))
    if folder.exists() and any(folder.iterdir()) and not (Results.are_in(folder) and not _study(folder)):
        raise OutputError(f"{folder} holds something else than a judgement; name another folder with -o")
    concluded = write_report(results, folder)
    results.save(folder)
    return concluded


def _study(folder: Path) -> bool:
    return (folder / FrozenPlan.FILE).is_file()


def _baseline(arms: Mapping[str, Any]) -> str:
    return next((name for name in BASELINES if name in arms), next(iter(arms), STOCK))


def _renamed(arms: Mapping[str, Any], baseline: str) -> dict[str, Any]:
    """Put the baseline first, under the name that it has in every study."""
    rest = {name: runs for name, runs in arms.items() if name != baseline}
    return {STOCK: arms[baseline], **rest} if baseline in arms else rest


def _frozen(arms: Mapping[str, Mapping[int, Any]], data: str, terms: Terms) -> FrozenPlan:
    names = tuple(name for name in arms if name != STOCK)
    plan = Labels(
        data,
        names,
        controls=("stock",),
        seeds=min(len(arms[name].keys() & arms[STOCK].keys()) for name in names),
        metric=terms.metric,
        sesoi=terms.sesoi,
        alpha=terms.alpha,
    )
    return FrozenPlan(plan, (Arm(STOCK, "", "control"), *(Arm(name, "") for name in names)))


def _results(
    evidence: Evidence,
    base: str,
    task: str,
    metric: str,
    runs: Sequence[RunResult],
    costs: Mapping[str, Cost] = MappingProxyType({}),
) -> Results:
    plan = evidence.frozen.plan
    arms = [
        replace(arm, verdict=replace(arm.verdict, metric=metric) if arm.verdict else None)
        for arm in table(evidence, costs)
    ]
    return Results(
        fingerprint=evidence.frozen.hash,
        setting=Setting(
            base=base,
            data=plan.data,
            metric=metric,
            task=task,
            sesoi=plan.sesoi,
            alpha=plan.alpha,
            seeds=plan.seeds,
            max_seeds=None,
            split="",
        ),
        complete=True,
        arms=tuple(arms),
        baseline=baseline_of(evidence, costs.get(STOCK, Cost()), arms),
        runs=tuple(runs),
        reproducibility=Reproducibility(software=own_version()),
        warnings=tuple(evidence.warnings()),
    )


def _runs(scored: Mapping[str, Mapping[int, Any]], metric: str) -> list[RunResult]:
    return [
        RunResult(arm, seed, "finished", float(metric_values(one.matches, metric)[0]), dict(one.numbers))
        for arm, seeds in scored.items()
        for seed, one in sorted(seeds.items())
    ]


def _samples(found: Found, base: str) -> Any:
    if "root" not in found.truth:
        return ()
    shown = dict(list(_renamed(found.detections, base).items())[: SHOWN_ARMS + 1])
    seed = min(set.intersection(*(set(seeds) for seeds in shown.values())), default=None)
    return disagreements(found.truth, {arm: seeds[seed] for arm, seeds in shown.items()}) if seed is not None else ()
