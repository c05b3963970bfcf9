"""Every attention that stands in a real model says exactly what it mixed: the host's own, and our networks'."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn.modules import AIFI, C2PSA, A2C2f
from ultralytics.nn.modules.block import Attention
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel

from attngraft import maps
from attngraft.models import HAT, BoTNet, DilateFormer, FLattenPVT, FLattenSwin
from attngraft.yolo import YOLO
from tests.maps.exactness import check


def away_from_start(model: nn.Module) -> nn.Module:
    """Give norms statistics and weights of their own, in float64."""
    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
    return model


class TestHost:
    @pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 12)])
    def test_psa(self, size: tuple[int, int]) -> None:
        block = away_from_start(C2PSA(128, 128, 2))
        shapes = check(block, torch.randn(2, 128, *size, dtype=torch.float64))
        N = size[0] * size[1]
        assert shapes == {"m.0.attn": (2, 1, N, N), "m.1.attn": (2, 1, N, N)}

    def test_psa_with_several_heads(self) -> None:
        module = away_from_start(Attention(128, num_heads=4, attn_ratio=0.5))
        assert check(module, torch.randn(2, 128, 5, 3, dtype=torch.float64)) == {"": (2, 4, 15, 15)}

    @pytest.mark.parametrize("area", [1, 4])
    def test_area(self, area: int) -> None:
        block = away_from_start(A2C2f(128, 128, 1, True, area))
        shapes = check(block, torch.randn(2, 128, 4, 6, dtype=torch.float64))
        assert set(shapes.values()) == {(2, 2, 24, 24)}

    @pytest.mark.parametrize("before", [False, True])
    def test_aifi(self, before: bool) -> None:
        layer = away_from_start(AIFI(64, 128, 4, normalize_before=before))
        x = torch.randn(2, 64, 7, 5)
        assert check(layer, x.double()) == {"": (2, 4, 35, 35)}
        with maps.record(layer) as tape:
            score = layer(x.double().requires_grad_()).sin().sum()
        assert tape[""].weighted(score, [3]).shape == (2, 4, 1, 35)

    def test_the_decoder_of_rtdetr(self) -> None:
        model = away_from_start(RTDETRDetectionModel("rtdetr-resnet50.yaml", nc=3, verbose=False))
        shapes = check(model, torch.randn(2, 3, 64, 96, dtype=torch.float64))
        cross = {name: shape for name, shape in shapes.items() if "cross_attn" in name}
        assert len(cross) == 6
        levels = 8 * 12 + 4 * 6 + 2 * 3
        assert set(cross.values()) == {(2, 8, levels if levels < 300 else 300, levels)}
        with maps.record(model) as tape:
            _, (_, scores, *_) = model(torch.randn(1, 3, 64, 96, dtype=torch.float64).requires_grad_())
        last = tape[sorted(cross)[-1]]
        weighted = last.weighted(scores[0, 0, 5].sigmoid().max(), [5, 6])
        assert weighted.shape == (1, 8, 2, levels)
        assert weighted[:, :, 0].abs().sum() > 0
        (encoder,) = set(shapes) - set(cross)
        assert shapes[encoder] == (2, 8, 6, 6)

    def test_a_fused_detector(self) -> None:
        model = away_from_start(DetectionModel("yolo11n.yaml", nc=2, verbose=False))
        x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
        before = check(model, x)
        model.fuse(verbose=False)
        assert check(model, x) == before == {"model.10.m.0.attn": (2, 2, 6, 6)}

    @pytest.mark.parametrize("recipe", ["mhsa@C2PSA", "mhsa@P5", "bot@P5", "aifi@P5+se@P4", "psa_block@P5"])
    def test_grafted_detectors(self, recipe: str) -> None:
        model = away_from_start(YOLO(f"yolo11n.yaml+{recipe}").model)
        shapes = check(model, torch.randn(2, 3, 64, 96, dtype=torch.float64))
        assert any(name.endswith("m.0.attn") for name in shapes)
        assert any("grafts" in name or "mechanism" in name for name in shapes)

    @pytest.mark.parametrize("name", ["yolov10n", "yolo12n", "yolo26n"])
    def test_other_families(self, name: str) -> None:
        model = away_from_start(DetectionModel(f"{name}.yaml", nc=2, verbose=False))
        assert check(model, torch.randn(1, 3, 64, 64, dtype=torch.float64))


FOUR = {"depths": (1, 1, 1, 1), "num_classes": 3}
SHIFTED = {**FOUR, "depths": (1, 2, 1, 2)}


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: BoTNet(("c", "c", "c", "aa"), num_classes=3, width=16), (65, 97)),
        (lambda: DilateFormer(channels=(12, 24, 48, 96), **FOUR), (45, 31)),
        (lambda: FLattenPVT(channels=(16, 32, 64, 64), heads=(1, 2, 4, 4), **FOUR), (65, 40)),
        (lambda: FLattenSwin(channels=(16, 32, 64, 128), heads=(1, 2, 4, 8), window=3, **SHIFTED), (65, 40)),
        (lambda: HAT(channels=12, depths=(2,), heads=2, window=4, squeeze=4), (13, 9)),
    ],
    ids=["botnet", "dilateformer", "flatten_pvt", "flatten_swin", "hat"],
)  # fmt: skip
def test_our_networks(make: Any, size: tuple[int, int]) -> None:
    model = away_from_start(make())
    assert check(model, torch.rand(2, 3, *size, dtype=torch.float64))
