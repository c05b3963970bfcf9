"""Gradients of one image through grafted detectors equal those of the image twice, at every kind of place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import attngraft
from attngraft.yolo.model import YOLO
from tests.attention.test_contract import NAMES

MICRO = Path(attngraft.__file__).parent / "yolo" / "cfg" / "attngraft-micro.yaml"


def tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [tensor for value in values for tensor in tensors(value)]


def gradients(model: torch.nn.Module, image: torch.Tensor, copies: int) -> list[torch.Tensor]:
    model.zero_grad()
    x = torch.cat([image] * copies).requires_grad_()
    sum(y.square().sum() for y in tensors(model(x)) if y.requires_grad).backward()
    assert x.grad is not None
    return [x.grad[:1].clone()] + [p.grad / copies for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    "grafts",
    [*(f"{name}(init=paper)@P3" for name in NAMES), "mhsa@P3", "mha@P3+ema@P3"],
)
def test_gradients_of_one_image(grafts: str) -> None:
    torch.manual_seed(0)
    model = YOLO(f"{MICRO}+{grafts}").model.double().train()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()
            torch.nn.init.normal_(norm.bias, 0, 0.5)
    for parameter in model.parameters():
        parameter.requires_grad_()
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    one, two = gradients(model, image, 1), gradients(model, image, 2)
    scale = max(float(g.abs().max()) for g in two)
    off = max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True)) / scale
    assert off < 1e-8
