"""Malformed data sets end in one sentence and never in an error of Python's own, whatever is wrong with them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from attngraft._core.errors import DataError
from attngraft.fit.data.coco import coco_splits, listed_images, read_coco
from attngraft.fit.data.folders import read_classes, read_pairs
from attngraft.fit.data.yolo_folder import read_yolo

FEW = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

COCO: dict[str, Any] = {
    "images": [{"id": 0, "file_name": "images/0.png", "width": 16, "height": 12}],
    "annotations": [
        {
            "id": 1,
            "image_id": 0,
            "category_id": 3,
            "bbox": [1, 1, 5, 5],
            "area": 25,
            "iscrowd": 0,
            "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]],
        },
        {
            "id": 2,
            "image_id": 0,
            "category_id": 3,
            "bbox": [1, 1, 5, 5],
            "segmentation": {"size": [12, 16], "counts": [10, 20, 162]},
        },
    ],
    "categories": [{"id": 3, "name": "a"}],
}
YOLO: dict[str, Any] = {"path": ".", "train": "images", "val": "images", "names": ["a", "b"], "nc": 2}

numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 1e308, 2**63, 10**9, -1, 0])
texts = st.text(max_size=5) | st.sampled_from(["\0", "\ud800", "a" * 300, "../x", "/etc/passwd", "images/0.png", "~"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside another."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*place, key))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    made = copy.deepcopy(value)
    inside = made
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = new
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (16, 12)).save(tmp_path / "images/0.png")
    (tmp_path / "labels/0.txt").write_text("0 .5 .5 .2 .2")
    return tmp_path


@FEW
@given(st.sampled_from([*places(COCO)]), values, st.booleans())
def test_any_value_anywhere_in_a_coco_json(home: Path, place: tuple[Any, ...], value: Any, masks: bool) -> None:
    file = home / "train.json"
    file.write_text(json.dumps(changed(COCO, place, value)))
    for read in (lambda: read_coco(file, None, masks=masks), lambda: listed_images(file, None)):
        with suppress(DataError):
            read()


@FEW
@given(st.sampled_from([*places(YOLO)]), values)
def test_any_value_anywhere_in_a_data_yaml(home: Path, place: tuple[Any, ...], value: Any) -> None:
    file = home / "data.yaml"
    file.write_bytes(yaml.safe_dump(changed(YOLO, place, value), allow_unicode=False).encode())
    with suppress(DataError):
        read_yolo(file, "train", masks=False)


@FEW
@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_in_any_file(home: Path, content: bytes) -> None:
    for name in ("train.json", "data.yaml", "labels/0.txt"):
        (home / name).write_bytes(content)
    (home / "good.yaml").write_text(yaml.safe_dump(YOLO))
    for read in (
        lambda: read_coco(home / "train.json", None, masks=True),
        lambda: read_yolo(home / "data.yaml", "train", masks=True),
        lambda: read_yolo(home / "good.yaml", "train", masks=False),
    ):
        with suppress(DataError):
            read()


@FEW
@given(st.lists(st.sampled_from(["0", "1", ".5", "-1", "nan", "1e400", "x", "٠", "\0", "0" * 400]), max_size=9))
def test_any_words_in_a_label(home: Path, words: list[str]) -> None:
    (home / "labels/0.txt").write_text(" ".join(words))
    (home / "data.yaml").write_text(yaml.safe_dump(YOLO))
    for masks in (False, True):
        with suppress(DataError):
            read_yolo(home / "data.yaml", "train", masks=masks)


@pytest.mark.parametrize("data", ["a" * 300, "\0", "\ud800x", "", "/proc/self/mem"], ids=repr)
def test_any_name_of_a_data_set(home: Path, data: str) -> None:
    (home / "train.json").write_text(json.dumps(COCO))
    for read in (
        lambda: read_classes(Path(data), "train"),
        lambda: read_pairs(Path(data), "train"),
        lambda: read_coco(Path(data), None, masks=False),
        lambda: read_yolo(Path(data), "train", masks=False),
        lambda: read_coco(home / "train.json", Path(data) / "x", masks=False),
    ):
        with pytest.raises(DataError):
            read()
    with suppress(DataError):  # an empty name is the working folder, and any file may be named as the training split
        coco_splits(Path(data))
