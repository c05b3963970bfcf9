"""Counting by hand: seeds, intervals, medians, distances."""

from __future__ import annotations

import json
from dataclasses import asdict

import jsonschema
import numpy as np
import pytest
from scipy.stats import binomtest

from attngraft._core.errors import UnknownNameError
from attngraft.probe.instrument import Instrument
from attngraft.probe.tally import SCHEMA, Distance, reached, schema, tally
from tests.probe.conftest import Make


def test_scores_are_counted_by_probe_and_control(made: Make) -> None:
    records = [
        made(seed=0, accuracy=0.98, ap50=90.0, steps=250),
        made(seed=1, accuracy=0.92, ap50=80.0, steps=450),
        made(seed=2, accuracy=0.5, ap50=50.0, steps=None),
        made(seed=3, accuracy=0.6, ap50=50.0, steps=300),  # had it once and lost it: not learned
        made(seed=0, control=True, accuracy=1.0),
    ]
    found = tally(Instrument(), records).mechanism("mhsa")
    score = found.score("reach")
    assert score is not None
    assert (score.seeds, score.learned, score.accuracy, score.ap50, score.steps) == (4, 2, 0.75, 67.5, 350)
    low, high = binomtest(2, 4).proportion_ci(method="exact")
    assert (score.low, score.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    control = found.score("reach", control=True)
    assert control is not None
    assert (control.seeds, control.learned) == (1, 1)
    assert found.score("count") is None


def test_distances_are_pooled_over_seeds_and_controls_do_not_count(made: Make) -> None:
    records = [
        made(reach=((0, 10, 10), (8, 10, 9), (16, 10, 5))),
        made(seed=1, reach=((0, 10, 10), (8, 10, 9), (16, 10, 10))),
        made(control=True, reach=((0, 10, 0),)),
    ]
    found = tally(Instrument(), records).mechanism("mhsa")
    assert found.reach == (Distance(0, 7, 20, 20), Distance(8, 15, 20, 18), Distance(16, 23, 20, 15))
    pooled = [(one.low, one.objects, one.right) for one in found.reach]
    assert reached(pooled, 0.9) == 15
    assert reached(pooled, 0.99) == 7
    assert reached(((0, 10, 3), (8, 10, 10)), 0.9) is None


def test_a_run_that_learned_nothing_hides_no_reach_of_others(made: Make) -> None:
    far, near, nothing = ((0, 10, 10), (8, 10, 10)), ((0, 10, 10), (8, 10, 5)), ((0, 10, 3), (8, 10, 10))
    runs = [made(seed=seed, reach=reach) for seed, reach in enumerate((nothing, near, far))]
    found = tally(Instrument(), [*runs, made(control=True, reach=far)]).mechanism("mhsa")
    assert found.reaches == (15, 7, None)


def test_two_errors_in_one_bin_do_not_end_a_reach() -> None:
    assert reached(((0, 20, 20), (8, 20, 17), (16, 20, 20), (24, 20, 9)), 0.9) == 23
    assert reached(((0, 20, 20), (8, 20, 17), (16, 20, 18), (24, 20, 9)), 0.9) == 7


def test_reach_is_read_from_isotonic_regression() -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    draw = np.random.default_rng(0)
    for _ in range(20):
        objects = draw.integers(5, 40, 9)
        right = draw.binomial(objects, np.linspace(1, 0.5, 9))
        fitted = isotonic.IsotonicRegression(increasing=False).fit_transform(
            range(9), right / objects, sample_weight=objects
        )
        bins = tuple((8 * at, int(objects[at]), int(right[at])) for at in range(9))
        for least in (0.6, 0.75, 0.9):
            assert reached(bins, least) == max((8 * at + 7 for at in range(9) if fitted[at] >= least), default=None)


def test_none_stands_first_and_probes_in_their_order(made: Make) -> None:
    records = [made(mechanism=m, probe=p) for m in ("se", "none", "ema") for p in ("xor", "global", "reach")]
    found = tally(Instrument(), records)
    assert [one.name for one in found.mechanisms] == ["none", "ema", "se"]
    assert found.probes == ("global", "reach", "xor")
    with pytest.raises(UnknownNameError, match="no mechanism of these probes is called 'emma'; did you mean ema"):
        found.mechanism("emma")


def test_the_numbers_keep_to_their_schema(made: Make) -> None:
    found = tally(Instrument(), [made(), made(steps=None, seed=1, accuracy=0.4)])
    jsonschema.validate(json.loads(json.dumps({"schema": SCHEMA, **asdict(found)})), schema())
