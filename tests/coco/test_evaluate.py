"""The evaluator against the published numbers, against hotcoco's own curves, and against a slow reading of the rule."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import hotcoco
import numpy as np
import pytest

from attngraft._core.errors import DataError, OutputError
from attngraft.coco.matches import IOU_THRESHOLDS, SIZES, bits
from attngraft.study import Matches, average_precision, evaluate
from tests.limits import largest_file

BOX = [10.0, 10.0, 50.0, 50.0]
TRUTH = {
    "images": [{"id": 5, "width": 200, "height": 200, "file_name": "5.jpg"}],
    "categories": [{"id": 2, "name": "cat"}, {"id": 9, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": BOX, "area": 2500.0, "iscrowd": 0}],
}


def detection(**changes) -> dict:
    return {"image_id": 5, "category_id": 2, "bbox": BOX, "score": 0.9, **changes}


def library(problem, *, task: str = "bbox") -> hotcoco.COCOeval:
    truth = hotcoco.COCO(problem.truth)
    result = hotcoco.COCOeval(truth, truth.load_res(problem.predictions), task)
    result.run()
    return result


def reference_ap(matches: Matches, category: int, threshold: int, size: int) -> float:
    """Walk down the precision-recall curve as COCO does: 101 recalls, each with the best precision at or after it."""
    objects = sum(
        int(count)
        for where, count in zip(matches.object_class, matches.objects[size], strict=True)
        if where == category
    )
    if objects == 0:
        return math.nan
    true = counted = 0
    curve = []
    for row in range(matches.first[category], matches.first[category + 1]):
        if matches.ignored[size, row] >> threshold & 1:
            continue
        counted += 1
        true += int(matches.matched[size, row] >> threshold & 1)
        curve.append((true / objects, true / (counted + np.spacing(1))))
    recalls = np.linspace(0, 1, 101)
    return sum(max((p for r, p in curve if r >= recall), default=0.0) for recall in recalls) / 101


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_equals_the_published_numbers(task: str, shared_data: Path) -> None:
    folder = shared_data / "coco_eval_ref"
    result = evaluate(
        folder / "instances_val2014_100.json", folder / f"instances_val2014_fake{task}100_results.json", task=task
    )
    expected = json.loads((folder / "expected.json").read_text())[task]
    np.testing.assert_allclose(list(result.numbers.values()), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (0, {}),
        (1, {"decimals": 1}),
        (2, {"decimals": 0, "classes": 1}),
        (3, {"images": 3, "detections": 400, "classes": 2}),
        (4, {"images": 230, "objects": 3, "detections": 4}),
    ],
)
def test_equals_the_library_in_every_number_and_class(seed: int, options: dict, problem) -> None:
    made = problem(seed, **options)
    theirs = library(made)
    ours = evaluate(made.truth, made.predictions, confidence=0)
    stats = np.where(theirs.stats == -1, np.nan, theirs.stats)
    np.testing.assert_allclose(list(ours.numbers.values()), stats, atol=1e-9, rtol=0)
    precision = theirs.eval["precision"][..., -1]  # (10, 101, C, 4)
    per_class = np.where(precision[0, 0] == -1, np.nan, precision.mean((0, 1)))
    np.testing.assert_allclose(ours.per_class, per_class, atol=1e-9, rtol=0)


def test_masks_go_through_too(problem) -> None:
    made = problem(5)
    for thing in (*made.truth["annotations"], *made.predictions):
        x, y, w, h = thing["bbox"]
        thing["segmentation"] = [[x, y, x + w, y, x + w / 2, y + h]]
    crowds = {a["id"] for a in made.truth["annotations"] if a["iscrowd"]}
    made.truth["annotations"][:] = [a for a in made.truth["annotations"] if a["id"] not in crowds]
    height, width = 480, 640
    for thing in made.predictions:
        thing["segmentation"] = hotcoco.mask.merge(hotcoco.mask.frPyObjects(thing["segmentation"], height, width))
    ours = evaluate(made.truth, made.predictions, task="segm", confidence=0)
    for thing in made.predictions:
        del thing["bbox"]  # by which the library would measure a mask
    theirs = library(made, task="segm")
    np.testing.assert_allclose(list(ours.numbers.values()), theirs.stats, atol=1e-9, rtol=0)
    assert ours.numbers["AP"] > 0.05


def test_the_table_gives_the_slowly_walked_curve(problem) -> None:
    made = problem(6, decimals=1)
    matches = evaluate(made.truth, made.predictions).matches
    for size, name in enumerate(SIZES):
        found = average_precision(matches, size=name)
        for category in range(len(matches.classes)):
            for threshold in range(len(IOU_THRESHOLDS)):
                expected = reference_ap(matches, category, threshold, size)
                assert found[category, threshold, 0] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_low_score_is_left_out_and_a_hundred_detections_are_kept() -> None:
    kept = evaluate(TRUTH, [detection(), detection(score=0.0009)]).matches
    assert kept.score.tolist() == [0.9]
    many = evaluate(TRUTH, [detection(score=0.5 + i / 1000) for i in range(150)]).matches
    assert len(many.score) == 100
    assert many.rank.tolist() == list(range(100))
    assert bits(many.matched[0]).any(1).tolist() == [True] + [False] * 99


def test_a_crowd_is_ignored_and_not_missed() -> None:
    crowd = {**TRUTH, "annotations": [{**TRUTH["annotations"][0], "iscrowd": 1}]}
    result = evaluate(crowd, [detection()])
    assert math.isnan(result.numbers["AP"])
    assert result.matches.ignored[0].tolist() == [0b1111111111]


def test_no_detection_scores_nothing() -> None:
    numbers = evaluate(TRUTH, []).numbers
    assert numbers["AP"] == numbers["AR100"] == 0
    assert math.isnan(numbers["APs"])


def test_each_wrong_detection_is_named() -> None:
    with pytest.raises(ValueError, match="detection 1 is of image 6"):
        evaluate(TRUTH, [detection(), detection(image_id=6)])
    with pytest.raises(ValueError, match=r"detection 0 is of class 0.*2 from 2 to 9; map class numbers"):
        evaluate(TRUTH, [detection(category_id=0)])
    for score in (math.nan, math.inf):
        with pytest.raises(ValueError, match="needs a finite score"):
            evaluate(TRUTH, [detection(score=score)])
    with pytest.raises(ValueError, match="needs images and categories, got 0 and 0"):
        evaluate({"images": [], "categories": [], "annotations": []}, [])


def test_a_table_survives_its_file(problem, tmp_path: Path) -> None:
    made = problem(7)
    matches = evaluate(made.truth, made.predictions).matches
    matches.save(tmp_path / "run.npz")
    again = Matches.load(tmp_path / "run.npz")
    assert again.comparable(matches)
    np.testing.assert_array_equal(average_precision(again), average_precision(matches))
    assert all(getattr(again, name).dtype == getattr(matches, name).dtype for name in vars(matches))


def test_a_table_that_is_cut_short_costs_no_older_one(problem, tmp_path: Path) -> None:
    (tmp_path / "run.npz").write_bytes(b"an older one")
    matches = evaluate(problem(7).truth, problem(7).predictions).matches
    with largest_file(100), pytest.raises(OutputError, match=r"run.npz is not written"):
        matches.save(tmp_path / "run.npz")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("run.npz", b"an older one")]


def test_a_file_that_is_no_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, a=np.ones(3))
    for wrong in (other.read_bytes(), b"", b"text", other.read_bytes()[:40]):
        other.write_bytes(wrong)
        with pytest.raises(DataError, match="is not a match table"):
            Matches.load(other)
    made = problem(8)
    monkeypatch.setattr("attngraft.coco.matches.FORMAT", 2)
    evaluate(made.truth, made.predictions).matches.save(tmp_path / "new.npz")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="of format 2 and this release reads 1"):
        Matches.load(tmp_path / "new.npz")


def test_the_import_pulls_in_no_heavy_package() -> None:
    heavy = ("torch", "ultralytics", "pandas", "hotcoco", "pycocotools", "matplotlib")
    script = f"import sys, attngraft.study; print([m for m in {heavy} if m in sys.modules])"
    path = str(Path(__file__).resolve().parents[2] / "src")
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {script}"], capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]", found.stderr
