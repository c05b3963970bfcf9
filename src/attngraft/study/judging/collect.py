"""From the records of a study to its `Results`: everything that a report says is computed here, once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attngraft.coco.metrics import metric_values
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.breakdown import break_down
from attngraft.study.judging.evidence import Evidence
from attngraft.study.judging.gather import extensions, gather, read_json
from attngraft.study.judging.learning import has_floor, learned
from attngraft.study.judging.reproducibility import own_version, reproducibility
from attngraft.study.judging.results import (
    SCHEMA,
    ArmResult,
    Baseline,
    Cost,
    Results,
    RunResult,
    Setting,
)
from attngraft.study.judging.samples import Sample, disagreements
from attngraft.study.layout import COSTS, EXTENSIONS, SEARCH
from attngraft.study.plan import STOCK, Plan
from attngraft.study.running.folds import fold_of
from attngraft.study.running.records import Record, Run, Store, planned

SHOWN_ARMS = 3
CURVE = {"bbox": "metrics/mAP50-95(B)", "segm": "metrics/mAP50-95(M)"}
"""Column of a run's ``results.csv`` that is drawn, by what is compared; a user's program may call it ``metric``."""


def collect(store: Store, frozen: FrozenPlan, records: Sequence[Record], others: Sequence[str] = ()) -> Results:
    """Compute the results of what is finished.

    Args:
        store: The study's folder; it is read and never written.
        frozen: The plan.
        records: The records of the finished runs, seed by seed.
        others: Other plans on the same data.
    """
    evidence = gather(store, frozen)
    runs = run_results(store, frozen, records, evidence)
    results = results_of(store, evidence, records, runs, without_costs=unmeasured(frozen.plan))
    shown = shown_runs(frozen, evidence) if results.arms else []
    return replace(
        results,
        fingerprint=fingerprint(store, frozen, others),
        samples=samples(store, frozen, shown),
        checkpoints=checkpoints(store, shown),
        others=tuple(others),
    )


def results_of(
    store: Store, evidence: Evidence, records: Sequence[Record], runs: Sequence[RunResult], *, without_costs: str
) -> Results:
    """Compute what follows from evidence and records, with or without the study's own files beside them.

    Args:
        store: The folder whose costs, extensions and search are read, where they are there.
        evidence: What is judged.
        records: The records of the finished runs, seed by seed.
        runs: Every run, finished or not.
        without_costs: Why costs are missing, where they are.
    """
    frozen, costs = evidence.frozen, read_json(store.folder / COSTS)
    arms = table(evidence, {name: cost_of(costs, name) for name in evidence.tables})
    names = [STOCK, *(arm.name for arm in arms)]
    by_arm = {name: [record for record in records if record.arm == name] for name in names}
    return Results(
        fingerprint=frozen.hash,
        setting=setting(frozen, records, extensions(store)),
        complete=bool(arms) and is_complete(frozen, runs, arms),
        arms=tuple(arms),
        baseline=baseline(evidence, cost_of(costs, STOCK), arms),
        runs=tuple(runs),
        breakdown=break_down(evidence, frozen.plan.alpha),
        errors={name: mean_errors(one.errors for one in by_arm[name]) for name in names if arms},
        curves={name: found for name in names if (found := curves(by_arm[name]))},
        reproducibility=reproducibility(records),
        classes=tuple(records[0].classes) if records else (),
        costs_on=costs_on(costs),
        costs_note=costs.get("error", "" if costs else without_costs),
        search=read_json(store.folder / SEARCH),
        warnings=tuple(evidence.warnings()) if arms else (),
    )


def unmeasured(plan: Plan) -> str:
    """Say why there are no costs."""
    if plan.command is not None:
        return "costs are not measured where a program of yours trains"
    return "costs were not measured yet"


def fingerprint(store: Store, frozen: FrozenPlan, others: Iterable[str] = ()) -> str:
    """Return a checksum of all that results are computed from; equal ones mean equal results."""
    names = [COSTS, SEARCH, EXTENSIONS, FrozenPlan.MOVED]
    files = [*(store.folder / name for name in names), *store.records.glob("*.json"), *store.failures.glob("*.json")]
    found = [(file.name, file.read_bytes()) for file in sorted(files) if file.is_file()]
    digest = hashlib.sha256(json.dumps([SCHEMA, own_version(), frozen.hash, *others]).encode())
    for name, content in found:
        digest.update(name.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def setting(frozen: FrozenPlan, records: Sequence[Record], extended: tuple[int, ...] = ()) -> Setting:
    """Say what was compared, on what, and by what rule."""
    plan = frozen.plan
    return Setting(
        base=base_name(plan),
        data=data_name(plan),
        metric=plan.metric,
        task=records[0].task if records else "",
        sesoi=plan.sesoi,
        alpha=plan.alpha,
        seeds=plan.seeds,
        max_seeds=plan.max_seeds,
        split="" if plan.command is not None else plan.split,  # whose data: is a ground truth, or a name
        extensions=extended,
        rule=plan.rule,
        group=plan.group,
        folds=plan.folds,
        max_latency=plan.max_latency,
        hash=frozen.hash,
        train=dict(plan.train),
        batch=records[0].watch.get("batch") if records else None,
    )


def base_name(plan: Plan) -> str:
    """Name the base without the folder it was in."""
    return Path(plan.base).name


def data_name(plan: Plan) -> str:
    """Name the data by the last folder and the file; where they are kept is nobody else's concern.

    Example:
        >>> data_name(Plan(data="fruit/data.yaml", arms=("eca@P5",)))
        'fruit/data.yaml'
    """
    return "/".join(Path(plan.data).parts[-2:])


def table(evidence: Evidence, costs: Mapping[str, Cost]) -> list[ArmResult]:
    """Return the table of verdicts: arms by falling difference, then controls."""
    plan = evidence.frozen.plan
    verdicts, over_conv = evidence.against_stock(), evidence.against_conv()
    estimates = evidence.estimates(plan.metric)
    base = evidence.tables[STOCK]
    base_levels, base_folds = levels(evidence, STOCK, base), folds(plan, base)
    rows = []
    for arm in evidence.arms:
        verdict, found = verdicts.get(arm.name), estimates[arm.name]
        seeds = evidence.seeds(arm.name)
        pairs = evidence.differences(plan.metric, arm.name).observed.tolist()
        values = levels(evidence, arm.name, seeds)
        rows.append(
            ArmResult(
                name=arm.name,
                model=arm.model,
                kind=arm.kind,
                level=float(np.mean(values)),
                level_sd=spread(values),
                estimate=found,
                interval=verdict.interval if verdict else found.interval(1 - plan.alpha),
                confidence=verdict.level if verdict else 1 - plan.alpha,
                differences=dict(zip(seeds, pairs, strict=True)),
                verdict=verdict,
                over_conv=over_conv.get(arm.name),
                better_share=better_share(
                    levels(evidence, arm.name, evidence.tables[arm.name]),
                    base_levels,
                    folds(plan, evidence.tables[arm.name]),
                    base_folds,
                ),
                cost=costs.get(arm.name, Cost()),
                note=arm.note,
            )
        )
    rows.sort(key=lambda row: (row.control, -row.estimate.difference))
    front, counts = pareto(rows), learned_counts(evidence, rows)
    return [replace(row, pareto=row.name in front, learned=counts.get(row.name)) for row in rows]


def learned_counts(evidence: Evidence, arms: Sequence[ArmResult]) -> dict[str, int]:
    """Count the runs of each arm and of the baseline that learned; nothing where all of the study did."""
    if not any(arm.verdict and arm.verdict.learning for arm in arms):
        return {}
    names = [STOCK, *(arm.name for arm in arms)]
    seeds = sorted({seed for name in names for seed in evidence.tables[name]})
    values = np.full((len(names), len(seeds)), np.nan)
    for row, name in enumerate(names):
        there = [seeds.index(seed) for seed in evidence.tables[name]]
        values[row, there] = levels(evidence, name, evidence.tables[name])
    counts = (learned(values, evidence.frozen.plan.sesoi, floor=has_floor(values)) & ~np.isnan(values)).sum(1)
    return dict(zip(names, counts.tolist(), strict=True))


def pareto(arms: Sequence[ArmResult]) -> list[str]:
    """Name the arms that no other, nor the baseline, beats on gain and latency at once; noop is none."""
    points = {a.name: (a.cost.latency[0], a.estimate.difference) for a in arms if a.cost.latency and a.name != "noop"}
    everything = [*points.values(), (1.0, 0.0)]
    return [name for name, point in points.items() if not any(_beats(other, point) for other in everything)]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


def better_share(
    arm: Sequence[float], base: Sequence[float], arm_folds: Sequence[int] = (0,), base_folds: Sequence[int] = (0,)
) -> float:
    """Return the share of all pairs of runs of one fold in which the arm's scores more; ties count half.

    Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021.

    Args:
        arm: Scores of the arm's runs.
        base: Scores of the baseline's runs.
        arm_folds: The fold of each run of the arm, or one fold of all. Runs on different images are no pair: one
            fold is harder than another.
        base_folds: The same of the baseline's runs.

    Example:
        >>> better_share([2.0, 3.0], [1.0, 2.0])
        0.875
        >>> better_share([2.0, 3.0], [1.0, 2.0], arm_folds=[0, 1], base_folds=[0, 1])
        1.0
    """
    one, other = np.broadcast_to(arm_folds, len(arm)), np.broadcast_to(base_folds, len(base))
    wins = (np.sign(np.subtract.outer(arm, base)) + 1) / 2
    return float(wins[np.equal.outer(one, other)].mean())


def folds(plan: Plan, seeds: Iterable[int]) -> list[int]:
    """Return the fold of each seed; 0 where all seeds share their images."""
    return [fold_of(plan, seed) or 0 for seed in seeds]


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation of runs; None of a single one.

    Example:
        >>> spread([40.0, 41.0, 42.0]), spread([40.0])
        (1.0, None)
    """
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def levels(evidence: Evidence, arm: str, seeds: Iterable[int]) -> list[float]:
    """Return the metric of an arm's runs, in points."""
    metric, tables = evidence.frozen.plan.metric, evidence.tables[arm]
    return [one if isinstance(one := tables[seed], float) else float(metric_values(one, metric)[0]) for seed in seeds]


