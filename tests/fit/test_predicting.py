"""Predictions as a user gets them: what is written, under which ids, and what one bad image costs the others."""

from __future__ import annotations

import csv
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attngraft._core.errors import DataError, OptionError
from attngraft._core.progress import Lines
from attngraft.fit import Fit, Trained, load, predict
from attngraft.fit.predicting import predict_each
from attngraft.fit.tasks.superres import SuperResolution

DETECT: dict[str, Any] = {"model": "tiny_detector", "imgsz": 64, "batch": 4}


@pytest.fixture
def detector(shapes: Path, begin: Callable[..., Fit]) -> Trained:
    """A detector trained on COCO's JSON, whose categories are 3 and 7."""
    return load(begin(shapes / "instances_train.json", **DETECT).run().folder)


@pytest.fixture
def enlarger(photos: Path, begin: Callable[..., Fit]) -> Trained:
    """A network that makes images twice as large."""
    return load(begin(photos, "tiny_enlarger", imgsz=12, batch=4).run().folder)


def test_one_bad_file_costs_no_other_its_prediction(shapes: Path, begin: Callable[..., Fit], lines: list[str]) -> None:
    trained = load(begin(shapes / "data.yaml", **DETECT).run().folder)
    shutil.copytree(shapes / "images/val", "images")
    Path("images/1.png").write_bytes(b"no image")
    Path("images/more").mkdir()
    Path("images/more/2.png").symlink_to("../2.png")
    Path("images/name.png").symlink_to("2.png")
    found = predict(trained, "images", "out", confidence=0, progress=Lines(lines.append))
    assert [result is None for result in found] == [False, True, False, False, False, False]
    assert lines[1].startswith("images/1.png: left out: images/1.png is not an image that can be read")
    assert lines[-1] == "5 of 6 images are in out/predictions.json"
    assert {file.name for file in Path("out").iterdir()} == {
        *("0.png", "2.png", "2-2.png", "3.png", "name.png", "predictions.json")
    }
    rows = json.loads(Path("out/predictions.json").read_text())
    assert {row["image_id"] for row in rows} == {0, 2, 3, "more/2.png", "name.png"}
    with pytest.raises(DataError, match=r"1.png is not an image"):
        predict(trained, "images/1.png", "out")


def test_what_is_predicted_one_by_one_is_held_by_nobody(enlarger: Trained, lines: list[str]) -> None:
    Path("images").mkdir()
    for number in range(6):
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(f"images/{number}.png")
    Path("images/3.png").write_bytes(b"no image")
    whole = predict(enlarger, "images", "whole", progress=Lines(lines.append))
    seen: list[weakref.ref[Any]] = []
    for result, expected in zip(
        predict_each(enlarger, "images", "out", progress=Lines(lines.append)), whole, strict=True
    ):
        assert (result is None) == (expected is None)
        if result is not None:
            assert torch.equal(result, expected)
            assert sum(one() is not None for one in seen) <= 1  # the one before, until its name is given away
            seen.append(weakref.ref(result))
    assert len(seen) == 5
    assert [file.name for file in sorted(Path("out").iterdir())] == [f"{n}.png" for n in range(6) if n != 3]
    with pytest.raises(OptionError, match="confidence is a number from 0 to 1"):
        predict_each(enlarger, "images", "out", confidence=2)


