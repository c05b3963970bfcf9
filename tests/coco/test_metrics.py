"""Every metric against COCO's numbers, against a slow count, and against images that are there several times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attngraft._core.errors import DataError, OptionError, UnknownNameError
from attngraft.coco.average_precision import METRICS
from attngraft.coco.evaluate import evaluate
from attngraft.coco.metrics import RECALLS, metric_values, needed_classes, parse_metric
from tests.study.judging.test_bootstrap import copied


@pytest.mark.parametrize("seed", [0, 1])
def test_cocos_numbers(seed: int, problem: Any) -> None:
    made = problem(seed, images=20)
    scored = evaluate(made.truth, made.predictions)
    for name in (*METRICS, *RECALLS):
        assert metric_values(scored.matches, name) == pytest.approx([100 * scored.numbers[name]]), name


def test_f1_is_counted_slowly(problem: Any) -> None:
    """No crowds, so that a detection is right or wrong; greedy matching at IoU 0.5 by falling score."""
    made = problem(3, images=15)
    for annotation in made.truth["annotations"]:
        annotation["iscrowd"] = 0
    found = evaluate(made.truth, made.predictions).matches
    sure = [one for one in made.predictions if one["score"] >= 0.4]
    f1 = []
    for category in made.truth["categories"]:
        hits = 0
        for image in made.truth["images"]:
            here = {"image_id": image["id"], "category_id": category["id"]}
            boxes, free = (
                [one for one in things if all(one[key] == value for key, value in here.items())]
                for things in (sure, made.truth["annotations"])
            )
            for one in sorted(boxes, key=lambda box: -box["score"]):
                best = max(free, key=lambda other: iou(one["bbox"], other["bbox"]), default=None)
                if best is not None and iou(one["bbox"], best["bbox"]) >= 0.5:
                    free.remove(best)
                    hits += 1
        objects, detected = (
            sum(one["category_id"] == category["id"] for one in things) for things in (made.truth["annotations"], sure)
        )
        f1.append(100 * 2 * hits / (objects + detected))
    assert [metric_values(found, f"F1@0.4/{name}")[0] for name in found.classes] == pytest.approx(f1)
    assert metric_values(found, "F1@0.4") == pytest.approx([np.mean(f1)])


def iou(one: list[float], other: list[float]) -> float:
    (x, y, w, h), (u, v, a, b) = one, other
    shared = max(0.0, min(x + w, u + a) - max(x, u)) * max(0.0, min(y + h, v + b) - max(y, v))
    return shared / (w * h + a * b - shared)


@pytest.mark.parametrize("metric", ["AR10", "ARs", "F1@0.3", "AP/class 1", "2*AP50/class 0 + 1*F1@0.3/class 2"])
def test_weights_equal_physical_copies(metric: str, problem: Any) -> None:
    made = problem(4, images=8)
    matches = evaluate(made.truth, made.predictions).matches
    weights = np.array([[2, 0, 1, 1, 3, 0, 1, 0], [1, 1, 1, 1, 0, 2, 0, 2]], dtype=np.uint8)
    found = metric_values(matches, metric, weights)
    for row, value in zip(weights, found, strict=True):
        anew = evaluate(*copied(made, matches, row)).matches
        assert metric_values(anew, metric)[0] == pytest.approx(value)


def test_a_weighted_mean_is_one(problem: Any) -> None:
    made = problem(5)
    matches = evaluate(made.truth, made.predictions).matches
    first, last = (metric_values(matches, f"AP/class {number}")[0] for number in (0, 2))
    assert metric_values(matches, "3*AP/class 0 + 1*AP/class 2") == pytest.approx([(3 * first + last) / 4])
    equal = " + ".join(f"1*AP/{name}" for name in matches.classes)
    assert metric_values(matches, equal) == pytest.approx(metric_values(matches, "AP"))


def test_names_of_classes_may_hold_signs() -> None:
    assert needed_classes("AP/a+b*c/d") == ["a+b*c/d"]
    assert [term.of for term in parse_metric("1*AP/traffic light + 2*AR10")] == ["traffic light", None]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("mAP", "no metric is called 'mAP'; did you mean AP"),
        ("AP/", "names no class after /"),
        ("F1", "no metric is called 'F1'"),
        ("F1@2", "no metric is called 'F1@2'"),
        ("0*AP", "needs a weight above 0"),
        ("", "no metric is called ''"),
    ],
)
def test_what_is_no_metric_says_so(metric: str, said: str) -> None:
    with pytest.raises((OptionError, UnknownNameError), match=said):
        parse_metric(metric)


def test_a_class_that_is_not_there_is_suggested(problem: Any) -> None:
    made = problem(6)
    with pytest.raises(DataError, match="of the class 'clas 1'; did you mean class 1"):
        metric_values(evaluate(made.truth, made.predictions).matches, "AP/clas 1")