def baseline(evidence: Evidence, cost: Cost, arms: Sequence[ArmResult] = ()) -> Baseline | None:
    """Return what arms are compared with; None before its first run."""
    found = levels(evidence, STOCK, evidence.tables[STOCK])
    counts = learned_counts(evidence, arms)
    return Baseline(len(found), float(np.mean(found)), cost, counts.get(STOCK), spread(found)) if found else None


def run_results(store: Store, frozen: FrozenPlan, records: Sequence[Record], evidence: Evidence) -> list[RunResult]:
    """List every run: those that are finished, and those that the plan begins with."""
    done = {(record.arm, record.seed): record for record in records}
    wanted = [*planned(frozen), *(Run(frozen.arm(name), seed) for name, seed in done)]
    return [_run_result(store, evidence, run, done.get((run.arm.name, run.seed))) for run in dict.fromkeys(wanted)]


def _run_result(store: Store, evidence: Evidence, run: Run, record: Record | None) -> RunResult:
    if record is None:
        error = store.failure(run)
        return RunResult(run.arm.name, run.seed, "failed" if error else "missing", error=error)
    (value,) = levels(evidence, run.arm.name, [run.seed])
    return RunResult(run.arm.name, run.seed, "finished", value, dict(record.numbers), record.seconds)


def is_complete(frozen: FrozenPlan, runs: Sequence[RunResult], arms: Sequence[ArmResult]) -> bool:
    """Tell whether every run that was planned is finished, and every arm decided where looks go on."""
    if any(run.state != "finished" for run in runs) or any(arm.interim for arm in arms):
        return False
    return frozen.plan.max_seeds is None or all(arm.verdict.stop for arm in arms if arm.verdict)


