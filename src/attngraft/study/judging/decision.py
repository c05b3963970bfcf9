"""Decisions, look by look: which arms are better or worse than the baseline, no different from it, or still open.

    sequential_p(course, rule)   of every question
    decide(p_values, ...)        verdicts

`better` and `worse` are held over all arms by Holm, `no difference` arm by arm by two one-sided tests. An arm in whose
pairs a run did not learn is judged by how often it learns, and by the pairs that did, instead of by its mean; see
`attngraft.study.judging.learning`. It is then never `no difference`. Neither is one before `EQUAL_FROM` seeds, which is
what it takes to exclude failures in a third of the runs, nor one whose baseline has itself learned next to nothing.

Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 1987 (two one-sided tests).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attngraft.study.judging.course import Course, Moments
from attngraft.study.judging.learning import Bools, Floats
from attngraft.study.judging.sequential import Looks, Rule
from attngraft.study.judging.statistics import gatekeep, holm

Outcome = Literal["undecided", "better", "worse", "no difference", "interim"]

OUTCOMES: tuple[Outcome, ...] = ("undecided", "better", "worse", "no difference", "interim")
"""By the numbers that `decide` gives them; it never gives the last, which is of a plan that is not carried out yet."""

BETTER, WORSE, EQUAL = 1, 2, 3

EQUAL_FROM = 8
"""Seeds before which nothing is called equal."""

LEAST_LEVEL = 10
"""SESOIs that a baseline must reach before anything is called equal to it."""


@dataclass(frozen=True, eq=False)
class PValues:
    """Sequential p-values at K looks, ``(..., A, K)``; 1 where there is no look.

    Attributes:
        above: Against a difference of zero or less.
        below: Against one of zero or more.
        inside_low: Against one of minus the SESOI or less.
        inside_high: Against one of the SESOI or more.
        more: Against an arm that learns no more often.
        less: Against one that learns no less often.
        among_above: As ``above``, of the pairs that learned.
        among_below: As ``below``, of those.
        course: What they were made of.
    """

    above: Floats
    below: Floats
    inside_low: Floats
    inside_high: Floats
    more: Floats
    less: Floats
    among_above: Floats
    among_below: Floats
    course: Course


@dataclass(frozen=True, eq=False)
class Decision:
    """Verdicts on arms, of one study or of many simulated ones at once, ``(..., A)``.

    Attributes:
        outcome: Index into `OUTCOMES`.
        look: Index of the look at which it fell, or of the last.
        p_difference: Of no difference, two-sided, after looks and Holm.
        p_single: The same before Holm.
        p_equivalence: Of a difference of SESOI or more, after looks.
        clean: Whether all runs of its pairs learned, up to that look.
        learning: Whether it learns more often (`BETTER`) or less often (`WORSE`), where they did not.
        among: Whether it is `BETTER` or `WORSE` among the pairs that learned, where not all did.
    """

    outcome: NDArray[np.int64]
    look: NDArray[np.int64]
    p_difference: Floats
    p_single: Floats
    p_equivalence: Floats
    clean: Bools
    learning: NDArray[np.int64]
    among: NDArray[np.int64]


def equality(rule: Rule, before: int = 0) -> Rule:
    """Return the rule for calling arms equal, whose looks begin at `EQUAL_FROM` seeds, ``before`` ones included."""
    first = EQUAL_FROM - before
    if isinstance(rule, Looks) and rule.first < first < rule.last:
        return replace(rule, first=first)
    return rule


def sequential_p(course: Course, rule: Rule, *, sesoi: float, before: int = 0) -> PValues:
    """Turn estimates at looks into sequential p-values, for one stage.

    Args:
        course: The estimates.
        rule: What allows for the looks.
        sesoi: Smallest effect worth having.
        before: Pairs of earlier stages.
    """
    equal = equality(rule, before)
    every, among = course.every, course.among
    return PValues(
        above=difference_p(every, course, rule, 0, 1),
        below=difference_p(every, course, rule, 0, -1),
        inside_low=difference_p(every, course, equal, -sesoi, 1),
        inside_high=difference_p(every, course, equal, -sesoi, -1),
        more=_learning_p(course, rule, course.arm, course.baseline),
        less=_learning_p(course, rule, course.baseline, course.arm),
        among_above=difference_p(among, course, rule, 0, 1),
        among_below=difference_p(among, course, rule, 0, -1),
        course=course,
    )


def difference_p(moments: Moments, course: Course, rule: Rule, bound: Floats | float, sign: int) -> Floats:
    """Return the sequential p against ``sign * difference <= bound`` at every look; 1 before the first of the rule."""
    p = np.where(course.is_open, moments.p_values(bound, sign), 1)
    if isinstance(rule, Looks) and rule.first == rule.last:
        return rule.p_values(p)
    skipped = max(rule.first - course.first, 0)
    found = np.ones_like(p)
    if skipped < p.shape[-1]:
        found[..., skipped:] = rule.p_values(p[..., skipped:], np.maximum(moments.freedom[..., skipped:], 1))
    return found


def _learning_p(course: Course, rule: Rule, one: NDArray[Any], other: NDArray[Any]) -> Floats:
    """Return the sequential p against ``one`` learning no more often than ``other``; 1 where all runs learned."""
    found = np.ones(course.clean.shape)
    dirty = (~course.clean & course.is_open).any(-1)
    if dirty.any():
        seeds = np.maximum(course.every.freedom + 1, 0).astype(np.int64)
        p = rule.more_often(*(values[dirty] for values in (one, other, course.both, seeds)))
        found[dirty] = np.where(course.is_open[dirty], p, 1)
    return found


def decide(
    found: PValues, *, sesoi: float, alpha: float, planned: int | None = None, second: Floats | None = None
) -> Decision:
    """Judge arms look by look; an arm with a verdict is looked at no more.

    A difference shown and equivalence shown at once is `no difference`: it is there, and not worth having.

    Args:
        found: Sequential p-values at the looks taken.
        sesoi: Smallest effect worth having.
        alpha: Family-wise error over the arms of `better` and `worse`; error of each `no difference`.
        planned: Arms of the plan, if some have no runs; Holm counts them.
        second: Sequential two-sided p of each arm's second question, against its matched convolution; 1 where that
            was not asked. None where no arm has one.
    """
    shape = found.above.shape[:-1]
    outcome, look = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    state = _State(np.ones(shape), np.ones(shape), np.ones(shape), np.ones(shape), np.ones(shape, dtype=bool))
    asked = np.ones(shape)
    for k in range(found.above.shape[-1]):
        waiting = outcome == 0
        look[waiting] = k
        state = state.moved(found, k, waiting, sesoi)
        adjusted = adjust(state.p, None if second is None else asked, planned)
        outcome = np.where(waiting, state.outcome(found, k, adjusted, alpha), outcome)
    if second is not None:
        asked = second
        adjusted = adjust(state.p, asked, planned)
        late = state.outcome(found, found.above.shape[-1] - 1, adjusted, alpha)
        outcome = np.where(outcome == 0, late, outcome)
    adjusted = adjust(state.p, None if second is None else asked, planned)
    lines = [np.where(state.clean, 0, line) for line in state.lines(found, look, adjusted, alpha)]
    return Decision(outcome, look, adjusted, state.p, state.equal, state.clean, *lines)


def adjust(p: Floats, second: Floats | None, planned: int | None) -> Floats:
    """Adjust two-sided p-values for the planned number of arms, and for their second questions where they have some."""
    missing = max((planned or 0) - p.shape[-1], 0)
    padded = np.concatenate([p, np.ones((*p.shape[:-1], missing))], -1)
    if second is None:
        return holm(padded)[..., : p.shape[-1]]
    asked = np.concatenate([second, np.ones((*p.shape[:-1], missing))], -1)
    return gatekeep(padded, asked)[0][..., : p.shape[-1]]


@dataclass(frozen=True, eq=False)
class _State:
    """Arms at their last look: p of a difference, of equivalence, of the two lines, and whether all runs learned."""

    p: Floats
    equal: Floats
    learning: Floats
    among: Floats
    clean: Bools

    def moved(self, found: PValues, k: int, waiting: Bools, sesoi: float) -> _State:
        """Move the arms that wait on to look k."""
        course = found.course
        mean = _two_sided(found.above, found.below, k)
        learning, among = _two_sided(found.more, found.less, k), _two_sided(found.among_above, found.among_below, k)
        learning, among = _holm_of_two(learning, among)
        clean = course.clean[..., k]
        may_be_equal = clean & (course.seeds[..., k] >= EQUAL_FROM) & (course.level[..., k] >= LEAST_LEVEL * sesoi)
        equal = np.where(may_be_equal, np.maximum(found.inside_low[..., k], found.inside_high[..., k]), 1)
        now = (np.where(clean, mean, np.minimum(learning, among)), equal, learning, among, clean)
        was = (self.p, self.equal, self.learning, self.among, self.clean)
        return _State(*(np.where(waiting, new, old) for new, old in zip(now, was, strict=True)))

    def outcome(self, found: PValues, k: int, adjusted: Floats, alpha: float) -> NDArray[np.int64]:
        """Say the outcomes at look k."""
        up = found.above[..., k] < found.below[..., k]
        by_mean = np.where(adjusted <= alpha, np.where(up, BETTER, WORSE), 0)
        learning, among = self.lines(found, np.full(up.shape, k), adjusted, alpha)
        by_lines = np.where((learning != 0) & ((among == 0) | (among == learning)), learning, 0)
        return np.where(self.equal <= alpha, EQUAL, np.where(self.clean, by_mean, by_lines))

    def lines(
        self, found: PValues, look: NDArray[np.int64], adjusted: Floats, alpha: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Say whether arms learn more or less often, and are better or worse among the pairs that learned."""
        with np.errstate(invalid="ignore", divide="ignore"):
            counted = np.where(self.p > 0, adjusted / self.p, 1)
        said = []
        for p, rising, falling in (
            (self.learning, found.more, found.less),
            (self.among, found.among_above, found.among_below),
        ):
            up = _at(rising, look) < _at(falling, look)
            said.append(np.where(p * counted <= alpha, np.where(up, BETTER, WORSE), 0))
        return said[0], said[1]


def _two_sided(above: Floats, below: Floats, k: int) -> Floats:
    return np.minimum(2 * np.minimum(above[..., k], below[..., k]), 1)


def _holm_of_two(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Adjust two questions about one arm for each other; a question that could not be asked (p of 1) does not count."""
    both = (one < 1) & (other < 1)
    least, most = np.minimum(one, other), np.maximum(one, other)
    least = np.minimum(np.where(both, 2, 1) * least, 1)
    most = np.maximum(least, most)
    first = one <= other
    return np.where(first, least, most), np.where(first, most, least)


def _at(values: Floats, look: NDArray[np.int64]) -> Floats:
    return np.asarray(np.take_along_axis(values, look[..., None], -1)[..., 0])
