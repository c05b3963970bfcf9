"""Detection and segmentation: augmentation keeps boxes on their objects, trainings run, predictions are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attngraft._core.errors import DataError, FitError, OptionError
from attngraft._core.progress import Lines
from attngraft.coco.masks import decode_mask
from attngraft.drawing import PALETTE
from attngraft.fit import Fit, Options, load, validate
from attngraft.fit.data.images import read_rgb
from attngraft.fit.data.loading import chance
from attngraft.fit.data.yolo_folder import read_yolo
from attngraft.fit.predicting import predict
from attngraft.fit.tasks.detect import Sample, Scenes, augment, coco_results, drawn, framed, mirrored, scaled

DETECT: dict[str, Any] = {"model": "tiny_detector", "imgsz": 64, "batch": 4}


def options(**changes: Any) -> Options:
    return Options.of({"model": "tiny_detector", "data": "none", "imgsz": 40, "jitter": (0.3, 2.0), **changes})


def sample() -> Sample:
    """A white rectangle on grey, its box and its mask."""
    image = torch.full((3, 30, 50), 0.4)
    image[:, 8:20, 10:30] = 1.0
    masks = torch.zeros(1, 30, 50, dtype=torch.uint8)
    masks[:, 8:20, 10:30] = 1
    return Sample(image, torch.tensor([[10.0, 8.0, 30.0, 20.0]]), torch.tensor([1]), masks)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_stay_on_their_object(seed: int) -> None:
    with chance(seed, (0, 0)):
        made = augment(sample(), options())
    assert made.image.shape == (3, 40, 40)
    white = made.image.min(0).values > 0.75
    if not len(made.boxes):
        assert white.sum() < 60
        return
    assert made.masks is not None
    rows, columns = white.any(1).nonzero(), white.any(0).nonzero()
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    torch.testing.assert_close(made.boxes[0], torch.tensor(seen).float(), atol=1.6, rtol=0)
    edge = len(rows.unique()) + len(columns.unique())  # half a pixel all around
    assert (made.masks[0].bool() ^ white).sum() <= edge


def test_scaling_framing_and_mirroring_by_hand() -> None:
    half = scaled(sample(), 25, 1.0)
    assert half.image.shape == (3, 15, 25)
    assert half.boxes.tolist() == [[5, 4, 15, 10]]
    cut = framed(sample(), 10, 20, 16)
    assert cut.boxes.tolist() == [[0, 0, 10, 10]]
    assert cut.masks is not None
    assert int(cut.masks.sum()) == 100
    away = framed(sample(), 21, 0, 16)
    assert len(away.boxes) == len(away.labels) == 0
    torch.testing.assert_close(away.image[:, 12, 0], torch.tensor([0.485, 0.456, 0.406]))
    assert mirrored(sample()).boxes.tolist() == [[20, 8, 40, 20]]


def test_a_picture_of_one_pixel_is_augmented() -> None:
    one = Sample(torch.zeros(3, 1, 1), torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1]), None)
    assert augment(one, options()).image.shape == (3, 40, 40)


def test_the_pixels_depend_on_seed_epoch_and_index_alone(shapes: Path) -> None:
    data = Scenes(read_yolo(shapes / "data.yaml", "train", masks=False), options(), masks=False, training=True)
    state = torch.get_rng_state()
    once = data[(3, 1)][0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(data[(3, 1)][0], once)
    assert not torch.equal(data[(4, 1)][0], once)


def test_detections_are_written_as_coco_does() -> None:
    mask = torch.zeros(1, 1, 4, 6)
    mask[0, 0, 1:3, 2:5] = 0.9
    output = {
        "boxes": torch.tensor([[2.0, 1.0, 5.0, 3.0]]),
        "labels": torch.tensor([2]),
        "scores": torch.tensor([0.5]),
        "masks": mask,
    }
    (row,) = coco_results(7, output)
    assert (row["image_id"], row["category_id"], row["bbox"], row["score"]) == (7, 2, [2, 1, 3, 2], 0.5)
    assert row["segmentation"]["size"] == [4, 6]


@pytest.mark.parametrize("source", ["data.yaml", "", "instances_train.json"])
def test_a_detector_trains_on_each_format(shapes: Path, begin: Callable[..., Fit], source: str) -> None:
    result = begin(shapes / source, **DETECT).run()
    assert 0 <= result.best["AP"] <= 1
    assert {"train_loss", "AP50", "loss_objectness", "loss_box_reg"} <= set(result.best)


def test_a_detector_learns_and_draws_what_it_found(
    shapes: Path, begin: Callable[..., Fit], lines: list[str], tmp_path: Path
) -> None:
    result = begin(shapes / "data.yaml", **DETECT, epochs=16, lr=0.02, ema=0.7, val_every=8, jitter=(1, 1)).run()
    untrained = begin(shapes / "data.yaml", **DETECT, lr=1e-9, out="untrained").run()
    assert result.best["AP50"] > untrained.best["AP50"] + 0.1
    rows = json.loads((result.folder / "result.json").read_text())["epochs"]
    assert [row["epoch"] for row in rows if "AP" in row] == [8, 16]
    trained = load(result.folder)
    numbers = validate(trained, workers=0)
    assert numbers["AP"] == pytest.approx(result.best["AP"], abs=1e-6)
    picture = shapes / "images/val/0.png"
    for number in ("", "-2"):
        found = predict(trained, picture, confidence=0.05, progress=Lines(lines.append))
        assert (result.folder / f"predict{number}/0.png").is_file()
    assert set(found[0]) == {"boxes", "labels", "scores"}
    assert (read_rgb(result.folder / "predict/0.png") != read_rgb(picture)).any()
    assert lines[0].endswith("predict/0.png")
    assert lines[1].endswith("1 of 1 images are in runs/fit/tiny_detector/predict/predictions.json")
    with pytest.raises(OptionError, match="confidence is a number from 0 to 1, got 2"):
        predict(trained, picture, confidence=2)
    predict(trained, picture, "none", confidence=1, progress=Lines(lines.append))
    assert "no detections" in lines[-2]
    assert json.loads(Path("none/predictions.json").read_text()) == []
    with pytest.raises(FitError, match="Lightning cannot work with accelerator=tpu"):
        predict(trained, picture, accelerator="tpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no images"):
        predict(trained, tmp_path / "empty")
    with pytest.raises(DataError, match="nowhere.png does not exist"):
        predict(trained, tmp_path / "nowhere.png")


def test_a_segmenter_trains_and_draws_masks(shapes: Path, begin: Callable[..., Fit], lines: list[str]) -> None:
    result = begin(shapes / "data.yaml", "tiny_segmenter", imgsz=64, batch=4, epochs=2, lr=0.01).run()
    assert {"AP", "box_AP", "loss_mask"} <= set(result.best)
    (found,) = predict(load(result.folder), shapes / "images/val/0.png", confidence=0, progress=Lines(lines.append))
    assert found["masks"].shape[1:] == (1, 48, 64)
    rows = json.loads((result.folder / "predict/predictions.json").read_text())
    assert len(rows) == len(found["boxes"]) > 0
    for row, box, label, score, mask in zip(
        rows, found["boxes"], found["labels"], found["scores"], found["masks"], strict=True
    ):
        left, top, right, bottom = box.tolist()
        assert row["bbox"] == pytest.approx([left, top, right - left, bottom - top])
        assert (row["image_id"], row["category_id"], row["score"]) == (0, int(label), float(score))
        assert row["category_name"] == ("red", "green")[int(label) - 1]
        drawn_mask = torch.from_numpy(decode_mask(row["segmentation"], 48, 64))
        assert torch.equal(drawn_mask.bool(), mask[0] > 0.5)


def test_tags_leave_a_small_image_to_be_seen() -> None:
    result = {"boxes": torch.tensor([[20.0, 20, 40, 40]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
    covered = {}
    for side in (40, 96, 400):
        black = torch.zeros(3, side, side, dtype=torch.uint8)
        plain, tagged = (np.array(drawn(black, result, names)) for names in (["a"], ["a", "b"]))
        covered[side] = (tagged != plain).any(2).sum()
    assert covered[40] == 0
    assert 0 < covered[96] < 0.06 * 96 * 96
    assert covered[400] > covered[96]


def test_what_is_left_out_is_said(shapes: Path, begin: Callable[..., Fit], lines: list[str], tmp_path: Path) -> None:
    content = json.loads((shapes / "instances_train.json").read_text())
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    (tmp_path / "train.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(shapes / "images")
    with pytest.raises(DataError, match="no JSON of the split 'val' beside it; name it with val=FILE.json"):
        begin(tmp_path / "train.json", **DETECT).run()
    begin(tmp_path / "train.json", **DETECT, val=str(shapes / "instances_val.json"), progress=Lines(lines.append)).run()
    assert lines[0] == "training: objects left out, without area or outside their image: 1"


def test_options_that_follow_from_the_data_are_not_taken(shapes: Path, begin: Callable[..., Fit]) -> None:
    with pytest.raises(FitError, match=r"model.num_classes follows from the data"):
        begin(shapes, **DETECT, **{"model.num_classes": 3}).run()
    with pytest.raises(FitError, match=r"tiny_detector cannot be built with \{'heads': 3\}: .*heads"):
        begin(shapes, **DETECT, **{"model.heads": 3}).run()
    with pytest.raises(DataError, match="nowhere does not exist; give COCO's JSON"):
        begin(Path("nowhere"), **DETECT).run()
    for name in ("val", "images"):
        with pytest.raises(FitError, match=f"{name} is for COCO's JSON, and .*data.yaml, which names both"):
            begin(shapes / "data.yaml", **DETECT, **{name: "x"}).run()
    begin(shapes, **DETECT, **{"model.min_size": 48}).run()


def test_masks_that_overlap_are_both_seen() -> None:
    grey = torch.full((3, 30, 40), 100, dtype=torch.uint8)
    masks = torch.zeros(2, 1, 30, 40)
    masks[0, :, :, :25], masks[1, :, :, 15:] = 1, 1
    boxes = torch.tensor([[0.0, 0, 25, 30], [15, 0, 40, 30]])
    result = {"boxes": boxes, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.9, 0.8]), "masks": masks}
    picture = drawn(grey, result, ["thing"])
    once = tuple(int(0.55 * 100 + 0.45 * colour) for colour in PALETTE[0])
    assert [picture.getpixel((x, 15)) for x in (8, 32)] == [once, once]
    twice = tuple(int(0.55 * before + 0.45 * colour) for before, colour in zip(once, PALETTE[0], strict=True))
    assert picture.getpixel((20, 15)) == twice


def test_long_thin_pictures_are_trained_on_measured_and_predicted(begin: Callable[..., Fit], lines: list[str]) -> None:
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            Path(folder, split).mkdir(parents=True)
        for name, size in {"wide": (900, 7), "high": (7, 900), "one": (1, 1), "plain": (64, 48)}.items():
            Image.new("RGB", size, (200, 40, 40)).save(f"images/{split}/{name}.png")
            Path(f"labels/{split}/{name}.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9")
    Path("data.yaml").write_text("train: images/train\nval: images/val\nnames: [bar]\n")
    small = {"model.body_options": {"width": 8}, "model.channels": 16, "model.box_score_thresh": 0.0}
    result = begin(Path("data.yaml"), "fasterrcnn_resnet50", imgsz=64, batch=2, out="run", **small).run()
    assert "AP" in result.best
    trained = load(result.folder)
    assert "AP" in validate(trained, workers=0)
    found = predict(trained, "images/val", "out", confidence=0, progress=Lines(lines.append))
    assert len(found) == 4
    for (width, height), one in zip([(7, 900), (1, 1), (64, 48), (900, 7)], found, strict=True):
        assert (one["boxes"] <= torch.tensor([width, height] * 2) + 1e-3).all()
    with Image.open("out/wide.png") as picture:
        assert picture.size == (900, 7)