def mean_errors(errors: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Average the cost of each type of error over runs, of those where it was counted."""
    counted = [one for one in errors if one]
    return {kind: float(np.mean([one[kind] for one in counted])) for kind in counted[0]} if counted else {}


def curves(records: Iterable[Record]) -> list[list[float]]:
    """Return AP points after each epoch that all of an arm's runs have, one row a seed."""
    rows = [
        [100 * row.get(CURVE.get(record.task, "metric"), row.get("metric", math.nan)) for row in record.curve]
        for record in records
    ]
    epochs = min(map(len, rows), default=0)
    return [row[:epochs] for row in rows] if epochs else []


def shown_runs(frozen: FrozenPlan, evidence: Evidence) -> list[Run]:
    """Return runs of the baseline and the first arms at the first seed they have in common; none without an arm."""
    asked = [arm for arm in evidence.arms if arm.kind == "arm"][:SHOWN_ARMS]
    if not asked:
        return []
    seed = evidence.seeds(asked[0].name)[0]
    return [
        Run(arm, seed) for arm in (frozen.arm(STOCK), *asked) if arm.name == STOCK or seed in evidence.seeds(arm.name)
    ]


def samples(store: Store, frozen: FrozenPlan, shown: Sequence[Run]) -> tuple[Sample, ...]:
    """Choose the images on which these runs disagree most."""
    if not shown:
        return ()
    fold = fold_of(frozen.plan, shown[0].seed)
    if not store.truth_file(fold).is_file():
        return ()
    return disagreements(store.truth(fold), {run.arm.name: store.detections(run) for run in shown})


def checkpoints(store: Store, shown: Iterable[Run]) -> dict[str, str]:
    """Return the weights of these runs that were evaluated, where they are kept, within the study's folder."""
    files = {run.arm.name: store.training(run) / "weights" / "last.pt" for run in shown}
    return {arm: file.relative_to(store.folder).as_posix() for arm, file in files.items() if file.is_file()}


def cost_of(costs: Mapping[str, Any], arm: str) -> Cost:
    """Read what was measured of an arm."""
    row = next((row for row in costs.get("measurements", ()) if row["name"] == arm), None)
    if row is None:
        return Cost()
    timing = row.get("latency")
    latency = (timing["ratio"], timing["ratio_low"], timing["ratio_high"]) if timing else None
    return Cost(row.get("trained_parameters"), row.get("flops"), latency)


def costs_on(costs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the device and threads that costs were measured with; empty where they were not."""
    return {key: costs["environment"][key] for key in ("device", "threads")} if "environment" in costs else {}
