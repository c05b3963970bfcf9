"""LSK against the paper's equations (arXiv 2303.09030), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import LSK
from tests.attention.slow import conv2d, parameters, randomise, sigmoid


def reference(x: Tensor, module: LSK) -> Tensor:
    near = conv2d(x, module.near.weight, module.near.bias)
    far = conv2d(near, module.far.weight, module.far.bias, dilation=3)
    views = [
        conv2d(near, module.near_proj.weight, module.near_proj.bias),
        conv2d(far, module.far_proj.weight, module.far_proj.bias),
    ]
    both = torch.cat(views, 1)
    planes = torch.stack([both.sort(1).values[:, -1], both.sum(1) / both.shape[1]], 1)
    choice = sigmoid(conv2d(planes, module.select.weight, module.select.bias))
    chosen = sum(view * choice[:, n, None] for n, view in enumerate(views))
    return x * conv2d(chosen, module.proj.weight, module.proj.bias)


def test_equals_the_paper() -> None:
    module = randomise(LSK(6))
    x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-11, rtol=0)


def test_parameter_count_is_the_authors() -> None:
    C = 256
    strips = C * (5**2 + 1) + C * (7**2 + 1)
    assert parameters(LSK(C)) == strips + 2 * (C + 1) * C // 2 + (2 * 2 * 49 + 2) + (C // 2 + 1) * C == 118_470


def test_an_odd_width_is_refused_with_its_neighbours() -> None:
    with pytest.raises(ValueError, match="LSK needs channels to be a multiple of 2, got 7; use 6 or 8"):
        LSK(7)
