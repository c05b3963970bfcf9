"""Evidence of runs that have numbers in the place of match tables; images play no part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from attngraft.coco.average_precision import METRICS
from attngraft.study.judging.bootstrap import Resampled
from attngraft.study.judging.evidence import Evidence
from attngraft.study.judging.statistics import Estimate, estimate, rounding
from attngraft.study.plan import STOCK
from attngraft.study.running.records import Record

SIZES = ("APs", "APm", "APl")


@dataclass(frozen=True)
class Numbered(Evidence):
    """One number a run, in points, in the place of its match table."""

    tables: dict[str, dict[int, float]]  # type: ignore[assignment]

    def warnings(self) -> list[str]:
        """Say nothing of images: there are none."""
        return []

    def decidable(self) -> str:
        """Say nothing of images: there are none."""
        return ""

    def _resampled(self, metric: str, arm: str, seeds: tuple[int, ...]) -> Resampled:
        return _without_images(np.array([self.tables[arm][seed] for seed in seeds], dtype=np.float64), self._rounded)

    @cached_property
    def _rounded(self) -> float:
        """The step that all numbers of the study were rounded to."""
        return rounding(number for runs in self.tables.values() for number in runs.values())


@dataclass(frozen=True)
class Recorded(Numbered):
    """What the records of runs say, in the place of their match tables.

    Attributes:
        records: The record of each run, by arm and seed.
    """

    records: Mapping[str, Mapping[int, Record]] = field(default_factory=dict)

    def breakdown(self, arm: str) -> dict[str, Estimate]:
        """Estimate an arm's difference in every metric, and in the AP of every class under ``AP/NAME``."""
        mine, theirs = ([scores(self.records[name][seed]) for seed in self.seeds(arm)] for name in (arm, STOCK))
        found = {}
        for name in mine[0]:
            if all(name in run for run in (*mine, *theirs)):
                values = np.array([one[name] - other[name] for one, other in zip(mine, theirs, strict=True)])
                if np.isfinite(values).all():
                    rounded = rounding(run[name] for run in (*mine, *theirs))
                    found[name] = estimate(_without_images(values, rounded), overlap=self.rule.overlap)
        return found

    def metrics(self) -> list[str]:
        """List the metrics that are broken down: COCO's, or all numbers where there are several."""
        some = next(iter(self.records[STOCK].values()))
        if some.task:
            return super().metrics()
        return list(some.numbers) if len(some.numbers) > 1 else []

    def sizes(self) -> list[str]:
        """List the metrics by size that the ground truth has objects for."""
        some = next(iter(self.records[STOCK].values())).numbers
        return [name for name in SIZES if np.isfinite(some[name])]


def scores(record: Record) -> dict[str, float]:
    """Return all that a record scored, in points: COCO's metrics and the AP of every class, or a program's numbers."""
    if not record.task:
        return {name: 100 * number for name, number in record.numbers.items()}
    of_class = {f"AP/{name}": 100 * row[0] for name, row in zip(record.classes, record.per_class, strict=True)}
    return {name: 100 * record.numbers[name] for name in METRICS} | of_class


def _without_images(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], rounded: float) -> Resampled:
    """Return values that no other images would change."""
    return Resampled(values, np.repeat(values[:, None], 2, axis=1), 0, rounded=rounded)
