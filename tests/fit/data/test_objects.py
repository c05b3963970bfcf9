"""Annotated images, the same from whichever format they were read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attngraft.coco.evaluate import evaluate
from attngraft.fit.data.coco import read_coco
from attngraft.fit.data.yolo_folder import read_yolo


def test_coco_and_yolo_of_the_same_objects_are_the_same(shapes: Path) -> None:
    coco = read_coco(shapes / "instances_train.json", None, masks=True)
    yolo = read_yolo(shapes / "data.yaml", "train", masks=True)
    assert coco.classes == yolo.classes == ("red", "green")  # COCO's numbers are 3 and 7
    for one, other in zip(coco.images, yolo.images, strict=True):
        assert (one.path.name, one.width, one.height) == (other.path.name, other.width, other.height)
        np.testing.assert_allclose(one.boxes(), other.boxes(), atol=1e-3)
        np.testing.assert_array_equal(one.labels(), other.labels())
        np.testing.assert_array_equal(one.masks(), other.masks())
        assert one.masks()[0].sum() == 120
    truth = coco.truth(masks=True)
    assert [annotation["category_id"] for annotation in truth["annotations"][:2]] == [1, 2]
    found = [{**annotation, "score": 0.9} for annotation in truth["annotations"]]
    assert evaluate(truth, found, task="segm").numbers["AP"] == pytest.approx(1)


def test_what_has_no_area_is_dropped_and_counted(coco: Callable[..., Path]) -> None:
    def spoil(content: dict[str, Any]) -> None:
        first, second, third, _, fifth = content["annotations"][:5]
        first["bbox"] = [5, 5, 0, 9]
        second["bbox"] = [70, 5, 9, 9]
        third["segmentation"] = [[1, 1, 2, 2]]
        fifth["bbox"] = [-10, 40, 20, 20]

    data = read_coco(coco(spoil), None, masks=True)
    assert data.dropped == 3
    assert data.images[2].things[0].box == (0, 40, 10, 48)
    assert read_coco(coco(spoil), None, masks=False).dropped == 2
    assert not data.images[0].things
    assert data.images[0].boxes().shape == (0, 4)
    assert data.images[0].masks().shape == (0, 48, 64)


def test_a_crowd_is_left_to_the_evaluation(coco: Callable[..., Path]) -> None:
    data = read_coco(coco(lambda content: content["annotations"][0].update(iscrowd=1)), None, masks=True)
    picture = data.images[0]
    assert (len(picture.boxes()), len(picture.boxes(crowds=True))) == (1, 2)
    assert data.truth(masks=False)["annotations"][0]["iscrowd"] == 1
