"""What a study says of an arm: `better`, `worse`, `no difference`, or `undecided` and what would decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from attngraft.study.judging.advice import Range, say
from attngraft.study.judging.decision import Outcome
from attngraft.study.judging.statistics import Estimate

Often = Literal["undecided", "more often", "less often"]

OFTEN: tuple[Often, ...] = ("undecided", "more often", "less often")
"""By the numbers of `attngraft.study.judging.decision.Decision.learning`."""


@dataclass(frozen=True)
class Learning:
    """How often an arm and its baseline learned, where not all of their runs did; and how those that did compare.

    Attributes:
        arm: Runs of the arm that learned.
        baseline: Runs of the baseline that did.
        runs: Pairs of runs.
        arm_interval: 95 % interval of the arm's rate (Clopper and Pearson).
        baseline_interval: Of the baseline's.
        outcome: Whether the arm learns more or less often.
        among: The difference among pairs in which both learned; None with fewer than two.
        among_interval: Its 95 % interval.
        among_outcome: Its verdict.
    """

    arm: int
    baseline: int
    runs: int
    arm_interval: tuple[float, float]
    baseline_interval: tuple[float, float]
    outcome: Often
    among: Estimate | None
    among_interval: tuple[float, float]
    among_outcome: Outcome

    def __str__(self) -> str:
        """Say both lines."""
        (a, b), (c, d) = self.arm_interval, self.baseline_interval
        said = {"undecided": "not shown to differ", "more often": "more often", "less often": "less often"}[
            self.outcome
        ]
        first = (
            f"learned in {self.arm} of {self.runs} runs ({100 * a:.0f} % to {100 * b:.0f} %), "
            f"the baseline in {self.baseline} of {self.runs} ({100 * c:.0f} % to {100 * d:.0f} %): {said}"
        )
        if self.among is None:
            return f"{first}; fewer than two pairs in which both learned"
        low, high = self.among_interval
        return (
            f"{first}; among the {self.among.seeds} pairs that learned: {self.among_outcome} "
            f"({self.among.difference:+.2f}, {low:+.2f} to {high:+.2f})"
        )


@dataclass(frozen=True)
class Verdict:
    """What is known of one arm against what it is compared with.

    Attributes:
        arm: Its name.
        metric: What was compared, in AP points.
        outcome: The verdict in words; ``interim`` where a plan with one look has not got all of its pairs.
        estimate: The difference with the pairs up to the last look, runs that did not learn included.
        interval: Of the difference, at ``level``; infinite where none can be given.
        level: Its confidence: over all arms at once, or for `no difference` that of two one-sided tests.
        unbiased: Median-unbiased estimate after looks; as likely too small as too large; None where there is none.
        p_difference: Of no difference in either direction, after looks and Holm.
        p_equivalence: Of a difference of SESOI or more, after looks.
        more_seeds: How many more seeds might decide, at the least and at the most; None where it is decided, or no
            number of seeds would.
        more_images: Where no number of seeds would: about how many times the validation images might; else None.
        remaining: Seeds that the plan still has for it; None where it has no end.
        stop: Whether further seeds are no use: it is decided, the plan's seeds are spent, or no number would decide.
        learned: Whether any run found anything. Where none did, equal zeros are no evidence of equal models.
        learning: How often runs learned, where some did not.
        not_excluded: Rate of failures that as many runs without one do not exclude; None where there were some.
        reason: Why there is no verdict, where seeds are not the reason.
        without_diverged: The difference without pairs in which a run diverged, which counts as 0 AP; None without any.
    """

    arm: str
    metric: str
    outcome: Outcome
    estimate: Estimate
    interval: tuple[float, float]
    p_difference: float
    p_equivalence: float
    more_seeds: Range | None = None
    more_images: float | None = None
    stop: bool = True
    learned: bool = True
    level: float = 0.95
    unbiased: float | None = None
    remaining: int | None = None
    learning: Learning | None = None
    not_excluded: float | None = None
    reason: str = ""
    without_diverged: Estimate | None = None

    def __str__(self) -> str:
        """Say the verdict in one line."""
        low, high = self.interval
        of = f"{100 * self.level:.3g} % interval {low:+.2f} to {high:+.2f}, " if math.isfinite(low + high) else ""
        found = f"{self.metric} {self.estimate.difference:+.2f}, {of}{self.estimate.seeds} seeds"
        return f"{self.arm}: {self.outcome}{self.advice} ({found}){self.caveat}"

    @property
    def advice(self) -> str:
        """What would decide, to be put behind the outcome."""
        if self.outcome == "interim":
            return ": no verdict before all planned pairs"
        if self.outcome != "undecided":
            return ""
        if not self.learned:
            return f": {self.metric} is 0 in every run, so nothing was learned that could be compared; train longer"
        if self.reason:
            return f": {self.reason}"
        return say(self.more_seeds, self.more_images, self.remaining)

    @property
    def caveat(self) -> str:
        """What a verdict leaves open, to be put behind it."""
        if self.learning is not None:
            return f". It {self.learning}"
        if self.not_excluded is not None and self.outcome in ("no difference", "better", "worse"):
            return f". A failure in up to {100 * self.not_excluded:.0f} % of runs is not excluded"
        return ""
