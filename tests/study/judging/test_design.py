"""Looks, stages and intervals: against plain t tests, and against the verdicts that they go with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attngraft.study.judging.course import Pairs
from attngraft.study.judging.decision import OUTCOMES, decide
from attngraft.study.judging.design import Design

RNG = np.random.default_rng(0)


def pairs(studies: int, arms: int, seeds: int, effect: float = 0.0, image_sd: float = 0.0) -> Pairs:
    arm = 40 + effect + 0.3 * RNG.standard_normal((studies, arms, seeds))
    images = image_sd * RNG.standard_normal((studies, arms, 1))
    return Pairs(arm + images, 40 + 0.3 * RNG.standard_normal((studies, 1, seeds)), image_sd**2)


def judged(design: Design, made: Pairs, sesoi: float = 0.5, alpha: float = 0.05):
    courses = design.courses(made, sesoi)
    found = design.p_values(courses, sesoi)
    return courses, found, decide(found, sesoi=sesoi, alpha=alpha)


def test_one_look_is_the_paired_t_test_and_its_interval() -> None:
    made = pairs(4, 2, 9, 0.4)
    design = Design(9, (9,))
    courses, found, decision = judged(design, made)
    difference = made.arm - made.baseline
    expected = stats.ttest_1samp(difference, 0, axis=-1)
    np.testing.assert_allclose(decision.p_single, np.minimum(expected.pvalue, 1))
    np.testing.assert_allclose(
        found.above[..., 0], stats.ttest_1samp(difference, 0, axis=-1, alternative="greater").pvalue
    )
    low, high = design.interval(courses, decision.look, 0.025, kind="every")
    np.testing.assert_allclose(low, expected.confidence_interval().low, atol=1e-8)
    np.testing.assert_allclose(high, expected.confidence_interval().high, atol=1e-8)


@pytest.mark.parametrize("design", [Design(3, (15,)), Design(3, (10, 15)), Design(5, (5, 15)), Design(3, None)])
@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_intervals_hold_the_truth_and_agree_with_verdicts(design: Design, effect: float) -> None:
    made = pairs(400, 1, 15, effect)
    courses, _, decision = judged(design, made)
    outcome = np.array(OUTCOMES)[decision.outcome[:, 0]]
    low, high = (end[:, 0] for end in design.interval(courses, decision.look, 0.025, kind="every"))
    near, far = (end[:, 0] for end in design.interval(courses, decision.look, 0.05, kind="equal"))
    assert ((low <= effect) & (effect <= high)).mean() > 0.92
    assert (low[outcome == "better"] > -1e-6).all()
    assert (high[outcome == "worse"] < 1e-6).all()
    equal = outcome == "no difference"
    assert (near[equal] > -0.5 - 1e-6).all()
    assert (far[equal] < 0.5 + 1e-6).all()
    assert (low <= high).all()


def test_the_limits_turn_over_with_the_arms() -> None:
    made = pairs(20, 1, 12, 0.3)
    mirrored = Pairs(made.baseline, made.arm)
    design = Design(3, (15,))
    (courses, _, one), (others, _, other) = judged(design, made), judged(design, mirrored)
    low, high = design.interval(courses, one.look, 0.025, kind="every")
    back = design.interval(others, other.look, 0.025, kind="every")
    np.testing.assert_allclose(low, -back[1], atol=1e-6)
    np.testing.assert_allclose(high, -back[0], atol=1e-6)


def test_later_looks_leave_earlier_verdicts_alone() -> None:
    made = pairs(200, 2, 15, 0.6)
    design = Design(3, (15,))
    early = Pairs(made.arm[..., :8], made.baseline[..., :8])
    before, after = judged(design, early)[2], judged(design, made)[2]
    decided = before.outcome != 0
    assert decided.any()
    assert (after.outcome[decided] == before.outcome[decided]).all()
    assert (after.look[decided] == before.look[decided]).all()


def test_arms_without_all_pairs_are_looked_at_with_what_they_have_in_a_fixed_plan() -> None:
    made = pairs(3, 2, 8, 0.5)
    made.arm[:, 1, 6:] = np.nan
    _, found, _ = judged(Design(8, (8,)), made)
    expected = stats.ttest_1samp((made.arm - made.baseline)[:, 1, :6], 0, axis=-1, alternative="greater").pvalue
    np.testing.assert_allclose(found.above[:, 1, 0], expected)
    assert found.course.seeds[0, :, 0].tolist() == [8, 6]


def test_folds_widen_the_error_by_the_overlap() -> None:
    made = pairs(5, 1, 10, 0.4)
    overlapping = Pairs(made.arm, made.baseline, overlap=1 / 9)
    design = Design(10, (10,))
    plain, folded = (judged(design, one)[0][0].every.error for one in (made, overlapping))
    np.testing.assert_allclose(folded / plain, np.sqrt((1 / 10 + 1 / 9) / (1 / 10)))


def test_a_stage_of_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="an extension needs 2 seeds or more, got 1 for stage 2"):
        Design(3, (15, 16))
    with pytest.raises(ValueError, match="2 <= first <= last"):
        Design(6, (5,))
