"""Verdicts from match tables and from made-up runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from attngraft.study import Criterion, Paired, Resampled, breakdown, compare, estimate, evaluate, judge
from attngraft.study.judging.judge import judge_second
from attngraft.study.judging.verdict import Verdict

LEVEL = 40.0


def runs_of(values: np.ndarray, image_sd: float = 0.0, *, seed: int = 0, images: int = 1000) -> Resampled:
    """Make runs with these values, on images that move all of them together."""
    drawn = np.random.default_rng(seed).standard_normal(500)
    drawn = (drawn - drawn.mean()) / drawn.std(ddof=1) * image_sd
    return Resampled(values, values[:, None] + drawn, images)


def pairs(mean: float, sd: float, seeds: int, *, image_sd: float = 0.0, seed: int = 0) -> Paired:
    """Make pairs whose differences have exactly this mean and deviation."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(seeds)
    if seeds > 1:
        noise = (noise - noise.mean()) / noise.std(ddof=1)
    return Paired(runs_of(LEVEL + mean + sd * noise, image_sd, seed=seed + 100), runs_of(np.full(seeds, LEVEL)))


def apart(arm: list[float], baseline: list[float]) -> Paired:
    return Paired(runs_of(np.array(arm, dtype=float)), runs_of(np.array(baseline, dtype=float)))


def verdict(criterion: Criterion, paired: Paired) -> Verdict:
    return judge(criterion, {"arm": paired})[0]


@pytest.fixture
def runs(problem):
    """Return a maker of runs on one ground truth that find a share of what can be found."""
    made = problem(1, images=60, objects=6, detections=8)

    def find(share: float, seeds: int, first: int = 0):
        found = []
        for seed in range(first, first + seeds):
            rng = np.random.default_rng(seed)
            kept = [p for p in made.predictions if rng.random() < share]
            found.append(evaluate(made.truth, kept).matches)
        return found

    return find


def test_a_study_from_match_tables(runs) -> None:
    stock = runs(0.5, 8)
    arms = {"same": stock, "all": runs(1.0, 5), "few": runs(0.1, 4, first=20)}
    same, better, worse = compare(Criterion(sesoi=0.5, resamples=100), stock, arms, workers=2)
    assert (same.arm, same.outcome, same.estimate.difference) == ("same", "no difference", 0)
    assert better.outcome == "better"
    assert worse.outcome == "worse"
    assert (worse.estimate.seeds, worse.stop) == (4, True)
    assert better.estimate.image_sd > 0
    low, high = better.interval
    assert 0 < low < better.estimate.difference < high


def test_where_nothing_was_learned_equal_zeros_are_no_evidence(runs) -> None:
    arms = {"blind": runs(0.0, 5), "seeing": runs(1.0, 5)}
    blind, seeing = compare(Criterion(sesoi=1.0, resamples=100), runs(0.0, 5), arms)
    assert (blind.outcome, blind.learned, blind.stop) == ("undecided", False, True)
    assert blind.interval == (-math.inf, math.inf)
    assert blind.advice == ": AP is 0 in every run, so nothing was learned that could be compared; train longer"
    assert (seeing.outcome, seeing.learned) == ("better", True)


def test_equal_plans_give_equal_verdicts_and_another_metric_other_ones(runs) -> None:
    stock, arms = runs(0.6, 3), {"all": runs(0.7, 3, first=9)}
    first, again, other = (
        compare(Criterion(sesoi=1.0, metric=metric, resamples=50), stock, arms) for metric in ("AP", "AP", "AP50")
    )
    assert first == again
    assert other[0].metric == "AP50"
    assert other[0].estimate != first[0].estimate


def test_the_breakdown_agrees_with_the_verdict(runs) -> None:
    stock, arm = runs(0.6, 4), runs(0.8, 3, first=9)
    found = breakdown(stock, arm, resamples=50)
    expected = compare(Criterion(sesoi=1.0, resamples=50), stock, {"arm": arm})[0].estimate
    assert found["AP"] == expected
    assert {"AP50", "APl", "AP/class 0"} < set(found)


