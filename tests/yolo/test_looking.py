"""What a detector is asked for its maps: raw predictions that lead to the host's own detections, with gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import ultralytics
from packaging.version import Version
from PIL import Image
from ultralytics import RTDETR
from ultralytics import YOLO as StockYOLO
from ultralytics.utils.ops import xywhr2xyxyxyxy

from attngraft import maps
from attngraft._core.errors import MapError
from attngraft.yolo.looking import Watched

HEADS = ["yolo11n", "yolo11n-seg", "yolo11n-pose", "yolo11n-obb", "yolov10n", "yolo26n", "yolo26n-seg", "yolo26n-obb"]


def opened(name: str) -> Any:
    if name == "yolo11n-pose" and Version(ultralytics.__version__) < Version("8.4.180"):
        pytest.skip("the host's own prediction fails on poses: no kpt_shape")  # up to 8.4.170 at least
    torch.manual_seed(0)
    model = (RTDETR if "rtdetr" in name else StockYOLO)(f"{name}.yaml")
    with torch.no_grad():
        head = model.model.model[-1]
        for parameter in head.parameters():
            parameter.add_(
                torch.randn_like(parameter) * (0.02 if "rtdetr" in name else 0.2)
            )  # an untrained head says the same everywhere
        for branch in (getattr(head, "cv3", None), getattr(head, "one2one_cv3", None)):
            for level in branch or ():
                level[-1].bias.normal_(-3, 1)
    return model


@pytest.mark.parametrize("name", [*HEADS, "rtdetr-resnet50"])
def test_finds_what_the_host_finds(name: str) -> None:
    model = opened(name)
    images = torch.rand(2, 3, 64, 96)
    options: dict[str, Any] = {"conf": 0.01, "verbose": False, "device": "cpu", "imgsz": (64, 96)}
    results = [model.predict(tensor[None], **options)[0] for tensor in images]
    model.model = model.predictor.model.model  # fused, as the host ran it: an untrained network has many near ties
    watched = Watched(model)
    for image, (own, result) in enumerate(zip(watched.find(images, confidence=0.01), results, strict=True)):
        theirs = result.obb if result.obb is not None else result.boxes
        assert all(d.image == image for d in own)
        if result.masks is None:  # the host drops detections whose mask is empty
            assert len(own) == len(theirs)
            assert sorted(d.label for d in own) == sorted(theirs.cls.int().tolist())
        assert len(own) >= len(theirs) > 3
        scores = torch.tensor([d.score for d in own])
        assert (scores[:, None] - theirs.conf).abs().amin(0).max() < 1e-5
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        boxes = torch.tensor([d.box for d in own])
        if result.obb is None:  # the host cuts boxes to the image
            boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([96, 64, 96, 64]))
        apart = (boxes[:, None] - theirs.xyxy[None]).abs().amax(2)
        assert apart.amin(0).max() < 0.01


def test_oriented_boxes_of_an_end_to_end_head() -> None:
    """Its rows hold a centre and a size, where those of other end-to-end heads hold corners."""
    network = opened("yolo26n-obb").model.eval()
    if not network.model[-1].end2end:  # the newer default of the host
        network.model[-1].end2end = True
    images = torch.rand(1, 3, 64, 96)
    watched = Watched(network)
    rows = network(images)[0][0].detach()  # centre, size, score, class and angle
    corners = xywhr2xyxyxyxy(torch.cat((rows[:, :4], rows[:, 6:]), 1))
    theirs = torch.cat((corners.amin(1), corners.amax(1)), 1)[rows[:, 4] > 0.05]
    boxes = torch.tensor([d.box for d in watched.find(images, confidence=0.01)[0]])
    assert len(theirs) > 3
    assert (boxes[:, None] - theirs[None]).abs().amax(2).amin(0).max() < 0.01


@pytest.mark.parametrize("name", [*HEADS, "rtdetr-resnet50", "yolo11n-cls"])
def test_predictions_carry_gradients_also_after_the_host_predicted(name: str) -> None:
    model = opened(name)
    model.predict(torch.rand(1, 3, 64, 64), imgsz=64, verbose=False, device="cpu")  # under inference mode, and fused
    watched = Watched(model)
    layer = watched.layers[0]
    targets = [maps.Target(1, 0, 2), maps.Target(0, 0, 1)]
    if name != "yolo11n-cls":
        targets.append(maps.Target(0, 0, 0, "left"))
    found = maps.odam(watched.network, watched.predict, torch.rand(2, 3, 64, 64), targets, [layer], signed=True)
    assert found[layer].shape[0] == len(targets)
    assert found[layer].abs().sum((1, 2)).min() > 0


@pytest.mark.parametrize(("name", "layers"), [("yolo12n", ["model.5", "model.7"]), ("rtdetr-resnet50", ["model.7"])])
def test_one_image_rests_on_what_two_of_it_rest_on(name: str, layers: list[str]) -> None:
    """PyTorch's batch norm on the CPU gives other gradients for one image behind tokens made of a map."""
    model = opened(name)
    for norm in (one for one in model.model.modules() if isinstance(one, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    watched = Watched(model)
    watched.network.double()
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    found = watched.find(image, confidence=1e-9)[0][0]
    for images in (image, image.repeat(2, 1, 1, 1)):
        with torch.enable_grad(), maps.record(watched.network) as tape:
            score = found.target().of(watched.predict(images.clone().requires_grad_()))
        rows = [attention.weighted(score, [0])[0] for attention in tape.attentions.values() if attention.grid]
        heat = maps.odam(watched.network, watched.predict, images, [found.target()], layers, signed=True)
        if images is image:
            one, alone = rows, heat
    for row, twice in zip(one, rows, strict=True):
        torch.testing.assert_close(row, twice, rtol=1e-6, atol=1e-9 * float(twice.detach().abs().max()))
    for layer in layers:
        assert heat[layer].abs().max() > 0
        torch.testing.assert_close(alone[layer], heat[layer], rtol=1e-6, atol=1e-9 * float(heat[layer].abs().max()))


def test_a_candidate_has_the_place_of_its_cell() -> None:
    watched = Watched(opened("yolo11n"))
    watched.predict(torch.rand(1, 3, 64, 96))
    places = [watched._place(candidate, (64, 96)) for candidate in (0, 11, 12, 95, 96, 120, 125)]
    assert places == [(4, 4), (92, 4), (4, 12), (92, 60), (8, 8), (16, 16), (80, 48)]


def test_upright_boxes_of_oriented_ones() -> None:
    from attngraft.yolo.looking import _upright

    boxes = torch.tensor([[10.0, 20.0, 4.0, 2.0]])
    torch.testing.assert_close(_upright(boxes, torch.zeros(1, 1)), torch.tensor([[8.0, 19.0, 12.0, 21.0]]))
    torch.testing.assert_close(
        _upright(boxes, torch.full((1, 1), torch.pi / 2)), torch.tensor([[9.0, 18.0, 11.0, 22.0]])
    )


@pytest.mark.parametrize("name", ["yolo11n", "rtdetr-resnet50", "yolo11n-cls"])
def test_prepares_as_the_host_does(name: str) -> None:
    model = opened(name)
    watched = Watched(model)
    image = np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8)
    seen: list[torch.Tensor] = []
    handle = model.model.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone()))
    model.predict(image[:, :, ::-1].copy(), imgsz=64, verbose=False, device="cpu")
    handle.remove()
    prepared = watched.prepare(image, 64)
    torch.testing.assert_close(prepared.tensor, seen[-1], atol=1e-6, rtol=0)
    if name == "yolo11n":
        assert prepared.tensor.shape == (1, 3, 64, 64)
        assert prepared.back((0, prepared.offset[1])) == pytest.approx((0, 0), abs=1e-6)
        assert prepared.back((64, prepared.offset[1] + 50 * prepared.scale[1])) == pytest.approx((90, 50))


