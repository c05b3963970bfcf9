"""CAA against the paper's equations (arXiv 2403.06258), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import CAA
from tests.attention.slow import batch_norm, conv2d, parameters, randomise, sigmoid


def reference(x: Tensor, module: CAA) -> Tensor:
    first, first_norm, _, wide, tall, second, second_norm, _ = module.gate
    y = conv2d(x, x.new_full((x.shape[1], 1, 7, 7), 1 / 49))
    y = batch_norm(conv2d(y, first.weight), first_norm)
    y = y * sigmoid(y)
    y = conv2d(conv2d(y, wide.weight, wide.bias), tall.weight, tall.bias)
    y = batch_norm(conv2d(y, second.weight), second_norm)
    return x * sigmoid(y * sigmoid(y))


@pytest.mark.parametrize("kernel_size", [3, 11])
def test_equals_the_reference(kernel_size: int) -> None:
    module = randomise(CAA(5, kernel_size=kernel_size))
    x = torch.randn(2, 5, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_parameter_count_is_the_authors() -> None:
    C, k = 256, 11
    assert parameters(CAA(C)) == 2 * (C**2 + 2 * C) + 2 * (k + 1) * C == 138_240


def test_an_even_kernel_is_refused_with_its_neighbours() -> None:
    with pytest.raises(ValueError, match=r"CAA needs an odd kernel_size .* got 10; use 9 or 11"):
        CAA(64, kernel_size=10)