def test_a_class_or_size_without_objects_is_nan_in_the_breakdown_and_no_criterion(problem) -> None:
    made = problem(2, images=10)
    made.truth["annotations"] = [
        {**a, "area": 5000.0} for a in made.truth["annotations"] if a["category_id"] != 3 and not a["iscrowd"]
    ]
    stock, arm = ([evaluate(made.truth, made.predictions[k::step]).matches for k in (0, 1)] for step in (2, 1))
    found = breakdown(stock, arm, resamples=20)
    assert math.isnan(found["AP/class 1"].difference)
    assert all(math.isnan(end) for end in found["APs"].interval())
    assert math.isfinite(found["AP/class 0"].interval()[0])
    with pytest.raises(ValueError, match="APs has no meaning here"):
        compare(Criterion(sesoi=1, metric="APs", resamples=20), stock, {"arm": arm})


def test_undecided_says_how_many_more_seeds() -> None:
    now = verdict(Criterion(sesoi=0.3, max_seeds=15), pairs(0.35, 0.42, 5))
    assert now.outcome == "undecided"
    assert now.more_seeds is not None
    assert not now.stop
    assert now.remaining == 10
    assert f"undecided: about {now.more_seeds[0]} " in str(now)
    later = verdict(Criterion(sesoi=0.3), pairs(0.35, 0.42, 40))
    assert (later.outcome, later.more_seeds) == ("better", None)
    assert str(later).startswith("arm: better (AP +0.35, 95 % interval +0.2")


def test_looks_ask_for_more_than_one_look_does() -> None:
    data = pairs(0.5, 0.42, 6)
    once, sequential = (verdict(Criterion(sesoi=0.3, max_seeds=n), data) for n in (None, 20))
    assert once.outcome == "better"
    assert sequential.outcome == "undecided"
    assert sequential.p_difference > once.p_difference
    assert verdict(Criterion(sesoi=0.3, max_seeds=6), data).stop


def test_a_verdict_at_an_early_look_stays() -> None:
    data = apart([42, 42.1, 41.9, 40, 40, 40], [40.0] * 6)
    found = verdict(Criterion(sesoi=0.5, max_seeds=6), data)
    assert (found.outcome, found.estimate.seeds) == ("better", 3)
    assert verdict(Criterion(sesoi=0.5), data).outcome == "undecided"


def test_holm_counts_the_planned_arms_and_not_those_that_are_left() -> None:
    data = pairs(0.5, 0.42, 6)
    alone = judge(Criterion(sesoi=0.3), {"a": data})[0]
    others = {str(i): pairs(0.0, 1.0, 6, seed=i) for i in range(4)}
    among = judge(Criterion(sesoi=0.3), {"a": data, **others})[0]
    dropped = judge(Criterion(sesoi=0.3, arms=5), {"a": data})[0]
    assert among.p_difference == dropped.p_difference == pytest.approx(5 * alone.p_difference)
    assert (alone.outcome, among.outcome) == ("better", "undecided")


def test_before_the_first_look_it_waits() -> None:
    criterion = Criterion(sesoi=0.3, max_seeds=10)
    one = verdict(criterion, pairs(5.0, 0.0, 1))
    assert (one.outcome, one.more_seeds, one.stop) == ("undecided", (2, None), False)
    assert one.interval == (-math.inf, math.inf)
    two = verdict(criterion, pairs(5.0, 0.1, 2))
    assert (two.outcome, two.p_difference) == ("undecided", 1)


def test_a_fixed_plan_is_interim_until_its_last_pair() -> None:
    criterion = Criterion(sesoi=0.3, seeds=8)
    early = verdict(criterion, replace(pairs(2.0, 0.1, 5), complete=False))
    assert (early.outcome, early.stop, early.p_difference) == ("interim", False, 1)
    assert early.interval == (-math.inf, math.inf)
    assert str(early) == "arm: interim: no verdict before all planned pairs (AP +2.00, 5 seeds)"
    assert verdict(criterion, pairs(2.0, 0.1, 8)).outcome == "better"
    assert verdict(criterion, pairs(2.0, 0.1, 5)).outcome == "better"  # three pairs were tried and failed


def test_no_difference_takes_eight_seeds_and_names_the_failures_that_it_does_not_exclude() -> None:
    few = verdict(Criterion(sesoi=0.5, seeds=5), pairs(0.0, 0.01, 5))
    assert (few.outcome, few.reason) == ("undecided", "nothing is called equal before 8 seeds")
    found = verdict(Criterion(sesoi=0.5, seeds=8), pairs(0.0, 0.1, 8))
    assert found.outcome == "no difference"
    assert found.not_excluded == pytest.approx(1 - 0.05 ** (1 / 8))
    assert str(found).endswith("A failure in up to 31 % of runs is not excluded")


