"""What a look holds, that it is what `attngraft.maps` says, and what is written of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import attngraft
from attngraft import maps
from attngraft._core.errors import DataError, MapError, OptionError, OutputError
from attngraft.look import Look, look
from attngraft.look.asking import _name, open_subject
from tests.maps.beacons import ATTENTION, scenes, tensors, watched
from tests.yolo.test_looking import opened


def test_the_arrays_are_those_of_maps(seen: Look) -> None:
    detector, tensor = watched("global"), tensors(2)[:1]
    with maps.record(detector.network) as tape:
        found = detector.find(tensor)[0]
    image = seen.images[0]
    assert [d.label for d in image.detections] == [d.label for d in found]
    cells = [maps.cell_at(d.place, (96, 96), (12, 12)) for d in found]
    rows = tape[ATTENTION].rows(cells)[0].transpose(0, 1)
    (attention,) = image.attentions
    np.testing.assert_allclose(attention.rows, rows, atol=1e-5)
    np.testing.assert_allclose(attention.cell_rows[cells], rows, atol=1e-5)
    np.testing.assert_allclose(attention.rows.sum(2), 1, atol=1e-5)
    boxes = [maps.cells_in(d.box, (96, 96), (12, 12)) for d in found]
    assert attention.box_cells == tuple(map(len, boxes))
    assert attention.box_rows is not None
    means = [tape[ATTENTION].rows(box)[0].mean(1) for box in boxes]
    np.testing.assert_allclose(attention.box_rows, torch.stack(means), atol=1e-5)
    targets = [d.target(name) for d in found for name in ("class", *maps.SIDES)]
    for relevance in image.relevance:
        heat = maps.odam(detector.network, detector.predict, tensor, targets, [relevance.layer])[relevance.layer]
        np.testing.assert_allclose(relevance.maps.reshape(-1, 12, 12), heat.detach(), atol=1e-5)
    assert [r.layer for r in image.relevance] == ["model.2", "model.3"]  # before the attention, and behind it
    with maps.without(detector.network):
        after = detector.find(tensor)[0]
    assert [c.kind for c in image.causal["model.3.grafts.0"]] == [c.kind for c in maps.compare(found, after)]
    assert image.curves[0].areas["deletion"]["odam"] < image.curves[0].areas["deletion"]["random"]


def test_verdicts_are_over_images_with_their_detections(seen: Look) -> None:
    found = {(v.metric, v.control): v for v in seen.verdicts()}
    assert len(found) == 6
    means = [[np.mean([c.areas["deletion"][m] for c in i.curves]) for i in seen.images] for m in ("odam", "random")]
    verdict = found["deletion blur", "random"]
    assert verdict.images == 2
    assert verdict.difference == pytest.approx(np.mean(means[1]) - np.mean(means[0]), abs=1e-6)
    one = Look(seen.images[:1], model="one", task=seen.task, names=seen.names)
    assert one.verdicts() == []


def test_a_file_of_every_kind_and_nothing_overwritten(seen: Look, tmp_path: Path) -> None:
    for suffix in (".html", ".png", ".svg", ".npz"):
        first, second = (seen.save(tmp_path / f"look{suffix}") for _ in range(2))
        assert [first.name, second.name] == [f"look{suffix}", f"look-2{suffix}"]
        assert first.stat().st_size > 10_000
    with np.load(tmp_path / "look.npz") as stored:
        assert set(stored) == set(seen.arrays())
        np.testing.assert_array_equal(stored["1/input"], scenes(2)[1].image)
    with Image.open(tmp_path / "look.png") as sheet:
        assert sheet.info["Command"] == repr(seen)
    assert f"<metadata>{repr(seen).replace('<', '&lt;')}</metadata>" in (tmp_path / "look.svg").read_text()
    assert seen._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(OptionError, match=r"look writes .html"):
        seen.save(tmp_path / "look.pdf")
    with pytest.raises(OptionError, match="counted from 0; got detection=99"):
        seen.figure(0, 99)
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="cannot write"):
            seen.save(tmp_path / "other.npz")


@pytest.mark.parametrize("name", ["yolo11n-cls", "yolo11n-seg", "yolo11n-obb", "yolo11n-pose"])
def test_every_task_of_stock_models(name: str) -> None:
    found = attngraft.look(opened(name), np.full((40, 90, 3), 99, np.uint8), imgsz=64, confidence=0.001, limit=2)
    (image,) = found.images
    assert len(image.detections) == (2 if image.left_out else len(image.detections)) > 0
    assert {a.kind for a in image.attentions} == {"Attention"}
    np.testing.assert_allclose(image.attentions[0].rows.sum(2), 1, atol=1e-5)
    if name == "yolo11n-cls":
        grid = image.attentions[0].grid
        assert grid is not None
        np.testing.assert_allclose(image.attentions[0].rows[0], image.attentions[0].cell_rows.mean(0), atol=1e-6)
    assert found.figure().width > 240
    assert len(attngraft.look.page.page(found)) > 10_000


def test_a_gate_and_another_model_beside() -> None:
    torch.manual_seed(0)
    model = attngraft.YOLO("attngraft-micro.yaml+cbam@P3")
    found = look(model, scenes(1)[0].image, imgsz=96, base=watched("global"), confidence=0.0, limit=3)
    (image,) = found.images
    assert [gate.kind for gate in image.gates] == ["CBAM"]
    assert image.grafts[0].strength == 0 == image.grafts[0].gamma  # identity at the start
    assert all(change.score == 0 for change in image.causal["model.3.grafts.0"])
    assert image.baseline is not None
    assert image.baseline.relevance.shape[1:] == (12, 12)
    text = attngraft.look.page.page(found)
    data = text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    (shown,) = json.loads(data)["images"]
    numbers = [change["number"] for change in shown["baseline"]["changes"] if change["kind"] == "new"]
    assert set(numbers) >= {i for i, partner in enumerate(shown["baseline"]["partner"]) if partner is None}
    assert [len(gate["channels"]) for gate in shown["gates"]] == [64]


def test_a_map_of_many_cells_is_asked_on_a_coarser_grid() -> None:
    torch.manual_seed(0)
    found = look(attngraft.YOLO("attngraft-micro.yaml+mhsa@P3"), np.zeros((320, 200, 3), np.uint8), imgsz=320)
    (image,) = found.images
    (attention,) = image.attentions
    assert image.detections == []
    assert attention.grid is not None
    assert attention.grid[0] == 40
    assert attention.cells.shape == (20, -(-attention.grid[1] // 2))
    assert attention.cell_rows.shape[2] == attention.grid[0] * attention.grid[1]
    assert len(attngraft.look.page.page(found)) < 3_000_000
    assert found.figure().height > 240


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("nowhere.jpg", "nowhere.jpg cannot be read"),
        (np.zeros((4, 4)), "uint8 arrays"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        ([], "no image to look at"),
    ],
)
def test_images_that_cannot_be_read(images: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        look(watched("global"), images)


def test_a_text_file_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(DataError, match=re.escape("a.jpg is not an image")):
        look(watched("global"), tmp_path / "a.jpg")


def test_an_image_of_one_pixel() -> None:
    (image,) = look(watched("global"), np.full((1, 1, 3), 200, np.uint8), imgsz=96).images
    assert image.input.shape == (96, 96, 3)


def test_a_model_without_attention_is_refused() -> None:
    with pytest.raises(MapError, match="has no attention or gate"):
        look(attngraft.YOLO("attngraft-micro.yaml"), scenes(1)[0].image, imgsz=96)
    with pytest.raises(OptionError, match="confidence from 0 to 1"):
        look(watched("global"), scenes(1)[0].image, confidence=25)


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ("runs/mhsa/weights/best.pt", "mhsa/best.pt"),
        ("runs/botnet50/best.ckpt", "botnet50/best.ckpt"),
        ("yolo11n.pt+mhsa@P5", "yolo11n.pt+mhsa@P5"),
        ("/best.pt", "best.pt"),
    ],
)
def test_runs_are_told_apart_by_their_folder(given: str, called: str) -> None:
    assert _name(given, watched("global")) == called


def test_a_model_made_here_is_called_by_its_recipe() -> None:
    assert _name(None, open_subject("attngraft-micro.yaml+mhsa@P3")) == "attngraft-micro.yaml+mhsa@P3"


def test_a_grayscale_model_is_looked_at_alone_and_beside_one_of_colour(gray_model: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    coloured = "attngraft-micro.yaml"
    seen = look(str(gray_model), image, confidence=0.0001, limit=2, base=coloured)
    assert seen.images[0].detections
    assert seen.images[0].input.shape == (64, 64, 3)
    assert np.ptp(seen.images[0].input, axis=2).max() == 0  # it is shown in grey, as the model sees it
    assert seen.images[0].baseline is not None
    assert seen.save(tmp_path / "look.html").stat().st_size > 1000
    beside = look("attngraft-micro.yaml+mhsa(init=paper)@P3", image, confidence=0.0001, limit=2, base=str(gray_model))
    assert beside.images[0].baseline is not None