def test_boxes_of_a_thin_image_lie_where_its_pixels_do() -> None:
    """Of 3 rows at a scale of 0.24, 0.72 rows would be left: the host makes it one, so that 1 pixel stands for 3."""
    watched = Watched(opened("yolo11n"))
    image = np.zeros((3, 400, 3), np.uint8)
    prepared = watched.prepare(image, 96)
    assert prepared.scale == (96 / 400, 1 / 3)
    (rows,) = (prepared.tensor[0, 0, :, 0] < 0.1).nonzero(as_tuple=True)  # black; the padding is grey
    assert [float(edge) for edge in (rows[0], rows[-1] + 1)] == [prepared.offset[1], prepared.offset[1] + 1]
    assert prepared.back((0, rows[0], 96, rows[-1] + 1)) == pytest.approx((0, 0, 400, 3))


def test_prepares_for_a_grayscale_model_as_the_host_does(gray_model: Path, tmp_path: Path) -> None:
    """An array is taken exactly so; of a file, PNG's own conversion to grey rounds otherwise, by two levels at most."""
    image = np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    model = StockYOLO(gray_model)
    prepared = Watched(model).prepare(image, 64).tensor
    seen: list[torch.Tensor] = []
    model.model.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone()))
    for source, allowed in ((image[:, :, ::-1].copy(), 1e-6), (tmp_path / "image.png", 2.01 / 255)):
        model.predict(source, imgsz=64, verbose=False, device="cpu", save=False)
        torch.testing.assert_close(prepared, seen[-1], atol=allowed, rtol=0)
    assert prepared.shape[:2] == (1, 1)