def test_the_intervals_agree_with_the_verdicts() -> None:
    rng = np.random.default_rng(7)
    criterion = Criterion(sesoi=0.5, max_seeds=15, arms=3)
    words = set()
    for effect in (0.0, 0.25, 0.5, 1.0, -0.8):
        for _ in range(12):
            found = verdict(
                criterion, apart(40 + effect + 0.3 * rng.standard_normal(12), 40 + 0.3 * rng.standard_normal(12))
            )
            low, high = found.interval
            words.add(found.outcome)
            if found.outcome == "no difference":
                assert found.level == pytest.approx(0.9)
                assert -0.5 <= low <= high <= 0.5
            elif found.outcome == "better":
                assert low >= 0
            elif found.outcome == "worse":
                assert high <= 0
            else:
                assert low <= 1e-9
                assert high >= -1e-9
            assert low <= found.unbiased <= high
    assert words >= {"better", "worse", "no difference"}


def test_runs_that_did_not_learn_give_two_lines() -> None:
    beacons = {
        "mhsa": apart([39, 40, 0.1, 41, 39.5], [0.1, 0.12, 0.1, 0.11, 0.1]),
        "ema": apart([0.1, 39, 0.1, 0.12, 0.1], [0.1, 0.12, 0.1, 0.11, 0.1]),
    }
    mhsa, ema = judge(Criterion(sesoi=0.5, seeds=5), beacons)
    assert (mhsa.outcome, ema.outcome) == ("better", "undecided")
    assert mhsa.learning is not None
    assert ema.learning is not None
    assert (mhsa.learning.arm, mhsa.learning.baseline, mhsa.learning.outcome) == (4, 0, "more often")
    assert (ema.learning.arm, ema.learning.outcome, ema.learning.among) == (1, "undecided", None)
    assert "learned in 4 of 5 runs (28 % to 99 %), the baseline in 0 of 5 (0 % to 52 %): more often" in str(mhsa)
    assert mhsa.interval == (-math.inf, math.inf)  # a mean of learned and not learned has no t interval


def test_an_arm_that_fails_at_times_is_never_equal_and_is_compared_where_it_learned() -> None:
    rng = np.random.default_rng(8)
    base, arm = 40 + 0.1 * rng.standard_normal(12), 41 + 0.1 * rng.standard_normal(12)
    arm[[3, 8]] -= 45
    found = verdict(Criterion(sesoi=0.5, seeds=12), apart(arm, base))
    assert found.outcome == "undecided"
    assert found.learning is not None
    assert found.learning.among is not None
    assert found.learning.among_outcome == "better"
    assert found.learning.among.seeds == 10
    assert found.learning.among_interval[0] > 0
    assert "among the 10 pairs that learned: better (+1.0" in str(found)
    assert found.estimate.difference < -5  # failures are outcomes


def test_nothing_equals_a_baseline_that_has_not_learned() -> None:
    rng = np.random.default_rng(10)
    found = verdict(Criterion(sesoi=0.5, seeds=10), apart(0.05 + 0.01 * rng.random(10), 0.02 + 0.01 * rng.random(10)))
    assert found.outcome == "better"  # by little, and of little: the report shows the level
    same = verdict(Criterion(sesoi=0.5, seeds=10), apart(0.02 + 0.01 * rng.random(10), 0.02 + 0.01 * rng.random(10)))
    assert same.outcome == "undecided"
    assert "the baseline is at 0.02 points, under 10 times the SESOI, so nothing is called equal to it" in same.advice


def test_a_large_difference_waits_for_five_seeds() -> None:
    three, five = (
        verdict(Criterion(sesoi=0.5, seeds=n), apart([48, 48.1, 47.9, 48, 48.1][:n], [40, 40.1, 40, 39.9, 40][:n]))
        for n in (3, 5)
    )
    assert (three.outcome, five.outcome) == ("undecided", "better")
    assert "may be that runs of one of the two did not learn; it takes 5 seeds" in three.advice


