"""Scores of maps: closed forms, and that a method which knows nothing is said not to beat the controls."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from attngraft import maps
from attngraft._core.errors import MapError, OptionError
from attngraft.maps import Detection, Predictions, scores

BOX = (2.0, 2.0, 6.0, 6.0)
DETECTION = Detection(0, 0, 1, 0.9, BOX, (4.0, 4.0))


def brightness(images: Tensor) -> Predictions:
    """Give two candidates: one in the box, as sure as it is bright there; a surer one elsewhere."""
    inside = images[:, :, 2:6, 2:6].mean((1, 2, 3))
    scores_ = torch.stack([torch.zeros_like(inside), inside], 1)
    boxes = images.new_tensor([BOX, (0, 0, 1, 1)]).expand(len(images), 2, 4)
    return Predictions(boxes, torch.stack([scores_, torch.ones_like(scores_)], 1))


def bright() -> Tensor:
    image = torch.zeros(3, 8, 10)
    image[:, 2:6, 2:6] = 1
    return image


def box_heat() -> Tensor:
    return scores.control("box", DETECTION, (8, 10), (8, 10))


class TestCurve:
    def test_only_candidates_that_overlap_count(self) -> None:
        assert scores.score_of(brightness(bright()[None]), DETECTION).tolist() == [1.0]

    def test_deletion_in_the_order_of_a_perfect_map(self) -> None:
        """The 16 pixels of the box go first: the score falls linearly to that of the mean image within 16 of 80."""
        curve = scores.curve(brightness, bright(), DETECTION, box_heat(), fill="mean", steps=80)
        floor = 16 / 80
        expected = torch.tensor([max(1 - k / 16, 0) + min(k / 16, 1) * floor for k in range(81)])
        torch.testing.assert_close(curve, expected)

    def test_insertion_is_deletion_of_what_is_left(self) -> None:
        heat = torch.rand(8, 10)
        inserted = scores.curve(brightness, bright(), DETECTION, heat, direction="insertion", fill="blur", steps=10)
        deleted = scores.curve(brightness, bright(), DETECTION, -heat, fill="blur", steps=10)
        torch.testing.assert_close(inserted, deleted.flip(0), atol=1e-6, rtol=0)

    def test_a_true_map_is_better_than_its_opposite_at_any_resolution(self) -> None:
        small = torch.nn.functional.adaptive_avg_pool2d(box_heat()[None], (4, 5))[0]
        for direction, sign in (("deletion", -1), ("insertion", 1)):
            options: dict[str, Any] = {"direction": direction, "steps": 20}
            good = scores.area_under(scores.curve(brightness, bright(), DETECTION, small, **options))
            bad = scores.area_under(scores.curve(brightness, bright(), DETECTION, -small, **options))
            assert sign * (good - bad) > 0.1

    def test_repeats_itself_and_needs_no_batch_of_a_size(self) -> None:
        flat = torch.zeros(3, 3)  # only ties
        one, other = (scores.curve(brightness, bright(), DETECTION, flat, batch=b) for b in (1, 7))
        assert torch.equal(one, other)
        assert not torch.equal(one, scores.curve(brightness, bright(), DETECTION, flat, seed=1))

    def test_area_by_hand(self) -> None:
        assert scores.area_under(torch.tensor([1.0, 1.0, 0.0, 0.0])) == pytest.approx(0.5)


def test_pointing_and_mask_by_hand() -> None:
    assert scores.pointing(box_heat(), DETECTION, (8, 10)) == 1
    assert scores.pointing(torch.ones(8, 10), DETECTION, (8, 10)) == pytest.approx(16 / 80)
    assert scores.pointing(-torch.ones(8, 10) + 2 * box_heat(), DETECTION, (8, 10)) == 1
    mask = torch.zeros(8, 10, dtype=torch.bool)
    mask[2:6, 2:6] = True
    assert scores.mask_iou(box_heat(), mask) == 1
    mask[2:6, 2:4] = False
    mask[2:6, 6:8] = True  # as large, half of it elsewhere
    assert scores.mask_iou(box_heat(), mask) == pytest.approx(8 / 24)


def test_controls_know_nothing_of_the_model() -> None:
    gaussian = scores.control("gaussian", DETECTION, (96, 64), (12, 8))
    torch.testing.assert_close(gaussian, gaussian.flip(0, 1))
    assert float(gaussian[0, 4] / gaussian[6, 4]) == pytest.approx(
        float(torch.exp(torch.tensor(-((5.5 / 3) ** 2 - (0.5 / 3) ** 2) / 2)))
    )
    assert torch.equal(*(scores.control("random", DETECTION, (9, 9), (3, 3), seed=5) for _ in range(2)))


class TestJudge:
    def test_a_random_method_does_not_beat_the_random_control(self) -> None:
        """Of 40 methods that know nothing about 2.5 % may be said to beat it; more than 4 would be a false promise."""
        generator = torch.Generator().manual_seed(0)
        beaten = 0
        for _ in range(40):
            drawn = torch.rand(2, 30, 3, generator=generator).tolist()
            (verdict,) = maps.judge("insertion blur", {"noise": drawn[0], "random": drawn[1]})
            beaten += verdict.beats
        assert beaten <= 4

    def test_a_better_one_does(self) -> None:
        base = torch.rand(20, 2, generator=torch.Generator().manual_seed(1))
        values = {"odam": (base - 0.3).tolist(), "random": base.tolist(), "box": (base - 0.3).tolist()}
        beaten = {v.control: v for v in maps.judge("deletion mean", values)}
        assert beaten["random"].beats
        assert beaten["random"].difference == pytest.approx(0.3, abs=1e-6)
        assert beaten["random"].low == pytest.approx(0.3, abs=1e-6)  # the same for every image: no width
        assert not beaten["box"].beats
        assert "odam (" in str(beaten["box"])
        assert "does not beat the box map" in str(beaten["box"])
        assert json.loads(json.dumps(beaten["box"].row()))["images"] == 20

    def test_an_image_counts_once(self) -> None:
        """A hundred detections of two images are two witnesses: Student's t of two, 12.706 / sqrt(2) deviations."""
        values = {"m": [[1.0] * 50, [0.0] * 50], "random": [[0.5] * 50, [0.5] * 50]}
        (verdict,) = maps.judge("pointing", values)
        assert verdict.high == pytest.approx(12.7062 / 2**0.5 * 0.5**0.5, abs=1e-4)
        assert verdict.low == -verdict.high

    def test_the_interval_is_students_of_the_pairs(self) -> None:
        drawn = torch.rand(2, 6, generator=torch.Generator().manual_seed(2)).tolist()
        (verdict,) = maps.judge("pointing", {"m": [[v] for v in drawn[0]], "box": [[v] for v in drawn[1]]})
        right = stats.ttest_rel(*drawn).confidence_interval()
        assert (verdict.low, verdict.high) == pytest.approx((right.low, right.high), abs=1e-6)

    @pytest.mark.parametrize("images", [2, 3, 5])
    def test_few_images_are_not_called_better_too_often(self, images: int) -> None:
        """Of 400 methods that are as good as the control, 10 may be said to beat it; 24 are beyond luck (4.4 sigma)."""
        drawn = torch.rand(400, 2, images, 1, generator=torch.Generator().manual_seed(images))
        beaten = sum(maps.judge("pointing", {"m": m, "box": box})[0].beats for m, box in drawn.tolist())
        assert 0 < beaten < 24

    def test_bad_input(self) -> None:
        with pytest.raises(MapError, match="two images with detections, got 1"):
            maps.judge("pointing", {"m": [[1.0], []], "random": [[1.0], []]})
        with pytest.raises(MapError, match="different ones"):
            maps.judge("pointing", {"m": [[1.0], [1.0]], "random": [[1.0], [1.0, 2.0]]})
        with pytest.raises(OptionError, match="metric"):
            maps.judge("accuracy", {})


def test_bad_maps_get_one_sentence() -> None:
    with pytest.raises(MapError, match="points nowhere"):
        scores.pointing(torch.zeros(3, 3), DETECTION, (8, 10))
    with pytest.raises(MapError, match="covers no pixel"):
        scores.mask_iou(box_heat(), torch.zeros(8, 10, dtype=torch.bool))
    with pytest.raises(MapError, match="finite numbers"):
        scores.curve(brightness, bright(), DETECTION, torch.full((2, 2), float("nan")))
    with pytest.raises(OptionError, match="fill"):
        scores.curve(brightness, bright(), DETECTION, box_heat(), fill="black")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="direction"):
        scores.curve(brightness, bright(), DETECTION, box_heat(), direction="up")  # type: ignore[arg-type]


def test_an_image_of_one_pixel() -> None:
    def predict(images: Tensor) -> Predictions:
        return Predictions(torch.zeros(len(images), 1, 4), torch.ones(len(images), 1, 2))

    curve = scores.curve(predict, torch.rand(3, 1, 1), DETECTION, torch.ones(1, 1), steps=1)
    assert curve.tolist() == [0, 0]  # no box to find again
