"""Verdicts from match tables and from made-up differences."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from attngraft.study import Criterion, Resampled, breakdown, compare, evaluate, judge, seeds_for
from attngraft.study.judging.statistics import Estimate
from attngraft.study.judging.verdict import images_to_verdict, seeds_to_verdict


def pairs(mean: float, sd: float, seeds: int, *, image_sd: float = 0.0, seed: int = 0) -> Resampled:
    """Make differences of exactly this mean and deviation, on images that move all of them together."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(seeds)
    if seeds > 1:
        noise = (noise - noise.mean()) / noise.std(ddof=1)
    images = rng.standard_normal(500)
    images = (images - images.mean()) / images.std(ddof=1) * image_sd
    observed = mean + sd * noise
    return Resampled(observed, observed[:, None] + images, 1000)


def verdict(criterion: Criterion, differences: Resampled):
    return judge(criterion, {"arm": differences})[0]


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
    stock = runs(0.5, 5)
    arms = {"same": stock, "all": runs(1.0, 5), "few": runs(0.1, 4, first=20)}
    same, better, worse = compare(Criterion(sesoi=1.0, resamples=100), stock, arms, workers=2)
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


@pytest.mark.parametrize(("sd", "effect"), [(0.42, 0.3), (0.42, 0.5), (0.2, 0.1)])
def test_the_suggested_seeds_are_those_of_the_power_calculation(sd: float, effect: float) -> None:
    now = Estimate(3, effect, sd, 0.0)
    more = seeds_to_verdict(now, Criterion(sesoi=1e-6))
    assert more is not None
    assert now.seeds + more == pytest.approx(seeds_for(effect, sd), abs=1)


def test_more_arms_take_more_seeds() -> None:
    now, criterion = Estimate(4, 0.5, 0.42, 0.1), Criterion(sesoi=0.1)
    alone, among, equal = (
        seeds_to_verdict(*case)
        for case in ((now, criterion), (now, criterion, 6), (Estimate(4, 0.0, 0.42, 0.0), Criterion(sesoi=0.5)))
    )
    assert alone is not None
    assert among is not None
    assert among > alone
    assert equal is not None
    assert equal > 0


def test_undecided_says_how_many_more_seeds_and_they_decide() -> None:
    criterion = Criterion(sesoi=0.3)
    now = verdict(criterion, pairs(0.35, 0.42, 5))
    assert now.outcome == "undecided"
    assert now.more_seeds is not None
    assert not now.stop
    assert f"undecided: about {now.more_seeds} more seeds (AP +0.35, " in str(now)
    later = verdict(criterion, pairs(0.35, 0.42, 5 + now.more_seeds))
    assert later.outcome == "better"
    assert later.more_seeds is None
    assert str(later).startswith("arm: better (AP +0.35")


def test_where_the_images_are_too_few_it_says_so() -> None:
    criterion = Criterion(sesoi=0.3)
    now = verdict(criterion, pairs(0.15, 0.2, 6, image_sd=0.1))
    assert (now.outcome, now.more_seeds, now.stop) == ("undecided", None, False)
    assert now.more_images == pytest.approx(images_to_verdict(now.estimate, criterion))
    assert "more seeds would not do, about" in str(now)
    enough = Estimate(6, 0.15, 0.2, now.estimate.image_sd / math.sqrt(now.more_images * 1.1))
    assert seeds_to_verdict(enough, criterion) is not None
    hopeless = verdict(criterion, pairs(0.1, 0.2, 6, image_sd=0.6))
    assert (hopeless.outcome, hopeless.stop) == ("undecided", True)
    hopeful = verdict(criterion, pairs(0.06, 0.05, 3, image_sd=0.15))
    assert (hopeful.outcome, hopeful.stop) == ("undecided", False)


