"""What a comparison rests on: what paired runs have in common, and what could not be repeated exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from attngraft.study.plan import STOCK
from attngraft.study.running.records import Record

SHARED: dict[str, Callable[[Record], Any]] = {
    "initial weights outside the grafts": lambda record: tuple(record.watch["weights"]),
    "training images": lambda record: tuple(record.watch["pictures"]),
    "batches of every epoch, pixels included": lambda record: tuple(record.watch["batches"]),
    "batch size": lambda record: record.watch["batch"],
}
"""What runs of one seed have to have in common, to be a pair."""


@dataclass(frozen=True)
class Check:
    """Something that paired runs have to have in common.

    Attributes:
        what: What it is.
        unlike: The runs in which it is not that of the baseline's run of the same seed.
    """

    what: str
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reproducibility:
    """What the comparison rests on.

    Attributes:
        checks: What paired runs have in common, by checksum.
        operators: Operators that PyTorch has no deterministic implementation of.
        devices: Devices that runs were made on.
        resumed: Runs that were interrupted, and the epochs they resumed from.
        environments: Each environment that runs were made in, with how many.
        software: Version of attngraft that computed the results.
    """

    checks: tuple[Check, ...] = ()
    operators: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    resumed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    environments: tuple[dict[str, Any], ...] = ()
    software: str = ""


def reproducibility(records: Sequence[Record]) -> Reproducibility:
    """Compare by checksum what arms of one seed have to have in common, and say what was not deterministic."""
    watched = [record for record in records if record.watch]  # a program of the user's writes nothing down
    stock = {record.seed: record for record in watched if record.arm == STOCK}
    paired = [record for record in watched if record.seed in stock]
    return Reproducibility(
        checks=tuple(
            Check(what, tuple(f"{r.arm} at seed {r.seed}" for r in paired if value(r) != value(stock[r.seed])))
            for what, value in SHARED.items()
        )
        if watched
        else (),
        operators=tuple(sorted({name for record in watched for name in record.watch["nondeterministic"]})),
        devices=tuple(sorted({str(record.environment.get("device")) for record in records})),
        resumed={f"{r.arm} at seed {r.seed}": tuple(r.watch["resumed"]) for r in watched if r.watch["resumed"]},
        environments=environments(records),
        software=own_version(),
    )


def are_pair(one: Record, other: Record) -> bool:
    """Tell whether two runs of one seed had all in common that a pair must.

    Runs of a user's program are taken so, and a run that diverged before its last batch is: it is an outcome.
    """
    given = one.watch and other.watch and not (one.watch.get("diverged") or other.watch.get("diverged"))
    return not given or all(value(one) == value(other) for value in SHARED.values())


def environments(records: Sequence[Record]) -> tuple[dict[str, Any], ...]:
    """Return each different environment that runs were made in, with how many."""
    kinds: dict[str, dict[str, Any]] = {}
    for record in records:
        plain = {key: value for key, value in record.environment.items() if key != "date"}
        kind = kinds.setdefault(json.dumps(plain, sort_keys=True), {**plain, "runs": 0})
        kind["runs"] += 1
    return tuple(kinds.values())


def own_version() -> str:
    """Return the version of attngraft."""
    from attngraft import __version__

    return __version__
