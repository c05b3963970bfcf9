"""The readers of data sets: what they give, and the one sentence for each thing that can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import mask
from PIL import Image

from attngraft._core.errors import DataError
from attngraft.coco.evaluate import evaluate
from attngraft.coco.masks import mask_area, run_counts
from attngraft.fit.coco import coco_splits, read_coco
from attngraft.fit.folders import read_classes, read_pairs
from attngraft.fit.yolo_folder import read_yolo, yolo_splits

Change = Callable[[dict[str, Any]], object]


def outlined(segmentation: Any) -> Change:
    """Give the first annotation this outline."""
    return lambda content: content["annotations"][0].update(segmentation=segmentation)


@pytest.fixture
def coco(shapes: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a changed copy of the training JSON beside the pictures."""

    def write(change: Change = lambda content: None) -> Path:
        content = json.loads((shapes / "instances_train.json").read_text())
        change(content)
        if not (tmp_path / "images").exists():
            (tmp_path / "images").symlink_to(shapes / "images")
        (tmp_path / "instances_train.json").write_text(json.dumps(content))
        return tmp_path / "instances_train.json"

    return write


@pytest.fixture
def yolo(shapes: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a data set of one picture with these label lines."""

    def write(*lines: str, data: str = "train: images\nval: images\nnames: [red, green]\n") -> Path:
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "images/0.png")
        (tmp_path / "labels/0.txt").write_text("\n".join(lines))
        (tmp_path / "data.yaml").write_text(data)
        return tmp_path / "data.yaml"

    return write


def test_coco_and_yolo_of_the_same_objects_are_the_same(shapes: Path) -> None:
    coco = read_coco(shapes / "instances_train.json", None, masks=True)
    yolo = read_yolo(shapes / "data.yaml", "train", masks=True)
    assert coco.classes == yolo.classes == ("red", "green")  # COCO's numbers are 3 and 7
    for one, other in zip(coco.pictures, yolo.pictures, strict=True):
        assert (one.path.name, one.width, one.height) == (other.path.name, other.width, other.height)
        np.testing.assert_allclose(one.boxes(), other.boxes(), atol=1e-3)
        np.testing.assert_array_equal(one.labels(), other.labels())
        np.testing.assert_array_equal(one.masks(), other.masks())
        assert one.masks()[0].sum() == 120
    truth = coco.truth(masks=True)
    assert [annotation["category_id"] for annotation in truth["annotations"][:2]] == [1, 2]
    found = [{**annotation, "score": 0.9} for annotation in truth["annotations"]]
    assert evaluate(truth, found, task="segm").numbers["AP"] == pytest.approx(1)


def test_the_reference_of_coco_reads_whole(shared_data: Path, tmp_path: Path) -> None:
    """Of its 839 annotations each is either kept or counted as dropped, and truth against itself is perfect."""
    file = shared_data / "coco_eval_ref/instances_val2014_100.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        (tmp_path / image["file_name"]).touch()
    data = read_coco(file, tmp_path, masks=True)
    things = [thing for picture in data.pictures for thing in picture.things]
    assert len(things) + data.dropped == len(content["annotations"]) == 839
    assert data.dropped == 0
    assert len(data.classes) == len(content["categories"])
    assert sum(thing.crowd for thing in things) == sum(a["iscrowd"] for a in content["annotations"])
    truth = data.truth(masks=True)
    found = [{**a, "score": 0.9} for a in truth["annotations"] if not a["iscrowd"]]
    for task in ("bbox", "segm"):
        assert evaluate(truth, found, task=task).numbers["AP"] > 0.99
    picture = next(picture for picture in data.pictures if len(picture.kept(False)) > 2)
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
        for one, other in zip(plain.pictures, runs.pictures, strict=True):
            np.testing.assert_array_equal(one.masks(), other.masks())
    with pytest.raises(DataError, match="run lengths are for a picture of 64x48 pixels, and theirs has 48x64"):
        mask_area({"size": [48, 64], "counts": [48 * 64]}, 64, 48)


def test_what_has_no_area_is_dropped_and_counted(coco: Callable[..., Path]) -> None:
    def spoil(content: dict[str, Any]) -> None:
        first, second, third, _, fifth = content["annotations"][:5]
        first["bbox"] = [5, 5, 0, 9]
        second["bbox"] = [70, 5, 9, 9]
        third["segmentation"] = [[1, 1, 2, 2]]
        fifth["bbox"] = [-10, 40, 20, 20]

    data = read_coco(coco(spoil), None, masks=True)
    assert data.dropped == 3
    assert data.pictures[2].things[0].box == (0, 40, 10, 48)
    assert read_coco(coco(spoil), None, masks=False).dropped == 2
    assert not data.pictures[0].things
    assert data.pictures[0].boxes().shape == (0, 4)
    assert data.pictures[0].masks().shape == (0, 48, 64)


def test_a_crowd_is_left_to_the_evaluation(coco: Callable[..., Path]) -> None:
    data = read_coco(coco(lambda content: content["annotations"][0].update(iscrowd=1)), None, masks=True)
    picture = data.pictures[0]
    assert (len(picture.boxes()), len(picture.boxes(crowds=True))) == (1, 2)
    assert data.truth(masks=False)["annotations"][0]["iscrowd"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="images/train/x.png"), "in none of .* say where .* images=FOLDER"),
        (lambda c: c["images"][1].update(file_name="images/train/x.png"), "lists 1 pictures that are not in"),
        (lambda c: c["annotations"][0].update(image_id=99), "annotation 1 is of image 99, which is not listed"),
        (lambda c: c["annotations"][0].update(category_id=4), "annotation 1 is of category 4, which is not listed"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"1 needs bbox to be four numbers, .* got \[1, 2, 3\]"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4]), "annotation 1 needs bbox to be .* no side below 0"),
        (lambda c: c["annotations"][0].update(bbox=[float("nan"), 1, 5, 5]), "annotation 1 needs bbox to be four"),
        (lambda c: c["annotations"][0].update(area="big"), "annotation 1 needs area to be a number .*, got big"),
        (lambda c: c["annotations"][0].update(image_id=[1]), r"annotation 1 needs image_id to be .*, got \[1\]"),
        (lambda c: c["annotations"].insert(1, "x"), "entry 1 of 'annotations' needs to be a mapping, got 'x'"),
        (lambda c: c["images"][0].update(width="64"), "image 0 needs width to be a whole number above 0, got 64"),
        (lambda c: c["images"][0].update(width=None), "image 0 needs width to be a whole number above 0, got None"),
        (lambda c: c["images"][0].update(width=0), "image 0 needs width to be a whole number above 0, got 0"),
        (lambda c: c["images"][0].update(file_name=5), "image 0 needs file_name to be a text, got 5"),
        (lambda c: c["images"][0].update(id=None), "entry 0 of 'images' needs id to be a number or a text, got None"),
        (lambda c: c["images"][0].update(id=1), "image 1 is listed twice; give each an id of its own"),
        (lambda c: c["categories"][0].update(id="3"), "ids of 'categories' are numbers and texts"),
        (lambda c: c["categories"][0].update(id=7), "category 7 is listed twice"),
        (outlined("text"), "annotation 1 needs segmentation to be lists of x and y in turn, .* got text"),
        (outlined([["a", 1, 2, 3, 4, 5]]), "annotation 1 needs segmentation to be lists of x and y"),
        (outlined([[1, 1, 2, 2, 3]]), "annotation 1 needs segmentation to be lists of x and y"),
        (outlined({"size": [48, 64], "counts": [1, -1, 3072]}), "annotation 1 needs counts to be whole numbers"),
        (outlined({"size": [48, 64], "counts": [5, 5]}), "annotation 1 has run lengths of 10 pixels, .* has 3072"),
        (outlined({"size": [48, 64], "counts": "55"}), "annotation 1 has run lengths of 10 pixels, .* has 3072"),
        (outlined({"size": [48, 64], "counts": "é"}), "json: annotation 1 has run lengths that cannot be read: 'é'"),
        (outlined({"size": [48, 64], "counts": "X"}), "annotation 1 has run lengths .* ends within a number"),
        (
            outlined({"size": [5, 5], "counts": [25]}),
            r"1 has run lengths of size \[5, 5\], and its image has \[48, 64\]",
        ),
        (lambda c: c["annotations"].clear(), "none of the 8 pictures, the first of which is .*0.png, has an object"),
        (lambda c: c["images"].clear() or c["annotations"].clear(), "the data set has no pictures"),
        (lambda c: c["images"][0].pop("width"), "image 0 needs width to be .*, and has none"),
        (lambda c: c.pop("categories"), "has no list 'categories'; it should be in COCO's"),
        (lambda c: c["annotations"][0].pop("segmentation"), "0.png have boxes without outlines"),
    ],
)
def test_what_is_wrong_with_coco_is_said(coco: Callable[..., Path], change: Change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_coco(coco(change), None, masks=True)


def test_the_files_of_coco_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "coco/annotations"
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no instances_train\*.json"):
        coco_splits(tmp_path / "coco")
    for name in ("instances_train2017", "instances_val2017", "captions_val2017"):
        (folder / f"{name}.json").touch()
    expected = {"train": folder / "instances_train2017.json", "val": folder / "instances_val2017.json"}
    assert coco_splits(tmp_path / "coco") == coco_splits(folder / "instances_train2017.json") == expected
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="broken.json is not JSON"):
        read_coco(tmp_path / "broken.json", None, masks=False)
    with pytest.raises(DataError, match="nowhere.json does not exist"):
        read_coco(tmp_path / "nowhere.json", None, masks=False)


def test_yolo_boxes_and_outlines_and_holes_in_the_numbers(yolo: Callable[..., Path]) -> None:
    names = "train: images\nval: images\nnames: {2: red, 5: green}\n"
    file = yolo("5 0.5 0.5 0.25 0.5", "2 0.25 0.25 0.5 0.25 0.5 0.5", "", "2 0.1 0.1 0 0.2", data=names)
    data = read_yolo(file, "train", masks=False)
    assert data.classes == ("red", "green")
    assert data.dropped == 1
    np.testing.assert_allclose(data.pictures[0].boxes(), [[24, 12, 40, 36], [16, 12, 32, 24]])
    assert data.pictures[0].labels().tolist() == [1, 0]
    assert yolo_splits(file) == ["train", "val"]


def test_yolo_splits_may_be_lists_and_a_picture_may_have_no_label(yolo: Callable[..., Path], tmp_path: Path) -> None:
    yolo("0 0.5 0.5 0.25 0.5")
    Image.new("RGB", (8, 8)).save(tmp_path / "images/1.png")
    (tmp_path / "list.txt").write_text("images/0.png\n\n./images/1.png\n")
    file = yolo("0 0.5 0.5 0.25 0.5", data="train: [list.txt]\nval: images\nnc: 1\n")
    data = read_yolo(file, "train", masks=False)
    assert [len(picture.things) for picture in data.pictures] == [1, 0]
    assert data.classes == ("0",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "labels/0.txt, line 1: class 2 is not among the names of .*data.yaml, 0 to 1"),
        ("0 0.5 0.5 0.1 wide", "line 1: expected numbers, got '0 0.5 0.5 0.1 wide'"),
        ("0 0.5 0.5 0.1", "line 1: expected a class and 4 numbers of a box or 3 or more points, got 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "got 6 numbers"),
        ("0 0.5 nan 0.1 0.1", "line 1: expected parts of the picture's width and height, from 0 to 1, got nan$"),
        ("0 20 16 10 12", "line 1: expected parts .*, got 20; if these are pixels, divide them by its width and"),
        ("0 0.1 0.1 0.5 1.2 0.3 0.3", "line 1: expected parts .*, got 1.2; if these are pixels"),
        ("0 0.5 0.5 -0.001 0.1", "line 1: expected a width and a height of 0 or more, got -0.001 and 0.1"),
        ("0 0.5 0.5 0.1 0.1", "have boxes without outlines; segmentation needs polygons or masks"),
    ],
)
def test_what_is_wrong_with_a_label_is_said(yolo: Callable[..., Path], line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_yolo(yolo(line), "train", masks=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("names: [a]\n", "needs the keys train, val and names"),
        ("train: images\n", "needs names, a list of class names"),
        ("train: images\nnames: {red: a, green: b}\n", "needs the keys of names to be class numbers, got 'red'"),
        ("train: images\nnames: [a, b, c]\nnc: 5\n", "says nc: 5 and has 3 names; correct one of them"),
        ("train: 5\nnames: [a, b]\n", "needs train to be a folder, a list file, or a list of those, got 5"),
        ("train: [5]\nnames: [a, b]\n", "needs train to be a folder, a list file, or a list of those, got 5"),
        ("train: elsewhere\nnames: [a, b]\n", "the split 'train' is in .*elsewhere, which does not exist"),
        ("train: images\nval: [\n", "is not YAML"),
        ("train: labels\nnames: [a, b]\n", "the split 'train' has no pictures"),
    ],
)
def test_what_is_wrong_with_a_data_yaml_is_said(yolo: Callable[..., Path], data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_yolo(yolo("0 0.5 0.5 0.1 0.1", data=data), "train", masks=False)


def test_yolo_without_labels_or_split_is_refused(yolo: Callable[..., Path], tmp_path: Path) -> None:
    file = yolo("0 0.5 0.5 0.1 0.1")
    with pytest.raises(DataError, match="has no split 'test'"):
        read_yolo(file, "test", masks=False)
    (tmp_path / "labels/0.txt").unlink()
    with pytest.raises(DataError, match=r"no picture of the split 'train' has a label file; .*labels/0.txt"):
        read_yolo(file, "train", masks=False)
    with pytest.raises(DataError, match="nowhere.yaml does not exist"):
        read_yolo(tmp_path / "nowhere.yaml", "train", masks=False)


def test_a_label_file_in_another_encoding_is_named(yolo: Callable[..., Path], tmp_path: Path) -> None:
    file = yolo("0 0.5 0.5 0.1 0.1")
    (tmp_path / "labels/0.txt").write_bytes(b"0 0.5 0.5 0.1 0.1 # gr\xfcn")
    with pytest.raises(DataError, match=r"labels/0.txt is not a text in UTF-8 that can be read .*; save it anew"):
        read_yolo(file, "train", masks=False)


def test_a_coordinate_a_rounding_error_outside_is_clipped(yolo: Callable[..., Path]) -> None:
    (picture,) = read_yolo(yolo("0 0.5 0.5 1.000001 1"), "train", masks=False).pictures
    assert picture.boxes().tolist() == [[0, 0, 64, 48]]


def test_classes_are_those_of_training_whatever_a_split_holds(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(colours / "train")
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid/red").symlink_to(colours / "val/red")
    (tmp_path / "valid/blue").mkdir()
    found = read_classes(tmp_path, "val")
    assert found.classes == ("blue", "green", "red")
    assert set(found.labels) == {2}  # torchvision's ImageFolder would call it 1
    (tmp_path / "valid/violet").mkdir()
    with pytest.raises(DataError, match="has the class 'violet', which .*train lacks"):
        read_classes(tmp_path, "val")


def test_what_programs_leave_is_no_class_and_a_class_needs_pictures(colours: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(colours / split, tmp_path / split)
        for name in (".ipynb_checkpoints", "__MACOSX"):
            (tmp_path / split / name).mkdir()
            shutil.copy(colours / "val/red/0.png", tmp_path / split / name)
        shutil.copy(colours / "val/red/0.png", tmp_path / split / "red/._0.png")
        found, clean = read_classes(tmp_path, split), read_classes(colours, split)
        assert (found.classes, found.labels) == (clean.classes, clean.labels)
    (tmp_path / "train/violet").mkdir()
    with pytest.raises(DataError, match="train/violet has no pictures; put the class's there, or remove the folder"):
        read_classes(tmp_path, "train")


def test_what_is_wrong_with_folders_is_said(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder train/"):
        read_classes(tmp_path, "train")
    with pytest.raises(DataError, match="nowhere is not a folder"):
        read_pairs(tmp_path / "nowhere", "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train needs a folder a class"):
        read_classes(tmp_path, "train")
    with pytest.raises(DataError, match="train has no pictures"):
        read_pairs(tmp_path, "train")
    (tmp_path / "train/red").mkdir()
    with pytest.raises(DataError, match="has no pictures in the folders of its classes"):
        read_classes(tmp_path, "train")


def test_pairs_are_matched_by_name(tmp_path: Path) -> None:
    for name in ("hr/a.png", "hr/b.png", "lr/a.jpg", "lr/b.png"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    found = read_pairs(tmp_path, "train")
    assert [file.name for file in found.low if file] == ["a.jpg", "b.png"]
    (tmp_path / "train/lr/b.png").unlink()
    with pytest.raises(DataError, match=r"hr/b.png has no partner of that name in .*lr"):
        read_pairs(tmp_path, "train")
