"""Gradients of one image through whole models equal those of the image twice; see tests/attention/test_one_image.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attngraft import models
from tests.attention.test_one_image import deviation
from tests.models.test_families import SMALL, small

WHOLE = {"botnet50": {"num_classes": 5}, "botnet26t": {"num_classes": 5}, "mobilenetv3_small": {"num_classes": 5}}


class Summed(nn.Module):
    """A model as a layer that keeps the shape of its input, since that is what the comparison weighs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.model(x)
        return x * y.flatten(1).mean(1)[:, None, None, None]


@pytest.mark.parametrize("name", [*SMALL, *WHOLE])
def test_gradients_of_one_image_are_those_of_the_image_twice(name: str) -> None:
    torch.manual_seed(0)
    model = small(name) if name in SMALL else models.create(name, **WHOLE[name])
    for size in ((45, 31), (64, 64)):
        assert deviation(Summed(model).double().eval(), size, 3) < 1e-8