def rows_of(folder: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(Path(folder, "predictions.json").read_text())
    return rows


def test_a_folder_that_is_interrupted_keeps_what_was_predicted(
    shapes: Path, detector: Trained, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = len(list((shapes / "images/val").iterdir()))
    asked = iter(range(whole))
    predicted = detector.learner.predict

    def interrupted(images: Any) -> Any:
        if next(asked) == 2:
            raise KeyboardInterrupt
        return predicted(images)

    monkeypatch.setattr(detector.learner, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(detector, shapes / "images/val", "out", confidence=0, progress=Lines(lines.append))
    assert len({row["image_id"] for row in rows_of("out")}) == 2
    assert lines[-1] == f"2 of {whole} images are in out/predictions.json"


def test_ids_are_those_of_the_data_set(shapes: Path, detector: Trained) -> None:
    """Categories are those that training saw, images those of the JSON that is predicted."""
    content = json.loads((shapes / "instances_val.json").read_text())
    for image in content["images"]:
        image["id"] += 500
    Path("test.json").write_text(json.dumps({"images": content["images"]}))
    with pytest.raises(DataError, match=r"test.json lists images/val/0.png, which is in none of .* images=FOLDER"):
        predict(detector, "test.json")
    predict(detector, "test.json", "listed", confidence=0, images=shapes)
    assert {row["image_id"] for row in rows_of("listed")} == {500, 501, 502, 503}
    assert {(row["category_id"], row["category_name"]) for row in rows_of("listed")} <= {(3, "red"), (7, "green")}
    predict(detector, shapes / "images/val", "folder", confidence=0)
    assert {row["image_id"] for row in rows_of("folder")} == {0, 1, 2, 3}
    with pytest.raises(OptionError, match="images is the folder of a COCO JSON, and the source is .*val; leave it out"):
        predict(detector, shapes / "images/val", images=shapes)


def test_boxes_of_a_json_of_unturned_images_are_of_those(shapes: Path, detector: Trained, lines: list[str]) -> None:
    """An EXIF tag says that the image lies on its side: 63x45 in the file, 45x63 as it is meant to be seen."""
    tag = Image.Exif()
    tag[0x0112] = 6
    for folder in ("plain", "tagged", "upright"):
        Path(folder).mkdir()
    for file in sorted((shapes / "images/val").iterdir()):
        with Image.open(file) as whole:
            image = whole.crop((0, 0, 63, 45))
        image.save(Path("plain", file.name))
        image.save(Path("tagged", file.name), exif=tag)
        image.transpose(Image.Transpose.ROTATE_270).save(Path("upright", file.name))

    def predicted(folder: str, seen: tuple[int, int], **size: int | None) -> list[dict[str, Any]]:
        images = [{"id": number, "file_name": f"{folder}/{number}.png", **size} for number in range(4)]
        Path("list.json").write_text(json.dumps({"images": images}))
        predict(detector, "list.json", "out", confidence=0, progress=Lines(lines.append))
        rows = [row | {"file_name": ""} for row in rows_of("out")]
        with Image.open("out/0.png") as drawn:
            assert drawn.size == seen
        shutil.rmtree("out")
        return rows

    unturned = predicted("plain", (63, 45), width=63, height=45)
    assert len(unturned) > 4
    assert predicted("tagged", (63, 45), width=63, height=45) == unturned
    turned = predicted("upright", (45, 63), width=45, height=63)
    assert turned != unturned
    for size in ({"width": 45, "height": 63}, {}, {"width": None, "height": None}, {"width": 63}):
        assert predicted("tagged", (45, 63), **size) == turned
    Path("list.json").write_text(
        json.dumps({"images": [{"id": 0, "file_name": "tagged/0.png", "width": 63, "height": 46}]})
    )
    assert predict(detector, "list.json", "out", progress=Lines(lines.append)) == [None]
    assert "tagged/0.png: left out: tagged/0.png is 45x63 pixels and its annotations are for 63x46" in lines


def test_images_whose_names_mean_one_number_are_called_by_their_names(shapes: Path, detector: Trained) -> None:
    Path("images").mkdir()
    for name in ("1.png", "01.png", "1.jpg", "2.png"):
        shutil.copy(shapes / "images/val/1.png", Path("images", name))
    predict(detector, "images", "out", confidence=0)
    assert {row["image_id"] for row in rows_of("out")} == {"1.png", "01.png", "1.jpg", 2}


def test_a_batch_gives_what_single_images_give(shapes: Path, colours: Path, begin: Callable[..., Fit]) -> None:
    classifier = load(begin(colours).run().folder)
    detector = load(begin(shapes, **DETECT).run().folder)
    for trained, source in ((classifier, colours / "val"), (detector, shapes / "images/val")):
        one, three = (predict(trained, source, confidence=0, batch=batch) for batch in (1, 3))
        assert len(one) == len(three) > 3
        for alone, together in zip(one, three, strict=True):
            if isinstance(alone, dict):
                for name in alone:
                    torch.testing.assert_close(alone[name], together[name])
            else:
                assert [name for name, _ in alone] == [name for name, _ in together]
                assert [p for _, p in alone] == pytest.approx([p for _, p in together], abs=1e-5)
    with pytest.raises(OptionError, match="fit predict needs batch to be a .*, got 0"):
        predict(classifier, colours / "val", batch=0)


def test_names_that_a_spreadsheet_would_run_are_written_as_text(colours: Path, begin: Callable[..., Fit]) -> None:
    for split in ("train", "val"):
        shutil.copytree(colours / split / "red", Path("data", split, "=1+1"))
        shutil.copytree(colours / split / "blue", Path("data", split, "@blue"))
    predict(load(begin(Path("data")).run().folder), "data/val", "out")
    with Path("out/predictions.csv").open(newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"'=1+1", "'@blue"}


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()], ids=str)
def test_an_image_that_memory_cannot_hold_costs_no_other(
    photos: Path, enlarger: Trained, lines: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The error is PyTorch's own; it is raised here, since a machine that runs out ends more than a test."""
    shutil.copytree(photos / "val", "images")
    Image.fromarray(np.zeros((60, 60, 3), np.uint8)).save("images/0big.png")
    whole = enlarger.learner.network.forward

    def limited(x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] == 60:
            raise error
        made: torch.Tensor = whole(x)
        return made

    monkeypatch.setattr(enlarger.learner.network, "forward", limited)
    found = predict(enlarger, "images", "out", batch=3, progress=Lines(lines.append))
    assert [one is None for one in found] == [False, True, False]
    assert (
        "images/0big.png: left out: images/0big.png does not fit into memory; enlarge it in parts, as with tile=256"
        in lines[1]
    )
    assert {file.name for file in Path("out").iterdir()} == {"0.png", "1.png"}
    monkeypatch.setattr(enlarger.learner.network, "forward", lambda x: (_ for _ in ()).throw(RuntimeError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        predict(enlarger, "images", "out")


def test_memory_is_known_before_it_is_tried(
    enlarger: Trained, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an image needs is foretold from a small one, within a factor of what its call takes."""
    import attngraft.fit.tasks.superres as module
    from attngraft.measure.memory import peak

    Path("images").mkdir()
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save("images/big.png")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save("images/small.png")
    needed = peak(enlarger.learner.network, torch.zeros(1, 3, 400, 400))
    monkeypatch.setattr(module, "free", lambda device: int(0.8 * needed))
    assert [one is None for one in predict(enlarger, "images", "out", progress=Lines(lines.append))] == [True, False]
    assert "images/big.png: 400x400 pixels need about 0.0 GiB of memory on cpu, and" in lines[0]
    monkeypatch.setattr(module, "free", lambda device: int(1.3 * needed))
    assert predict(enlarger, "images", "out", progress=Lines(lines.append))[0] is not None
    monkeypatch.setattr(module, "free", lambda device: int(0.8 * needed))
    assert predict(enlarger, "images", "tiles", tile=100, overlap=8, progress=Lines(lines.append))[0] is not None


def test_options_of_other_tasks_are_refused(detector: Trained, enlarger: Trained, shapes: Path) -> None:
    with pytest.raises(OptionError, match="tile and overlap are for superres, and tiny_detector is to detect"):
        predict(detector, shapes, tile=64)
    with pytest.raises(OptionError, match="overlap=8 needs a tile; give tile=256 with it"):
        predict(enlarger, shapes, overlap=8)
    learner = enlarger.learner
    assert isinstance(learner, SuperResolution)
    learner.network.window = 16  # type: ignore[assignment]
    with pytest.raises(OptionError, match="tile to be a multiple of the network's window, 16, got 50; use 48 or 64"):
        learner.tiles(50, None)
    learner.tiles(48, 0)
    assert isinstance(learner.network, nn.Module)
