"""From a study's folder to its evidence, and to the runs that are still wanted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.errors import DataError
from attngraft.coco.matches import Matches
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.bootstrap import Draw
from attngraft.study.judging.cache import Cache
from attngraft.study.judging.evidence import RESAMPLES, Evidence, criterion
from attngraft.study.judging.numbers import Recorded, scores
from attngraft.study.judging.reproducibility import are_pair
from attngraft.study.judging.selection import confirming
from attngraft.study.layout import EXTENSIONS, SEARCH
from attngraft.study.plan import STOCK
from attngraft.study.running.folds import groups
from attngraft.study.running.records import Record, Run, Store, at_seed


def gather(store: Store, frozen: FrozenPlan, *, keep: bool = False) -> Evidence:
    """Read every finished run of a study.

    Args:
        store: Its folder.
        frozen: Its plan.
        keep: Whether to keep in the folder what is resampled, for the next look.
    """
    later = extensions(store)
    rule = criterion(frozen.plan, later)
    runs = list(store.finished(all_runs(store, frozen)))
    records: dict[str, dict[int, Record]] = {arm.name: {} for arm in frozen.arms}
    for run in runs:
        records[run.arm.name][run.seed] = store.record(run)
    kept: dict[str, Any] = {
        "finished": {arm: {seed: one.finished for seed, one in seeds.items()} for arm, seeds in records.items()},
        "failed": failed_runs(store.failed(), frozen),
        "diverged": diverged(records),
        "unpaired": unpaired({(arm, seed): one for arm, seeds in records.items() for seed, one in seeds.items()}),
    }
    if _numbers_alone(records):
        numbers = {
            arm: {seed: scores(one)[frozen.plan.metric] for seed, one in seeds.items()}
            for arm, seeds in records.items()
        }
        return Recorded(frozen=frozen, tables=numbers, criterion=rule, records=records, **kept)
    tables: dict[str, dict[int, Matches]] = {arm.name: {} for arm in frozen.arms}
    for run in runs:
        tables[run.arm.name][run.seed] = store.matches(run)
    draw, selected = draw_of(store, frozen, next((one for arm in tables.values() for one in arm.values()), None))
    return Evidence(
        frozen=frozen,
        tables=tables,
        criterion=replace(rule, selected=selected),
        draw=draw,
        cache=Cache(store.folder / "cache" / "judging", keep),
        **kept,
    )


def _numbers_alone(records: Mapping[str, Mapping[int, Record]]) -> bool:
    """Tell whether runs have numbers in the place of detections.

    Raises:
        DataError: If some have and some have not.
    """
    kinds = {not one.task: f"{one.arm}, seed {one.seed}" for seeds in records.values() for one in seeds.values()}
    if len(kinds) > 1:
        raise DataError(
            f"{kinds[True]} has numbers alone and {kinds[False]} detections; remove the records of one kind, and let "
            "the program write the same files for every arm and seed"
        )
    return True in kinds


def diverged(records: Mapping[str, Mapping[int, Record]]) -> dict[str, frozenset[int]]:
    """Find the runs that diverged, by arm.

    Args:
        records: The record of each run, by arm and seed.
    """
    return {
        arm: frozenset(seed for seed, one in seeds.items() if one.watch.get("diverged"))
        for arm, seeds in records.items()
    }


def unpaired(records: Mapping[tuple[str, int], Record]) -> dict[str, frozenset[int]]:
    """Find the runs that are no pair with the baseline's of their seed: another batch size, other images, ...

    Args:
        records: The records, by arm and seed.
    """
    found: dict[str, set[int]] = {}
    for (arm, seed), record in records.items():
        stock = records.get((STOCK, seed))
        if stock is not None and not are_pair(record, stock):
            found.setdefault(arm, set()).add(seed)
    return {arm: frozenset(seeds) for arm, seeds in found.items()}


def draw_of(store: Store, frozen: FrozenPlan, run: Matches | None) -> tuple[Draw, bool]:
    """Say how images are drawn, and whether all of them chose the arms.

    Args:
        store: The study's folder.
        frozen: Its plan.
        run: Any of its runs.

    Raises:
        DataError: If the plan's ``group`` finds no group in the name of an image.
    """
    search = read_json(store.folder / SEARCH)
    chosen = bool(search) and not search.get("fresh_split")
    halves = chosen and bool(search.get("halves")) and frozen.plan.folds is None
    if run is None or frozen.plan.folds or not (halves or frozen.plan.group):
        return Draw(RESAMPLES), chosen
    names = {image["id"]: str(image["file_name"]) for image in store.truth()["images"]}
    files = [names[image] for image in run.images.tolist()]
    named = groups([Path(file).name for file in files], frozen.plan.group)
    numbers = np.unique(named, return_inverse=True)[1] if frozen.plan.group else None
    return Draw(
        RESAMPLES, groups=numbers, kept=confirming(files, frozen.plan.group) if halves else None
    ), chosen and not halves


def read_json(file: Path) -> dict[str, Any]:
    """Read a file of the study's folder; nothing where there is none."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def extensions(store: Store) -> tuple[int, ...]:
    """Return the most seeds after each extension of a study's plan."""
    file = store.folder / EXTENSIONS
    return tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()


def all_runs(store: Store, frozen: FrozenPlan) -> list[Run]:
    """List every run that a plan and its extensions may ask for, seed by seed."""
    last = criterion(frozen.plan, extensions(store)).last or frozen.plan.seeds
    seeds = range(frozen.plan.first_seed, frozen.plan.first_seed + last)
    return [run for seed in seeds for run in at_seed(frozen.arms, seed)]


def failed_runs(failures: Iterable[Mapping[str, Any]], frozen: FrozenPlan) -> dict[str, frozenset[int]]:
    """Return the seeds at which each arm was tried and failed.

    Args:
        failures: The arm and the seed of each, as `Store.failed` returns them.
        frozen: The plan.
    """
    found: dict[str, set[int]] = {arm.name: set() for arm in frozen.arms}
    for failure in failures:
        if failure.get("arm") in found:
            found[failure["arm"]].add(int(failure["seed"]))
    return {name: frozenset(seeds) for name, seeds in found.items()}


def undecided(store: Store, frozen: FrozenPlan) -> list[Run]:
    """Return the runs of the next seed for the arms that may still be decided, and for what they are compared with.

    The next seed is the first that was not attempted. An arm that came out better is then compared with its
    convolution, from the first seed on, until that is decided too.
    """
    evidence = gather(store, frozen, keep=True)
    wanted: list[Run] = []
    first = evidence.against_stock()
    later = evidence.against_conv()
    for name, verdict in first.items():
        control = evidence.conv(name)
        if not verdict.stop and evidence.rule.looks_often:
            wanted += evidence.next_pair(name, STOCK)
        elif verdict.outcome == "better" and control is not None and not (name in later and later[name].stop):
            wanted += evidence.next_pair(name, control.name)
    return list(dict.fromkeys(wanted))
