"""What a study's detection hands to the evaluator, against the host's own predictions and labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.utils.ops import xyxy2ltwh

from attngraft._core.errors import DataError, OptionError
from attngraft.coco.masks import run_lengths
from attngraft.yolo import YOLO
from attngraft.yolo.detecting import _require_same_classes, detect

mask = pytest.importorskip("hotcoco", reason="needs the [study] extra").mask
SIDE = 128


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def make(base: str) -> Path:
        file = tmp_path_factory.mktemp("weights") / "weights" / "last.pt"
        file.parent.mkdir()
        model = YOLO(base)
        for branch in getattr(model.model.model[-1], "cv3", ()):
            bias = branch[-1].bias.data  # an untrained head is sure of nothing
            bias.copy_(torch.full_like(bias, -9).index_fill_(0, torch.tensor([3]), 2.0))
        if model.task == "segment":
            model.model.model[-1].proto.cv3.conv.weight.data.mul_(20)  # or a mask is all of its box
        model.save(file)
        return file

    return make


def test_masks_are_those_that_the_host_predicts(
    weights: Callable[[str], Path], tiny_data: Callable[[str], str]
) -> None:
    file = weights("yolo11n-seg.yaml")
    seen = detect(file, tiny_data("segment"), split="val", options={"imgsz": SIDE, "batch": 1})
    assert seen.task == "segm"
    picture = seen.truth["images"][0]
    (theirs,) = YOLO(file)(
        seen.root / picture["file_name"], imgsz=SIDE, conf=0.001, max_det=100, retina_masks=True, verbose=False
    )
    ours = {key(r["category_id"], r["bbox"]): r for r in seen.found if r["image_id"] == picture["id"]}
    boxes = xyxy2ltwh(theirs.boxes.xyxy).tolist()
    hosts = dict(zip(map(key, theirs.boxes.cls.tolist(), boxes), theirs.masks.data.numpy(), strict=True))
    both = [(ours[k], hosts[k]) for k in ours.keys() & hosts.keys()]  # the host validates several classes of a box
    assert both
    for row, expected in both:
        found = mask.decode(row["segmentation"])
        assert found.shape == expected.shape == (picture["height"], picture["width"])
        assert np.mean(found != expected) < 0.02  # the host scales either before or after it cuts at 0.5
    assert any(0 < expected.mean() < 1 for _, expected in both)


def key(category: float, box: list[float]) -> tuple[int, ...]:
    return (int(category), *(round(side) for side in box))


def test_the_truth_of_masks_is_the_labels_outline(
    weights: Callable[[str], Path], tiny_data: Callable[[str], str]
) -> None:
    seen = detect(weights("yolo11n-seg.yaml"), tiny_data("segment"), split="val", options={"imgsz": SIDE, "batch": 2})
    sizes = {image["id"]: (image["height"], image["width"]) for image in seen.truth["images"]}
    for one in seen.truth["annotations"]:
        height, width = sizes[one["image_id"]]
        drawn = mask.decode(mask.merge(mask.fr_py_objects(one["segmentation"], height, width)))
        assert drawn.sum() == one["area"] == height * width / 4
        x, y, w, h = one["bbox"]
        assert drawn[round(y) : round(y + h), round(x) : round(x + w)].all()


def test_run_lengths_are_what_coco_decodes() -> None:
    rng = np.random.default_rng(0)
    for made in (rng.random((7, 5)) < 0.5, np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        assert np.array_equal(mask.decode(run_lengths(made)), made)


def test_only_boxes_and_masks_are_compared(weights: Callable[[str], Path], tiny_data: Callable[[str], str]) -> None:
    with pytest.raises(OptionError, match="detect or segment.*classify"):
        detect(weights("yolo11n-cls.yaml"), tiny_data("classify"), split="val", options={"imgsz": SIDE})


def test_numbers_that_stand_for_names_are_compared_with_nothing() -> None:
    unnamed, named = {0: "0", 1: "1"}, {0: "blue", 1: "red"}
    require = partial(_require_same_classes, Path("last.pt"), data="data.yaml", single=False)
    require(unnamed, named=named)
    require(named, named=named)
    with pytest.raises(DataError, match="number 2 is none in the model and green in the data"):
        require(unnamed, named={**named, 2: "green"})
    with pytest.raises(DataError, match="number 0 is red in the model and blue in the data"):
        require({0: "red", 1: "blue"}, named=named)
