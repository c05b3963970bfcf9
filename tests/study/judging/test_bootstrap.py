"""Image weights against evaluating anew on images that are physically there several times; the resampling itself."""

from __future__ import annotations

import numpy as np
import pytest

from attngraft.coco import average_precision as module
from attngraft.coco.matches import SIZES
from attngraft.coco.metrics import metric_values
from attngraft.study import METRICS, Resampled, average_precision, evaluate, resample, resample_breakdown, two_level
from attngraft.study.judging.bootstrap import image_weights


def copied(problem, matches, weights):
    """Write every image out as often as it weighs, the copies beside each other."""
    times = dict(zip(matches.images.tolist(), weights.tolist(), strict=True))

    def copies(things, key):
        return [{**t, key: 1000 * t[key] + k} for t in things for k in range(times[t[key]])]

    annotations = copies(problem.truth["annotations"], "image_id")
    truth = {
        "images": copies(problem.truth["images"], "id"),
        "categories": problem.truth["categories"],
        "annotations": [{**a, "id": i + 1} for i, a in enumerate(annotations)],
    }
    return truth, copies(problem.predictions, "image_id")


@pytest.mark.parametrize("decimals", [6, 1, 0])
@pytest.mark.parametrize("seed", [0, 1])
def test_weights_equal_physical_copies_ties_included(seed: int, decimals: int, problem) -> None:
    made = problem(seed, images=8, decimals=decimals)
    matches = evaluate(made.truth, made.predictions).matches
    weights = image_weights(8, 3, np.random.default_rng(seed))
    found = {size: average_precision(matches, weights, size=size) for size in SIZES}
    for draw, row in enumerate(weights):
        anew = evaluate(*copied(made, matches, row)).matches
        for size in SIZES:
            expected = average_precision(anew, size=size)[..., 0]
            np.testing.assert_allclose(found[size][..., draw], expected, atol=1e-12, rtol=0)


def test_every_recall_is_compared_as_coco_does() -> None:
    points = np.linspace(0, 1, 101)
    for objects in range(1, 300):
        recall = np.arange(objects + 1) / objects
        expected = np.searchsorted(points, recall, side="right")
        np.testing.assert_array_equal(module._points_reached(recall), expected, err_msg=str(objects))


def test_chunks_make_no_difference(problem, monkeypatch: pytest.MonkeyPatch) -> None:
    made = problem(2, decimals=1)
    matches = evaluate(made.truth, made.predictions).matches
    weights = image_weights(12, 30, np.random.default_rng(0))
    whole = average_precision(matches, weights)
    monkeypatch.setattr(module, "CELLS", 1)
    np.testing.assert_array_equal(average_precision(matches, weights), whole)


def test_a_class_without_objects_leaves_the_mean(problem) -> None:
    made = problem(3)
    matches = evaluate(made.truth, made.predictions).matches
    gone = np.unique(matches.object_image[matches.object_class == 1])
    weights = np.ones((1, len(matches.images)), dtype=np.int64)
    weights[:, gone] = 0
    ap = average_precision(matches, weights)
    assert np.isnan(ap[1]).all()
    rest = [c for c in range(3) if not np.isnan(ap[c]).any()]
    assert metric_values(matches, "AP", weights)[0] == pytest.approx(100 * ap[rest].mean())
    assert np.isnan(metric_values(matches, "AP", np.zeros_like(weights))).all()


def test_weights_are_draws_with_replacement() -> None:
    weights = image_weights(50, 2000, np.random.default_rng(0))
    assert (weights.sum(1) == 50).all()
    assert weights.mean() == pytest.approx(1)
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_are_the_evaluators_in_points(metric: str, problem) -> None:
    made = problem(4)
    result = evaluate(made.truth, made.predictions)
    assert metric_values(result.matches, metric)[0] == pytest.approx(100 * result.numbers[metric], abs=1e-9)


def test_runs_share_the_images_they_are_resampled_on(problem) -> None:
    made = problem(5)
    run = evaluate(made.truth, made.predictions).matches
    worse = evaluate(made.truth, made.predictions[::2]).matches
    both = resample([run, worse], resamples=40, seed=3)
    alone = resample([worse], resamples=40, seed=3, workers=2)
    np.testing.assert_array_equal(both.resampled[1], alone.resampled[0])
    assert (resample([run], resamples=40, seed=4).resampled != both.resampled[0]).any()
    difference = both[:1] - alone
    np.testing.assert_allclose(difference.resampled, both.resampled[:1] - both.resampled[1:])
    assert difference.images == 12


def test_the_breakdown_holds_every_metric_and_class(problem) -> None:
    made = problem(6)
    run = evaluate(made.truth, made.predictions).matches
    found = resample_breakdown([run, run], resamples=10, seed=1)
    assert set(found) == {*METRICS, *(f"AP/{name}" for name in run.classes)}
    np.testing.assert_array_equal(found["APm"].resampled, resample([run, run], "APm", resamples=10, seed=1).resampled)


def test_two_levels_resample_seeds_then_images() -> None:
    values = Resampled(np.array([0.0, 10.0]), np.array([[1.0] * 4000, [11.0] * 4000]), 5)
    drawn = two_level(values, seed=0)
    shares = [(drawn == mean).mean() for mean in (1, 6, 11)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.03)


def test_runs_on_different_objects_and_unknown_metrics_are_refused(problem) -> None:
    one, other = (evaluate(*problem(seed)).matches for seed in (1, 2))
    with pytest.raises(ValueError, match="run 1 rests on other images, classes or objects"):
        resample([one, other])
    with pytest.raises(LookupError, match="no metric is called 'AP55'; did you mean AP75 or AP50"):
        resample([one], "AP55")