def test_arms_chosen_on_the_same_images_get_no_verdict() -> None:
    found = verdict(Criterion(sesoi=0.5, seeds=5, selected=True), pairs(3.0, 0.1, 5))
    assert found.outcome == "undecided"
    assert found.advice == ": chosen on the images it is judged on; confirm it on others"


def test_a_diverged_run_counts_and_the_difference_without_it_is_shown_too() -> None:
    paired = apart([41, 41.1, 0, 40.9, 41, 41.2], [40, 40.1, 40, 39.9, 40, 40.1])
    found = verdict(Criterion(sesoi=0.5, seeds=6), replace(paired, diverged=(False, False, True, False, False, False)))
    assert found.estimate.difference < -5
    assert found.without_diverged is not None
    assert found.without_diverged.seeds == 5
    assert found.without_diverged.difference == pytest.approx(1.02, abs=0.02)


def test_an_extension_uses_every_pair_and_reads_the_plan_as_its_first_stage() -> None:
    rng = np.random.default_rng(17)
    arm, base = 40.25 + 0.3 * rng.standard_normal(30), 40 + 0.3 * rng.standard_normal(30)
    plan = Criterion(sesoi=0.2, max_seeds=15)
    assert verdict(plan, apart(arm[:15], base[:15])).outcome == "undecided"
    extended = verdict(replace(plan, extensions=(30,)), apart(arm, base))
    assert extended.outcome == "better"
    assert extended.estimate.seeds > 15
    unextended = verdict(Criterion(sesoi=0.2, max_seeds=30), apart(arm, base))
    assert unextended.outcome == "better"  # planned from the start it takes no more
    assert unextended.estimate.seeds <= extended.estimate.seeds
    with pytest.raises(ValueError, match="arm arm has 30 seeds and its plan 15"):
        verdict(plan, apart(arm, base))


def test_the_rule_anytime_has_no_last_look() -> None:
    rng = np.random.default_rng(12)
    data = apart(41 + 0.3 * rng.standard_normal(40), 40 + 0.3 * rng.standard_normal(40))
    found = verdict(Criterion(sesoi=0.5, max_seeds=15, rule="anytime"), data)
    assert found.outcome == "better"
    assert found.interval[0] > 0


def test_a_second_question_is_asked_of_better_arms_only_and_costs_no_alpha() -> None:
    criterion = Criterion(sesoi=0.5, max_seeds=15)
    arms = {"good": pairs(1.0, 0.2, 8), "same": pairs(0.0, 0.2, 8, seed=3)}
    second = {name: Paired(paired.arm, runs_of(np.full(8, LEVEL))) for name, paired in arms.items()}
    assert [v.outcome for v in judge(criterion, arms, second=second)] == ["better", "no difference"]
    (found,) = judge_second(criterion, arms, second)
    assert (found.arm, found.outcome) == ("good", "better")
    as_good = {"good": Paired(arms["good"].arm, runs_of(arms["good"].arm.observed + 0.1 * (-1.0) ** np.arange(8)))}
    assert judge_second(criterion, arms, as_good)[0].outcome == "no difference"
    assert judge_second(criterion, {"same": arms["same"]}, second) == []


def test_seeds_that_do_not_pair_are_refused(runs) -> None:
    stock = runs(0.6, 2)
    for arm in ([], runs(0.6, 3)):
        with pytest.raises(ValueError, match=f"arm a needs 1 to 2 seeds to pair with the baseline's, got {len(arm)}"):
            compare(Criterion(sesoi=1), stock, {"a": arm})


def test_a_metric_of_one_image_gets_no_verdict() -> None:
    """The bootstrap of one image has no spread, which was taken for certainty."""
    arm, base = (np.array(values) + np.array([0.1, 0.0, 0.2, 0.1, 0.3]) for values in (42.0, 40.0))
    for effective, outcome in ((1.0, "undecided"), (50.0, "better")):
        one, other = (Resampled(x, np.tile(x[:, None], (1, 10)), 60, effective=effective) for x in (arm, base))
        (found,) = judge(Criterion(sesoi=0.5, seeds=5), {"arm": Paired(one, other)})
        assert found.outcome == outcome
        assert ("no class is on two images" in str(found)) == (effective == 1)
    assert estimate(one - other).interval()[0] > 1
    alone = estimate(replace(one - other, effective=1.0))
    assert alone.interval() == (-math.inf, math.inf)
    assert alone.p_value == 1
