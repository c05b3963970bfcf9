"""A finished study's ``records.jsonl``, judged again: all that its runs scored, without its match tables.

A study that is published keeps its plan and ``records.jsonl``; the match tables, which weigh more, stay at home. What
images there are then plays no part, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from attngraft._core.errors import DataError, suggest
from attngraft._core.json_text import parse_json
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.collect import results_of
from attngraft.study.judging.evidence import criterion
from attngraft.study.judging.gather import diverged, extensions, failed_runs, read_json, unpaired
from attngraft.study.judging.numbers import Recorded, scores
from attngraft.study.judging.results import Results, RunResult
from attngraft.study.layout import RECORD_LINES, SEARCH
from attngraft.study.plan import STOCK, Arm, Plan, load
from attngraft.study.running.records import Record, Store

IMAGES_LEFT_OUT = "judged from the records alone: how much other images would change is not in the intervals"
CONV = "conv for "
"""How the control of an arm is called after it."""


def judge_records(folder: Path) -> Results:
    """Judge the records of a published study again.

    Args:
        folder: A folder with ``plan.yaml``, as it was given or as it was fixed, and ``records.jsonl``; where they are
            there, costs are read from ``costs.json``, extensions from ``extensions.json``, and what was searched from
            ``search.json``.

    Raises:
        DataError: If the records cannot be read, or hold nothing that can be compared.
        PlanError: If there is no plan.
    """
    file = folder / RECORD_LINES
    records, failures = read_records(file)
    frozen = _frozen(folder, records)
    store = Store(folder)
    by_arm: dict[str, dict[int, Record]] = {STOCK: {}, **{arm.name: {} for arm in frozen.arms}}
    for record in records:
        by_arm[record.arm][record.seed] = record
    metric = frozen.plan.metric
    known = scores(records[0])
    if metric not in known:
        raise DataError(
            f"{file} says nothing of the metric {metric!r}; {suggest(metric, list(known))} Judge the study "
            "where its match tables are: attngraft study report"
        )
    tables = {arm: {seed: scores(one)[metric] for seed, one in runs.items()} for arm, runs in by_arm.items()}
    search = read_json(folder / SEARCH)
    rule = replace(
        criterion(frozen.plan, extensions(store)),
        selected=bool(search) and not search.get("fresh_split"),  # the half that chose nothing is not told apart here
    )
    evidence = Recorded(
        frozen,
        tables,
        finished=_finished(by_arm),
        failed=failed_runs(failures, frozen),
        unpaired=unpaired({(record.arm, record.seed): record for record in records}),
        diverged=diverged(by_arm),
        criterion=rule,
        records=by_arm,
    )
    finished = [
        RunResult(one.arm, one.seed, "finished", tables[one.arm][one.seed], dict(one.numbers), one.seconds)
        for one in records
    ]
    runs = (*finished, *(RunResult(one["arm"], one["seed"], "failed", error=one["error"]) for one in failures))
    results = results_of(store, evidence, records, runs, without_costs="costs are not beside these records")
    if not results.arms:
        raise DataError(f"{file} has no seed at which the baseline and an arm are both finished and a pair")
    return replace(results, warnings=() if frozen.plan.folds or not records[0].task else (IMAGES_LEFT_OUT,))


def read_records(file: Path) -> tuple[list[Record], list[dict[str, Any]]]:
    """Read ``records.jsonl``.

    Returns:
        The records, seed by seed, and the arm, seed and error of each run that failed; files of before name none.

    Raises:
        DataError: If it is missing, or a line is no record.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror}); it is what a study writes beside its report"
        ) from error
    known = {one.name for one in fields(Record)}
    found: list[Record] = []
    failures: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            values: dict[str, Any] = parse_json(line)
            if "error" in values:
                failures.append({"arm": values["arm"], "seed": int(values["seed"]), "error": str(values["error"])})
            else:
                found.append(Record.of({key: value for key, value in values.items() if key in known}))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise DataError(f"{file}, line {number} is no record of a run") from error
    if not found:
        raise DataError(f"{file} has no records")
    return sorted(found, key=lambda record: record.seed), failures


def _frozen(folder: Path, records: Sequence[Record]) -> FrozenPlan:
    """Return the plan with the arms that the records are of."""
    file = folder / FrozenPlan.FILE
    plan = FrozenPlan.read(folder).plan if "hash" in load(file) else Plan.read(file)
    models = {record.arm: record.model for record in records}  # a base that was moved has two names, and an arm is one
    arms = [_arm(name, model, plan) for name, model in models.items()]
    return FrozenPlan(plan, tuple(sorted(arms, key=lambda arm: arm.name != STOCK)), records[0].plan)


def _arm(name: str, model: str, plan: Plan) -> Arm:
    if name in plan.arms:
        return Arm(name, model)
    against = tuple(arm for arm in plan.arms if name == f"{CONV}{arm}")
    return Arm(name, model, "control", against)


def _finished(by_arm: Mapping[str, Mapping[int, Record]]) -> dict[str, dict[int, str]]:
    return {arm: {seed: one.finished for seed, one in runs.items()} for arm, runs in by_arm.items()}
