"""hotcoco and pycocotools give one table, whatever the problem; masks too."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attngraft._core.errors import DataError, MissingExtraError
from attngraft.coco.error_types import error_types
from attngraft.coco.evaluate import evaluate, match
from attngraft.coco.libraries import Task, library
from attngraft.coco.masks import decode_mask, mask_area, run_lengths
from attngraft.coco.matches import Matches

pytest.importorskip("hotcoco", reason="needs hotcoco")
pytest.importorskip("pycocotools", reason="needs pycocotools")

TASKS: tuple[Task, ...] = ("bbox", "segm")


@pytest.fixture
def without_hotcoco(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setitem(sys.modules, "hotcoco", None)


def assert_equal(one: Matches, other: Matches) -> None:
    for field in fields(Matches):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@pytest.mark.parametrize("name", ["hotcoco", "pycocotools"])
def test_a_mask_is_as_large_as_its_cells(name: str, without_hotcoco: Callable[[], None]) -> None:
    """A false mask on a diagonal covers 400 pixels of a box of 10,000: it is small, and costs small objects half."""
    if name == "pycocotools":
        without_hotcoco()
    there, elsewhere = [[150.0, 150, 170, 150, 170, 170, 150, 170]], [[10.0, 10, 14, 10, 110, 110, 106, 110]]
    truth = {
        "images": [{"id": 1, "width": 200, "height": 200, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [150, 150, 20, 20], "area": 400, "iscrowd": 0,
             "segmentation": there}
        ],
    }  # fmt: skip
    common = {"image_id": 1, "category_id": 1}
    found = [
        common
        | {"score": 0.9, "bbox": [10, 10, 100, 100], "segmentation": run_lengths(decode_mask(elsewhere, 200, 200))},
        common | {"score": 0.8, "bbox": [150, 150, 20, 20], "segmentation": run_lengths(decode_mask(there, 200, 200))},
    ]
    assert library().name == name
    numbers = evaluate(truth, found, task="segm").numbers
    assert numbers["AP"] == numbers["APs"] == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(("seed", "decimals"), [(0, 6), (1, 1), (2, 0), (3, 6)])
def test_the_tables_are_equal(seed: int, decimals: int, problem: Any, without_hotcoco: Callable[[], None]) -> None:
    made = problem(seed, images=30, decimals=decimals)
    given = copy.deepcopy(made)
    expected = match(made.truth, made.predictions)
    without_hotcoco()
    assert library().name == "pycocotools"
    assert_equal(expected, match(made.truth, made.predictions))
    assert made == given  # neither library writes into what it is given


def test_a_file_without_areas_or_with_an_id_of_zero(
    problem: Any, tmp_path: Path, without_hotcoco: Callable[[], None]
) -> None:
    made = problem(4)
    for index, annotation in enumerate(made.truth["annotations"]):
        annotation["id"] = index
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    (tmp_path / "truth.json").write_text(json.dumps(made.truth))
    expected = match(tmp_path / "truth.json", made.predictions)
    without_hotcoco()
    assert_equal(expected, match(tmp_path / "truth.json", made.predictions))
    for annotation in made.truth["annotations"]:
        del annotation["area"]
    assert_equal(expected, match(made.truth, made.predictions))


def test_nothing_found_is_a_table_too(problem: Any, without_hotcoco: Callable[[], None]) -> None:
    made = problem(5)
    expected = match(made.truth, [])
    without_hotcoco()
    assert_equal(expected, match(made.truth, []))


def test_masks_are_equal(problem: Any, without_hotcoco: Callable[[], None]) -> None:
    made = problem(6, images=6)
    rng = np.random.default_rng(6)
    for thing in [*made.truth["annotations"], *made.predictions]:
        mask = np.zeros((480, 640), dtype=np.uint8)
        x, y, w, h = (round(value) for value in thing["bbox"])
        mask[y : y + h, x : x + w] = rng.random((max(0, min(480, y + h) - y), max(0, min(640, x + w) - x))) > 0.1
        thing["segmentation"] = run_lengths(mask)
    polygon = [[1.0, 0.5, 30.0, 2.0, 20.5, 33.0]]
    expected, drawn, area = (
        match(made.truth, made.predictions, task="segm"), decode_mask(polygon, 40, 50), mask_area(polygon, 40, 50)
    )  # fmt: skip
    without_hotcoco()
    assert_equal(expected, match(made.truth, made.predictions, task="segm"))
    np.testing.assert_array_equal(drawn, decode_mask(polygon, 40, 50))
    assert area == mask_area(polygon, 40, 50) == drawn.sum()


def test_types_of_errors_say_what_they_need(problem: Any, without_hotcoco: Callable[[], None]) -> None:
    made = problem(7)
    without_hotcoco()
    with pytest.raises(MissingExtraError, match="needs hotcoco"):
        error_types(made.truth, made.predictions)


def test_annotation_ids_that_start_anew_in_each_image_change_nothing(
    problem: Any, without_hotcoco: Callable[[], None]
) -> None:
    made = problem(8)
    expected, types = match(made.truth, made.predictions), error_types(made.truth, made.predictions)
    seen: dict[int, int] = {}
    for annotation in made.truth["annotations"]:
        seen[annotation["image_id"]] = annotation["id"] = seen.get(annotation["image_id"], 0) + 1
    given = copy.deepcopy(made)
    assert_equal(expected, match(made.truth, made.predictions))
    assert error_types(made.truth, made.predictions) == types
    without_hotcoco()
    assert_equal(expected, match(made.truth, made.predictions))
    assert made == given


def test_an_area_that_is_missing_is_that_of_what_is_compared(problem: Any, without_hotcoco: Callable[[], None]) -> None:
    made = problem(9, images=6)
    for thing in [*made.truth["annotations"], *made.predictions]:  # a disc, whose area is 0.78 of its box's
        x, y, w, h = thing["bbox"]
        turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        outline = np.stack([x + w / 2 * (1 + np.cos(turns)), y + h / 2 * (1 + np.sin(turns))], 1)
        thing["segmentation"] = [outline.ravel().tolist()]
    for thing in made.predictions:
        thing["segmentation"] = run_lengths(decode_mask(thing["segmentation"], 480, 640))
    for place, annotation in enumerate(made.truth["annotations"]):
        if place % 2:
            annotation["segmentation"] = run_lengths(decode_mask(annotation["segmentation"], 480, 640))
    expected = {}
    for task in TASKS:
        for annotation in made.truth["annotations"]:
            _, _, width, height = annotation["bbox"]
            mask = decode_mask(annotation["segmentation"], 480, 640)
            annotation["area"] = width * height if task == "bbox" else int(mask.sum())
        expected[task] = match(made.truth, made.predictions, task=task)
    for annotation in made.truth["annotations"]:
        del annotation["area"]
    for task in TASKS:
        assert_equal(expected[task], match(made.truth, made.predictions, task=task))
    without_hotcoco()
    for task in TASKS:
        assert_equal(expected[task], match(made.truth, made.predictions, task=task))


@pytest.mark.parametrize("part", ["images", "categories", "annotations"])
def test_ids_that_are_no_numbers_are_refused_by_both(
    part: str, problem: Any, without_hotcoco: Callable[[], None]
) -> None:
    made, field = problem(10), "image_id" if part == "annotations" else "id"
    made.truth[part][1][field] = "000012"
    said = rf"{part}\[1\] of the ground truth needs a non-negative integer as its {field}, got '000012'; give images"
    with pytest.raises(DataError, match=said):
        match(made.truth, made.predictions)
    without_hotcoco()
    with pytest.raises(DataError, match=said):
        match(made.truth, made.predictions)


def test_what_is_no_ground_truth_is_said(problem: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.json cannot be read .No such file"):
        match(tmp_path / "none.json", [])
    file = tmp_path / "truth.json"
    for text, said in [
        ("{", "truth.json is not a JSON file"),
        ("[]", r"truth.json is no such file .*: an object \(instances format\) was expected, got list"),
        ('{"images": null}', "images of the ground truth should be a list of objects, got None"),
        ('{"annotations": [3]}', r"annotations of the ground truth should be a list of objects, got \[3\]"),
    ]:
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            match(file, [])
    made = problem(11)
    del made.truth["annotations"][2]["area"], made.truth["annotations"][2]["bbox"]
    with pytest.raises(DataError, match=r"annotations\[2\] of the ground truth needs an area, or a bbox .* bbox=None"):
        match(made.truth, [])


def test_files_of_detections_are_read_like_those_of_ground_truth(problem: Any, tmp_path: Path) -> None:
    """A mark of the byte order, which editors on Windows write, changes nothing."""
    made = problem(12)
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    truth.write_text(json.dumps(made.truth), encoding="utf-8-sig")
    found.write_text(json.dumps(made.predictions), encoding="utf-8-sig")
    assert evaluate(truth, found).numbers == evaluate(made.truth, made.predictions).numbers
    for text, said in [("{", "found.json is not a JSON file"), ("{}", r"a list of detections .* expected, got dict")]:
        found.write_text(text)
        with pytest.raises(DataError, match=said):
            evaluate(truth, found)
