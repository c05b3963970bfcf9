"""Seeds and images that would decide, against power calculations and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from attngraft.coco.evaluate import evaluate
from attngraft.study import Criterion, Estimate, seeds_for
from attngraft.study.judging.advice import (
    decidable,
    hopeless,
    image_warnings,
    images_to_verdict,
    say,
    seeds_range,
    seeds_to_verdict,
)
from attngraft.study.judging.bootstrap import Draw


def test_times_the_images_are_more_than_there_are() -> None:
    """What folds share is left by endless seeds, as the images' own part is."""
    for factor, said in ((1.0, "1.1"), (1.04, "1.1"), (2.5, "2.5"), (2.51, "2.6")):
        assert say(None, factor, 0).endswith(f"about {said} times the validation images might")
    apart = replace(Estimate(5, 3.0, 2.0, 1.0), overlap=0.25)
    together = Estimate(5, 3.0, 2.0, math.sqrt(2))
    criterion = Criterion(sesoi=0.5)
    assert images_to_verdict(apart, criterion) == images_to_verdict(together, criterion) > 1


@pytest.mark.parametrize(("sd", "effect"), [(0.42, 0.3), (0.42, 0.5), (0.2, 0.1)])
def test_the_suggested_seeds_are_those_of_the_power_calculation(sd: float, effect: float) -> None:
    now = Estimate(3, effect, sd, 0.0)
    more = seeds_to_verdict(now, Criterion(sesoi=1e-6))
    assert more is not None
    assert now.seeds + more == pytest.approx(seeds_for(effect, sd), abs=1)


def test_more_arms_take_more_seeds_and_equality_takes_eight() -> None:
    now, criterion = Estimate(4, 0.5, 0.42, 0.1), Criterion(sesoi=0.1)
    alone, among = seeds_to_verdict(now, criterion), seeds_to_verdict(now, criterion, 6)
    assert alone is not None
    assert among is not None
    assert among > alone
    assert seeds_to_verdict(Estimate(4, 0.0, 0.01, 0.0), Criterion(sesoi=0.5)) == 4


def test_advice_is_a_range_that_holds_what_is_right() -> None:
    rng = np.random.default_rng(0)
    held = 0
    right = seeds_for(0.3, 0.42)
    for _ in range(50):
        values = rng.normal(0.3, 0.42, 6)
        now = Estimate(6, float(values.mean()), float(values.std(ddof=1)), 0.0)
        found = seeds_range(now, Criterion(sesoi=1e-6))
        held += found is not None and 6 + found[0] <= right and (found[1] is None or right <= 6 + found[1])
    assert held > 40  # nine in ten


def test_images_that_a_verdict_takes_in_closed_form() -> None:
    criterion = Criterion(sesoi=0.5)
    needed = ((NormalDist().inv_cdf(0.9) + NormalDist().inv_cdf(0.95)) * 1.2 / 0.5) ** 2  # inside on both sides
    assert images_to_verdict(Estimate(5, 0.0, 0.3, 1.2), criterion) == pytest.approx(needed, rel=0.02)
    nearly = ((NormalDist().inv_cdf(0.8) + NormalDist().inv_cdf(0.975)) * 1.2 / 3) ** 2
    assert images_to_verdict(Estimate(5, 3.0, 0.3, 1.2), criterion) == pytest.approx(max(nearly, 1), rel=0.02)
    assert images_to_verdict(Estimate(5, 0.5, 0.3, 40.0), criterion) == math.inf


def test_hopeless_is_said_only_where_no_difference_in_reach_would_do() -> None:
    criterion = Criterion(sesoi=0.3)
    assert hopeless(Estimate(6, 0.1, 0.2, 0.6), criterion, 1)
    assert not hopeless(Estimate(3, 0.1, 0.6, 0.3), criterion, 1)  # the difference may be far from there
    assert not hopeless(Estimate(6, 0.0, 0.2, 0.1), criterion, 1)


def test_advice_in_words() -> None:
    assert say((1, 1), None, 9) == ": about 1 more seed"
    assert say((2, 30), None, 5) == ": about 2 to 30 more seeds (the plan has 5 more)"
    assert say((2, 30), None, 40) == ": about 2 to 30 more seeds"
    assert say(None, math.inf, 3).startswith(": neither more seeds nor more validation images")
    assert say(None, None, None) == ""


def test_what_can_be_decided_at_all_is_said_before_the_seeds_are_spent() -> None:
    clear, hard = decidable(0.1, Criterion(sesoi=0.5)), decidable(0.5, Criterion(sesoi=0.5))
    assert clear == "these images can show a gain of 0.20 AP or more, and that a difference within 0.34 AP is none"
    assert "takes 2.7 times the images, or a validation fold for each seed" in hard
    assert decidable(0.1, Criterion(sesoi=0.5), arms=6) != clear


def test_few_images_rare_classes_and_few_groups_are_said(problem) -> None:
    made = problem(1, images=40, objects=3, detections=4)
    run = evaluate(made.truth, made.predictions).matches
    assert any(said.startswith("only 40 images: ") for said in image_warnings(run, Draw()))
    groups = image_warnings(run, Draw(groups=np.arange(40) // 10))
    assert any("40 images in 4 groups" in said for said in groups)
    assert any("classes are in fewer than 10 groups of images" in said for said in groups)


@pytest.mark.parametrize(("difference", "more"), [(0.0, 5), (9.9, 1)])
def test_runs_without_any_spread_are_decided_as_soon_as_they_may(difference: float, more: int) -> None:
    """Equality is never said before eight seeds."""
    now = Estimate(3, difference, 0.0, 0.0, image_freedom=29.0)
    assert seeds_to_verdict(now, Criterion(sesoi=0.5)) == more
    assert images_to_verdict(now, Criterion(sesoi=0.5)) == 1
