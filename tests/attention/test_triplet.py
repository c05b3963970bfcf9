"""TripletAttention against the paper's equations (arXiv 2010.03045), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import TripletAttention
from attngraft.attention._gates import PlaneGate
from tests.attention.slow import batch_norm, conv2d, parameters, randomise, sigmoid


def gated_plane(rotated: Tensor, gate: PlaneGate) -> Tensor:
    """Gate a map by the maximum and mean over its axis 1, whichever axis of the image was turned there."""
    planes = torch.stack([rotated.sort(1).values[:, -1], rotated.sum(1) / rotated.shape[1]], 1)
    return rotated * sigmoid(batch_norm(conv2d(planes, gate.conv.weight), gate.norm))


def reference(x: Tensor, module: TripletAttention) -> Tensor:
    """Turn the image so that H, W or C is pooled, gate it, turn it back, and average."""
    over_height = gated_plane(x.permute(0, 2, 1, 3), module.channel_width).permute(0, 2, 1, 3)
    over_width = gated_plane(x.permute(0, 3, 2, 1), module.height_channel).permute(0, 3, 2, 1)
    return (over_height + over_width + gated_plane(x, module.height_width)) / 3


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_equals_the_paper(kernel_size: int) -> None:
    module = randomise(TripletAttention(11, kernel_size=kernel_size))
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_parameter_count_is_the_authors() -> None:
    assert parameters(TripletAttention(256)) == 3 * (2 * 7**2 + 2) == 300


def test_an_even_kernel_is_refused_with_its_neighbours() -> None:
    with pytest.raises(ValueError, match=r"TripletAttention needs an odd kernel_size .* got 4; use 3 or 5"):
        TripletAttention(64, kernel_size=4)