def test_images_that_a_verdict_takes_in_closed_form() -> None:
    criterion = Criterion(sesoi=0.5)
    assert criterion.power == 0.8
    needed = ((NormalDist().inv_cdf(0.9) + NormalDist().inv_cdf(0.95)) * 1.2 / 0.5) ** 2  # inside on both sides
    assert images_to_verdict(Estimate(5, 0.0, 0.3, 1.2), criterion) == pytest.approx(needed, rel=0.02)
    nearly = ((NormalDist().inv_cdf(0.8) + NormalDist().inv_cdf(0.975)) * 1.2 / 3) ** 2
    assert images_to_verdict(Estimate(5, 3.0, 0.3, 1.2), criterion) == pytest.approx(max(nearly, 1), rel=0.02)
    assert images_to_verdict(Estimate(5, 0.5, 0.3, 40.0), Criterion(sesoi=0.5)) == math.inf


def test_looks_ask_for_more_than_one_look_does() -> None:
    data = pairs(0.5, 0.42, 6)
    once, sequential = (verdict(Criterion(sesoi=0.3, max_seeds=n), data) for n in (None, 20))
    assert once.outcome == "better"
    assert sequential.outcome == "undecided"
    assert sequential.p_difference > once.p_difference
    spent = verdict(Criterion(sesoi=0.3, max_seeds=6), data)
    assert spent.stop


def test_a_verdict_at_an_early_look_stays() -> None:
    values = np.array([2.0, 2.1, 1.9, 0.0, 0.0, 0.0])
    data = Resampled(values, np.tile(values[:, None], (1, 10)), 100)
    found = verdict(Criterion(sesoi=0.3, max_seeds=6), data)
    assert found.outcome == "better"
    assert verdict(Criterion(sesoi=0.3), data).outcome == "undecided"


def test_holm_counts_the_arms() -> None:
    data = pairs(0.5, 0.42, 6)
    alone = judge(Criterion(sesoi=0.3), {"a": data})[0]
    among = judge(Criterion(sesoi=0.3), {"a": data, **{str(i): pairs(0.0, 1.0, 6, seed=i) for i in range(4)}})[0]
    assert among.p_difference == pytest.approx(5 * alone.p_difference)
    assert (alone.outcome, among.outcome) == ("better", "undecided")


def test_before_the_first_look_it_waits() -> None:
    criterion = Criterion(sesoi=0.3, max_seeds=10)
    one = verdict(criterion, pairs(5.0, 0.0, 1))
    assert (one.outcome, one.more_seeds, one.stop, one.interval) == ("undecided", 2, False, (-math.inf, math.inf))
    two = verdict(criterion, pairs(5.0, 0.1, 2))
    assert (two.outcome, two.p_difference) == ("undecided", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sesoi": 0}, "sesoi above 0 AP points, got 0"),
        ({"sesoi": math.nan}, "sesoi above 0 AP points, got nan"),
        ({"sesoi": 1, "alpha": 1}, "alpha between 0 and 1, got 1"),
        ({"sesoi": 1, "power": 0}, "power between 0 and 1, got 0"),
        ({"sesoi": 1, "resamples": 1}, "2 resamples or more, got 1"),
        ({"sesoi": 1, "max_seeds": 2}, "2 <= first <= last, got first=3 and last=2"),
        ({"sesoi": 1, "metric": "mAP"}, "no metric is called 'mAP'; did you mean AP"),
    ],
)
def test_a_criterion_that_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises((ValueError, LookupError), match=message):
        Criterion(**options)


def test_seeds_that_do_not_pair_are_refused(runs) -> None:
    stock = runs(0.6, 2)
    for arm in ([], runs(0.6, 3)):
        with pytest.raises(
            ValueError, match=f"arm a needs 1 to 2 seeds to pair with the stock model's, got {len(arm)}"
        ):
            compare(Criterion(sesoi=1), stock, {"a": arm})
    with pytest.raises(ValueError, match="arm arm has 4 seeds and its plan 3"):
        verdict(Criterion(sesoi=1, max_seeds=3), pairs(0, 1, 4))
