"""YOLO's data.yaml and labels: what the reader gives, and one sentence for each thing that can be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ultralytics.data.utils import check_det_dataset

from attngraft._core.errors import DataError
from attngraft.fit.data.yolo_folder import read_yolo


def test_yolo_boxes_and_outlines_and_holes_in_the_numbers(yolo: Callable[..., Path]) -> None:
    names = "train: images\nval: images\nnames: {2: red, 5: green}\n"
    file = yolo("5 0.5 0.5 0.25 0.5", "2 0.25 0.25 0.5 0.25 0.5 0.5", "", "2 0.1 0.1 0 0.2", data=names)
    data = read_yolo(file, "train", masks=False)
    assert data.classes == ("red", "green")
    assert data.dropped == 1
    np.testing.assert_allclose(data.images[0].boxes(), [[24, 12, 40, 36], [16, 12, 32, 24]])
    assert data.images[0].labels().tolist() == [1, 0]


def test_yolo_splits_may_be_lists_and_a_picture_may_have_no_label(yolo: Callable[..., Path], tmp_path: Path) -> None:
    yolo("0 0.5 0.5 0.25 0.5")
    Image.new("RGB", (8, 8)).save(tmp_path / "images/1.png")
    (tmp_path / "list.txt").write_text("images/0.png\n\n./images/1.png\n")
    file = yolo("0 0.5 0.5 0.25 0.5", data="train: [list.txt]\nval: images\nnc: 1\n")
    data = read_yolo(file, "train", masks=False)
    assert [len(picture.things) for picture in data.images] == [1, 0]
    assert data.classes == ("0",)


def test_images_of_other_channels_are_refused(yolo: Callable[..., Path]) -> None:
    data = "train: images\nval: images\nnames: [a]\nchannels: "
    assert len(read_yolo(yolo("0 0.5 0.5 0.25 0.5", data=data + "1"), "train", masks=False).images) == 1
    with pytest.raises(DataError, match=r"data.yaml says channels: 6, and fit trains on RGB images"):
        read_yolo(yolo("0 0.5 0.5 0.25 0.5", data=data + "6"), "train", masks=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "labels/0.txt, line 1: class 2 is not among the names of .*data.yaml, 0 to 1"),
        ("0 0.5 0.5 0.1 wide", "line 1: expected numbers, got '0 0.5 0.5 0.1 wide'"),
        ("0 0.5 0.5 0.1", "line 1: expected a class and 4 numbers of a box or 3 or more points, got 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "got 6 numbers"),
        ("0 0.5 nan 0.1 0.1", "line 1: expected parts of the image's width and height, from 0 to 1, got nan$"),
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
        ("train: images\nnc: 1000000000\n", "needs nc to be the number of classes, up to 100000, got 1000000000"),
        (f"train: images\nnames: [a]\npath: {'x' * 300}\n", "the split 'train' is in .*, which does not exist"),
        ("train: " + "[" * 5000, "not valid YAML|nested more than 100 levels"),
        ("names: [a]\n", "needs the keys train, val and names"),
        ("train: images\n", "needs names, a list of class names"),
        ("train: images\nnames: {red: a, green: b}\n", "needs the keys of names to be class numbers, got 'red'"),
        ("train: images\nnames: [a, b, c]\nnc: 5\n", "says nc: 5 and has 3 names; correct one of them"),
        ("train: 5\nnames: [a, b]\n", "needs train to be a folder, a list file, or a list of those, got 5"),
        ("train: [5]\nnames: [a, b]\n", "needs train to be a folder, a list file, or a list of those, got 5"),
        ("train: elsewhere\nnames: [a, b]\n", "the split 'train' is in .*elsewhere, which does not exist"),
        ("train: images\nval: [\n", "is not valid YAML"),
        ("train: labels\nnames: [a, b]\n", "the split 'train' has no images"),
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
    with pytest.raises(DataError, match=r"no image of the split 'train' has a label file; .*labels/0.txt"):
        read_yolo(file, "train", masks=False)
    with pytest.raises(DataError, match="expected a YAML file, and .*nowhere.yaml is not there"):
        read_yolo(tmp_path / "nowhere.yaml", "train", masks=False)


def test_a_label_file_in_another_encoding_is_named(yolo: Callable[..., Path], tmp_path: Path) -> None:
    file = yolo("0 0.5 0.5 0.1 0.1")
    (tmp_path / "labels/0.txt").write_bytes(b"0 0.5 0.5 0.1 0.1 # gr\xfcn")
    with pytest.raises(DataError, match=r"labels/0.txt is not a text in UTF-8 that can be read .*; save it again"):
        read_yolo(file, "train", masks=False)


def test_a_coordinate_a_rounding_error_outside_is_clipped(yolo: Callable[..., Path]) -> None:
    (picture,) = read_yolo(yolo("0 0.5 0.5 1.000001 1"), "train", masks=False).images
    assert picture.boxes().tolist() == [[0, 0, 64, 48]]


def test_an_alias_bomb_is_refused_in_no_time(yolo: Callable[..., Path]) -> None:
    """Ten aliases of ten aliases stand for 10 ** 9 class names in a few hundred bytes."""
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]\n" for i in range(9))
    with pytest.raises(DataError, match="stands for more than 1,000,000 values"):
        read_yolo(yolo("0 0.5 0.5 0.1 0.1", data=f"{bomb}train: images\nnames: *a8\n"), "train", masks=False)


def test_lists_and_labels_may_begin_with_a_byte_order_mark(yolo: Callable[..., Path], tmp_path: Path) -> None:
    file = yolo("\ufeff0 0.5 0.5 0.25 0.5", data="train: list.txt\nval: images\nnames: [a]\n")
    (tmp_path / "list.txt").write_text("\ufeffimages/0.png\r\n")
    assert len(read_yolo(file, "train", masks=False).images[0].things) == 1


def test_roboflows_folders_beside_the_data_yaml_are_found_as_ultralytics_finds_them(
    yolo: Callable[..., Path], tmp_path: Path
) -> None:
    """Roboflow writes ``../train/images`` for a folder that lies beside the data.yaml."""
    names = "train: ../train/images\nval: ../valid/images\nnames: [red, green]\n"
    file = yolo("0 0.5 0.5 0.25 0.5", data=names)
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        for folder in ("images", "labels"):
            shutil.copytree(tmp_path / folder, tmp_path / split / folder)
    theirs = check_det_dataset(str(file), autodownload=False)
    for split in ("train", "val"):
        images = read_yolo(file, split, masks=False).images
        assert [str(image.path.parent) for image in images] == [theirs[split]]
        assert len(images[0].things) == 1


def test_a_folder_that_is_where_it_is_said_to_be_wins_over_one_beside_the_data_yaml(
    yolo: Callable[..., Path], tmp_path: Path
) -> None:
    yolo("0 0.5 0.5 0.25 0.5")
    (tmp_path / "here/images").mkdir(parents=True)
    file = tmp_path / "here/data.yaml"
    file.write_text("train: ../images\nval: ../absent\nnames: [red]\n")
    assert len(read_yolo(file, "train", masks=False).images) == 1
    with pytest.raises(DataError, match=r"the split 'val' is in .*here/\.\./absent, which does not exist"):
        read_yolo(file, "val", masks=False)


@pytest.mark.parametrize("points", ["0.1 0.1 0.9 0.9", "0.1 0.1 2 0.9 0.9 1"])
def test_of_labels_with_keypoints_the_box_is_read(yolo: Callable[..., Path], points: str) -> None:
    """Without visibility the numbers look like an outline, whose box would be another."""
    shape = f"kpt_shape: [2, {len(points.split()) // 2}]\n"
    file = yolo(f"0 0.5 0.5 0.25 0.5 {points}", data=f"train: images\nval: images\nnames: [red]\n{shape}")
    (image,) = read_yolo(file, "val", masks=False).images
    np.testing.assert_allclose(image.boxes(), [[24, 12, 40, 36]])


def test_an_object_that_is_repeated_counts_once_as_in_ultralytics(yolo: Callable[..., Path]) -> None:
    file = yolo("0 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.25 0.5\n")
    (image,) = read_yolo(file, "train", masks=False).images
    assert image.labels().tolist() == [0, 1]


def test_a_split_called_validation_is_val(yolo: Callable[..., Path]) -> None:
    file = yolo("0 0.5 0.5 0.25 0.5", data="train: images\nvalidation: images\nnames: [red]\n")
    assert len(read_yolo(file, "val", masks=False).images) == 1


@pytest.mark.parametrize(
    ("data", "line"),
    [("path: sub\ntrain: images\nval: images", None), ("train: images\nval: list.txt", "sub/images/0.png")],
    ids=["path", "list"],
)
def test_what_is_relative_to_the_working_directory_is_found_as_by_ultralytics(
    yolo: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, line: str | None
) -> None:
    yolo("0 0.5 0.5 0.25 0.5")
    for name in ("images", "labels"):
        shutil.move(tmp_path / name, tmp_path / "sub" / name)
    file = tmp_path / "cfg" / "data.yaml"
    file.parent.mkdir()
    file.write_text(f"{data}\nnames: [red]\n")
    if line:
        (file.parent / "list.txt").write_text(line)
    monkeypatch.chdir(tmp_path)
    (image,) = read_yolo(file, "val", masks=False).images
    assert (image.path.resolve(), len(image.things)) == (tmp_path / "sub/images/0.png", 1)