def test_channels_that_no_image_file_has_are_refused() -> None:
    watched = Watched(opened("yolo11n"))
    watched.network.yaml["channels"] = 5
    with pytest.raises(MapError, match="takes 5 channels, and maps are shown of images of 3 or 1"):
        watched.prepare(np.zeros((64, 64, 3), np.uint8), 64)


def test_an_image_of_one_pixel() -> None:
    watched = Watched(opened("yolo11n"))
    prepared = watched.prepare(np.full((1, 1, 3), 200, np.uint8), 64)
    assert prepared.tensor.shape == (1, 3, 64, 64)
    assert prepared.back((32, 32)) == (0.5, 0.5)
    assert all(len(found) <= 300 for found in watched.find(prepared.tensor))


def test_leaves_the_model_alone() -> None:
    model = opened("yolo11n")
    model.model.train()
    watched = Watched(model)
    watched.predict(torch.rand(1, 3, 64, 64))
    assert model.model.training
    assert model.model.model[-1].shape is None
    assert watched.layers == ["model.16", "model.19", "model.22"]


def test_refuses_what_cannot_be_looked_into(tmp_path: Any) -> None:
    file = tmp_path / "best.onnx"
    file.touch()
    exported = StockYOLO(str(file), task="detect")
    with pytest.raises(MapError, match=r"best\.onnx is an exported file"):
        Watched(exported)
    with pytest.raises(MapError, match="Sequential|no boxes"):
        Watched(torch.nn.Sequential(torch.nn.Sequential(torch.nn.ReLU())).eval())


@pytest.mark.parametrize("name", ["yolo11n", "rtdetr-resnet50"])
@pytest.mark.parametrize("imgsz", [100, (70, 97)])
def test_sides_are_rounded_up_as_the_host_does(name: str, imgsz: int | tuple[int, int]) -> None:
    watched = Watched(opened(name))
    prepared = watched.prepare(np.full((60, 60, 3), 9, np.uint8), imgsz)
    assert prepared.tensor.shape[2:] == ((128, 128) if imgsz == 100 else (96, 128) if "rtdetr" in name else (96, 96))
    watched.predict(prepared.tensor)
