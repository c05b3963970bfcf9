"""How a study is looked at: once, after every seed, for ever, or by a plan and its extensions; and what that gives.

Intervals come from the same p-values as verdicts: a bound is outside where the sequential p against it is too small. So
they hold wherever the study stopped, an arm that is `better` has all of its interval above zero, and one that is
`no difference` has all of it within the SESOI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import OptionError
from attngraft.study.judging.course import Course, Pairs, course, joined
from attngraft.study.judging.decision import PValues, difference_p, equality, sequential_p
from attngraft.study.judging.learning import Floats
from attngraft.study.judging.sequential import RESERVE, Anytime, Looks, Rule, combine
from attngraft.study.judging.statistics import halve

REACH = 200.0
"""Standard errors within which a limit is searched; two pairs have a t as large in a few cases of a thousand."""


@dataclass(frozen=True)
class Design:
    """When a study is looked at.

    A plan with looks keeps a `RESERVE` of its alpha for extensions. One that looks once is a plain t test at all of its
    alpha; an extension of it spends as much again as a reserve would have held.

    Args:
        first: Seeds before the first look.
        stages: Seeds at the end of the plan and of each extension, rising; the one look where the plan ends at
            ``first``. None looks for ever.

    Raises:
        OptionError: If a stage has too few seeds.
    """

    first: int
    stages: tuple[int, ...] | None

    def __post_init__(self) -> None:
        """Check the stages."""
        if self.stages is not None:
            for stage, seeds in enumerate(self.planned):
                if seeds < 2:
                    raise OptionError(f"an extension needs 2 seeds or more, got {seeds} for stage {stage + 1}")
            _ = self.rules

    @property
    def planned(self) -> tuple[int, ...]:
        """Seeds of each stage."""
        return () if self.stages is None else tuple(np.diff([0, *self.stages]).tolist())

    @property
    def looks_once(self) -> bool:
        """Whether the plan, extensions apart, has a single look."""
        return self.stages is not None and self.stages[0] == self.first

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What allows for the looks of each stage."""
        if self.stages is None:
            return (Anytime(self.first),)
        reserve = RESERVE if len(self.stages) == 1 and not self.looks_once else 0.0
        return (Looks(self.first, self.stages[0], reserve), *(Looks(2, seeds) for seeds in self.planned[1:]))

    def courses(self, pairs: Pairs, sesoi: float) -> list[Course]:
        """Estimate at every look that the pairs suffice for, stage by stage."""
        seeds = pairs.arm.shape[-1]
        if self.stages is None:
            return [course(pairs, range(min(self.first, seeds), seeds + 1), sesoi=sesoi)]
        found: list[Course] = []
        for start, end, rule in zip((0, *self.stages), self.stages, self.rules, strict=False):
            last = min(end, seeds)
            first = start + rule.first
            if first > last and found:
                break
            counts = range(first, last + 1) if rule.first < end - start else [last]
            found.append(course(pairs, counts or [last], sesoi=sesoi, start=start))
        return found

    def p_values(self, courses: Sequence[Course], sesoi: float) -> PValues:
        """Turn the courses into sequential p-values, one after another over the stages."""
        starts = (0, *(self.stages or ()))
        parts = [
            sequential_p(one, rule, sesoi=sesoi, before=start)
            for one, rule, start in zip(courses, self.rules, starts, strict=False)
        ]
        if self.stages is None or len(self.stages) == 1:
            return parts[0]
        names = [field.name for field in fields(PValues) if field.name != "course"]
        values = {name: self._combined([getattr(part, name) for part in parts], courses) for name in names}
        return PValues(**values, course=joined(courses, np.concatenate))

    def p_value(self, courses: Sequence[Course], look: NDArray[Any], bound: Floats, sign: int, *, kind: str) -> Floats:
        """Return the sequential p against ``sign * difference <= bound`` at each arm's look, ``(..., A)``.

        Args:
            courses: The estimates.
            look: Index of each arm's last look, over all stages.
            bound: The bound of each arm.
            sign: Of the direction.
            kind: Of the pairs, ``every`` or ``among``; or ``equal`` for every pair, by the rule for calling arms equal.
        """
        starts = (0, *(self.stages or ()))
        parts = []
        for one, rule, start in zip(courses, self.rules, starts, strict=False):
            moments = one.among if kind == "among" else one.every
            chosen = equality(rule, start) if kind == "equal" else rule
            parts.append(difference_p(moments, one, chosen, bound[..., None], sign))
        p = parts[0] if self.stages is None or len(self.stages) == 1 else self._combined(parts, courses)
        return np.asarray(np.take_along_axis(p, look[..., None], -1)[..., 0])

    def interval(
        self, courses: Sequence[Course], look: NDArray[Any], alpha: Floats | float, *, kind: str
    ) -> tuple[Floats, Floats]:
        """Return the bounds against which the one-sided p-values are ``alpha``, ``(..., A)`` each."""
        moments = [one.among if kind == "among" else one.every for one in courses]
        mean = np.concatenate([part.mean for part in moments], -1)
        error = np.concatenate([part.error for part in moments], -1)
        later = (np.arange(mean.shape[-1]) > look[..., None]) | np.isnan(mean)
        reach = REACH * np.where(later, 0, error).max(-1)
        ends = []
        for sign in (1, -1):
            top = np.where(later, -np.inf, sign * mean).max(-1)
            known = np.isfinite(top)
            start = np.where(known, top, 0.0)
            rising = partial(self._above, courses, look, sign, kind, alpha)
            end = halve(rising, start - reach, start)
            ends.append(np.where(known & (end > start - reach * 0.999), end, -np.inf))
        return ends[0], -ends[1]

    def _above(
        self, courses: Sequence[Course], look: NDArray[Any], sign: int, kind: str, alpha: Floats | float, bound: Floats
    ) -> Floats:
        return self.p_value(courses, look, bound, sign, kind=kind) - alpha

    def _combined(self, stages: Sequence[Floats], courses: Sequence[Course]) -> Floats:
        """Combine the p-values of stages, each at all of its looks, into one row of looks."""
        rows = []
        for index, now in enumerate(stages):
            before = [np.broadcast_to(part[..., -1:], now.shape) for part in stages[:index]]
            shared = [1 - one.every.share for one in courses[: index + 1]]
            correlation = 0.0 if index == 0 else np.sqrt(shared[0][..., -1:] * shared[-1])
            rows.append(combine([*before, now], self.planned[: index + 1], correlation))
        return np.concatenate(rows, -1) * (1 - RESERVE if self.looks_once else 1)
