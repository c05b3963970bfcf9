"""Where the differences lie: by metric and object size, and by class, with the false discovery rate controlled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scipy import stats

from attngraft.study.judging.evidence import Evidence
from attngraft.study.judging.statistics import Estimate

FEWEST_SEEDS = 5
"""Nothing of a breakdown is called sure from fewer."""


@dataclass(frozen=True)
class Cell:
    """A difference to the baseline in one metric, size or class.

    Attributes:
        difference: In AP points.
        low: Lower end of its single interval.
        high: Upper end.
        sure: Whether it differs from zero with the false discovery rate of its table controlled.
    """

    difference: float
    low: float
    high: float
    sure: bool


@dataclass(frozen=True)
class Breakdown:
    """Differences of the arms that were asked for, by metric and size, and by class; rows hold a cell for each arm."""

    metrics: dict[str, dict[str, Cell]] = field(default_factory=dict)
    classes: dict[str, dict[str, Cell]] = field(default_factory=dict)


def break_down(evidence: Evidence, alpha: float) -> Breakdown:
    """Return the differences of the arms that were asked for by metric, object size and class, with intervals."""
    arms = [arm.name for arm in evidence.arms if arm.kind == "arm"]
    if not arms:
        return Breakdown()
    found = {arm: evidence.breakdown(arm) for arm in arms}
    metrics = [name for name in evidence.metrics() if all(name in one for one in found.values())]
    shared = [name for name in next(iter(found.values())) if all(name in one for one in found.values())]
    classes = [name for name in shared if name.startswith("AP/") and name not in metrics]
    return Breakdown(
        metrics=cells({name: {arm: found[arm][name] for arm in arms} for name in metrics}, alpha),
        classes=cells({name.removeprefix("AP/"): {arm: found[arm][name] for arm in arms} for name in classes}, alpha),
    )


def cells(table: Mapping[str, Mapping[str, Estimate]], alpha: float) -> dict[str, dict[str, Cell]]:
    """Say of each difference of a table whether it is sure, with the false discovery rate of the table controlled.

    Source: Benjamini and Yekutieli, The control of the false discovery rate in multiple testing under dependency, 2001.
    """
    p = [two_sided(found) for row in table.values() for found in row.values()]
    adjusted = iter(stats.false_discovery_control(p, method="by") if p else ())
    return {
        name: {
            arm: Cell(found.difference, *found.interval(1 - alpha), sure=bool(next(adjusted) <= alpha))
            for arm, found in row.items()
        }
        for name, row in table.items()
    }


def two_sided(found: Estimate) -> float:
    """Return the two-sided p of a difference from zero; 1 with too few seeds to call anything sure."""
    return found.p_value if found.seeds >= FEWEST_SEEDS and found.error > 0 else 1.0
