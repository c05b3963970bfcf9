"""COCO's instances format: what the reader gives, and one sentence for each thing that can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import mask

from attngraft._core.errors import DataError
from attngraft.coco.evaluate import evaluate
from attngraft.coco.masks import mask_area, run_counts
from attngraft.fit.data.coco import coco_splits, read_coco
from attngraft.fit.options import Options
from attngraft.fit.tasks.detect import Detector

Change = Callable[[dict[str, Any]], object]


def outlined(segmentation: Any) -> Change:
    """Give the first annotation this outline."""
    return lambda content: content["annotations"][0].update(segmentation=segmentation)


def test_the_reference_of_coco_reads_whole(shared_data: Path, tmp_path: Path) -> None:
    """Of its 839 annotations each is either kept or counted as dropped, and truth against itself is perfect."""
    file = shared_data / "coco_eval_ref/instances_val2014_100.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        (tmp_path / image["file_name"]).touch()
    data = read_coco(file, tmp_path, masks=True)
    things = [thing for picture in data.images for thing in picture.things]
    assert len(things) + data.dropped == len(content["annotations"]) == 839
    assert data.dropped == 0
    assert len(data.classes) == len(content["categories"])
    assert sum(thing.crowd for thing in things) == sum(a["iscrowd"] for a in content["annotations"])
    truth = data.truth(masks=True)
    found = [{**a, "score": 0.9} for a in truth["annotations"] if not a["iscrowd"]]
    for task in ("bbox", "segm"):
        assert evaluate(truth, found, task=task).numbers["AP"] > 0.99
    picture = next(picture for picture in data.images if len(picture.kept(False)) > 2)
    areas = [thing.area for thing in picture.kept(False)]
    np.testing.assert_allclose(picture.masks().sum((1, 2)), areas, rtol=0.15, atol=12)


def test_run_lengths_are_masks_too(coco: Callable[..., Path]) -> None:
    def as_runs(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            left, top, width, height = annotation["bbox"]
            drawn = np.zeros((48, 64), np.uint8)
            drawn[top : top + height, left : left + width] = 1
            flat = drawn.T.reshape(-1)
            cuts = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
            counts = np.diff(np.concatenate([[0], cuts, [flat.size]])).tolist()
            annotation["segmentation"] = {"size": [48, 64], "counts": counts}

    def as_text(content: dict[str, Any]) -> None:
        as_runs(content)
        for annotation in content["annotations"]:
            counts = annotation["segmentation"]["counts"]
            text = mask.encode(mask.decode(mask.frPyObjects(annotation["segmentation"], 48, 64)))["counts"].decode()
            assert run_counts(text) == counts
            annotation["segmentation"]["counts"] = text

    plain = read_coco(coco(), None, masks=True)
    for change in (as_runs, as_text):
        runs = read_coco(coco(change), None, masks=True)
        for one, other in zip(plain.images, runs.images, strict=True):
            np.testing.assert_array_equal(one.masks(), other.masks())
    with pytest.raises(DataError, match="run lengths are for .* of 64x48 pixels, and theirs has 48x64"):
        mask_area({"size": [48, 64], "counts": [48 * 64]}, 64, 48)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="images/train/x.png"), "in none of .* say where .* images=FOLDER"),
        (lambda c: c["images"][1].update(file_name="images/train/x.png"), "lists 1 images that are not in"),
        (lambda c: c["annotations"][0].update(image_id=99), "annotation 1 is of image 99, which is not listed"),
        (lambda c: c["annotations"][0].update(category_id=4), "annotation 1 is of category 4, which is not listed"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"1 needs bbox to be four numbers, .* got \[1, 2, 3\]"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4]), "annotation 1 needs bbox to be .* no side below 0"),
        (lambda c: c["annotations"][0].update(bbox=[float("nan"), 1, 5, 5]), "annotation 1 needs bbox to be four"),
        (lambda c: c["annotations"][0].update(area="big"), "annotation 1 needs area to be a number .*, got big"),
        (lambda c: c["annotations"][0].update(image_id=[1]), r"annotation 1 needs image_id to be .*, got \[1\]"),
        (lambda c: c["annotations"].insert(1, "x"), "entry 1 of 'annotations' needs to be a mapping, got 'x'"),
        (lambda c: c["images"][0].update(width="64"), "image 0 needs width to be a positive integer, got 64"),
        (lambda c: c["images"][0].update(width=None), "image 0 needs width to be a positive integer, got None"),
        (lambda c: c["images"][0].update(width=0), "image 0 needs width to be a positive integer, got 0"),
        (lambda c: c["images"][0].update(file_name=5), "image 0 needs file_name to be a text, got 5"),
        (lambda c: c["images"][0].update(id=None), "entry 0 of 'images' needs id to be a number or a text, got None"),
        (lambda c: c["images"][0].update(id=1), "image 1 is listed twice; give each an id of its own"),
        (lambda c: c["categories"][0].update(id="3"), "ids of 'categories' are numbers and texts"),
        (lambda c: c["categories"][0].update(id=7), "category 7 is listed twice"),
        (lambda c: c["images"][0].update(id=10**400), "entry 0 of 'images' needs id to be a number or a text"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, 10**400, 5]), "annotation 1 needs bbox to be four numbers"),
        (lambda c: c["images"][0].update(file_name="a" * 300), "in none of .*; say where"),
        (lambda c: c["images"][0].update(file_name="a\0"), "in none of .*; say where"),
        (lambda c: c["images"][0].update(width=10**9), "image 0 is said to be 1000000000x48 pixels, more than the"),
        (lambda c: c["images"][0].update(height=2**63), "image 0 is said to be 64x9223372036854775808 pixels"),
        (
            outlined([[1e9, 1, 9, 9, 1, 9]]),
            "annotation 1 has points more than 1024 pixels away from its image",
        ),
        (outlined("text"), "annotation 1 needs segmentation to be lists of x and y in turn, .* got text"),
        (outlined([["a", 1, 2, 3, 4, 5]]), "annotation 1 needs segmentation to be lists of x and y"),
        (outlined([[1, 1, 2, 2, 3]]), "annotation 1 needs segmentation to be lists of x and y"),
        (outlined({"size": [48, 64], "counts": [1, -1, 3072]}), "annotation 1 needs counts to be integers"),
        (outlined({"size": [48, 64], "counts": [5, 5]}), "annotation 1 has run lengths of 10 pixels, .* has 3072"),
        (outlined({"size": [48, 64], "counts": "55"}), "annotation 1 has run lengths of 10 pixels, .* has 3072"),
        (outlined({"size": [48, 64], "counts": "é"}), "json: annotation 1 has run lengths that cannot be read: 'é'"),
        (outlined({"size": [48, 64], "counts": "X"}), "annotation 1 has run lengths .* ends within a number"),
        (
            outlined({"size": [5, 5], "counts": [25]}),
            r"1 has run lengths of size \[5, 5\], and its image has \[48, 64\]",
        ),
        (lambda c: c["annotations"].clear(), "none of the 8 images, the first of which is .*0.png, has an object"),
        (lambda c: c["images"].clear() or c["annotations"].clear(), "the data set has no images"),
        (lambda c: c["images"][0].pop("width"), "image 0 needs width to be .*, and has none"),
        (lambda c: c.pop("categories"), "has no list 'categories'; it should be in COCO's"),
        (lambda c: c["annotations"][0].pop("segmentation"), "0.png have boxes without outlines"),
    ],
)
def test_what_is_wrong_with_coco_is_said(coco: Callable[..., Path], change: Change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_coco(coco(change), None, masks=True)


def test_a_file_of_brackets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="deep.json is not a JSON file"):
        read_coco(tmp_path / "deep.json", None, masks=False)


def test_images_outside_the_folder_are_reported(coco: Callable[..., Path], shapes: Path) -> None:
    def move(content: dict[str, Any]) -> None:
        content["images"][1]["file_name"] = str(shapes / "images/train/1.png")
        content["images"][2]["file_name"] = "images/../images/train/2.png"

    file = coco(move)
    note = f"2 images are outside {file.parent}, the first is {shapes}/images/train/1.png"
    assert read_coco(file, None, masks=False).notes == (note,)
    assert read_coco(coco(), None, masks=False).notes == ()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("trainval35k", "train"), ("training", "train"), ("train-1", "train"), ("validation", "val"), ("val_2", "val"),
        ("valid", "val"), ("testing", "test"), ("test-dev2017", "test"), ("valley", "train"), ("testimonials", "train"),
        ("trains", "train"), ("annotations", "train"),
    ],
)  # fmt: skip
def test_a_name_says_its_split_or_is_of_training(tmp_path: Path, name: str, split: str) -> None:
    file = tmp_path / f"{name}.json"
    file.touch()
    assert coco_splits(file) == {split: file}


def test_a_missing_split_says_what_can_be_done(coco: Callable[..., Path]) -> None:
    for split, advice in (("val", "name it with val=FILE.json"), ("test", "call it instances_test.json")):
        with pytest.raises(DataError, match=f"no JSON of the split '{split}' beside it; {advice}"):
            Detector.read(Options.of({"model": "fasterrcnn_botnet50", "data": str(coco())}), split)


def test_the_files_of_coco_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "coco/annotations"
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no instances_train\*.json"):
        coco_splits(tmp_path / "coco")
    for name in ("instances_train2017", "instances_val2017", "captions_val2017"):
        (folder / f"{name}.json").touch()
    expected = {"train": folder / "instances_train2017.json", "val": folder / "instances_val2017.json"}
    assert coco_splits(tmp_path / "coco") == coco_splits(folder / "instances_train2017.json") == expected
    assert coco_splits(folder / "instances_val2017.json") == expected  # one file for both would measure what it learned
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="broken.json is not a JSON file"):
        read_coco(tmp_path / "broken.json", None, masks=False)
    with pytest.raises(DataError, match="nowhere.json cannot be read"):
        read_coco(tmp_path / "nowhere.json", None, masks=False)
