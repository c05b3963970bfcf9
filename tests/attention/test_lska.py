"""LSKA against the paper's equations (arXiv 2309.01439), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import LSKA
from tests.attention.slow import conv2d, counted_macs, parameters, randomise

DILATIONS = {7: 2, 11: 2, 23: 3, 35: 3, 41: 3, 53: 3}


def reference(x: Tensor, module: LSKA) -> Tensor:
    wide, tall, far_wide, far_tall = module.strips
    dilation = DILATIONS[module.kernel_size]
    y = conv2d(conv2d(x, wide.weight, wide.bias), tall.weight, tall.bias)
    y = conv2d(conv2d(y, far_wide.weight, far_wide.bias, dilation), far_tall.weight, far_tall.bias, dilation)
    return x * conv2d(y, module.proj.weight, module.proj.bias)


@pytest.mark.parametrize("kernel_size", [7, 23])
def test_equals_the_paper(kernel_size: int) -> None:
    module = randomise(LSKA(3, kernel_size=kernel_size))
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("kernel_size", "dense", "dilated", "count"),
    [
        (7, 3, 3, 69_888),
        (11, 3, 5, 70_912),
        (23, 5, 7, 72_960),
        (35, 5, 11, 75_008),
        (41, 5, 13, 76_032),
        (53, 5, 17, 78_080),
    ],
)
def test_parameter_count_is_the_closed_form(kernel_size: int, dense: int, dilated: int, count: int) -> None:
    C = 256
    assert parameters(LSKA(C, kernel_size=kernel_size)) == C**2 + C + C * (2 * dense + 2 * dilated + 4) == count


@pytest.mark.parametrize("kernel_size", list(DILATIONS))
def test_a_cell_sees_the_whole_square_and_nothing_else(kernel_size: int) -> None:
    module = LSKA(1, kernel_size=kernel_size)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1)
    x = torch.ones(1, 1, 61, 61, requires_grad=True)
    module(x)[0, 0, 30, 30].backward()
    reach = kernel_size // 2
    square = torch.zeros(61, 61, dtype=torch.bool)
    square[30 - reach : 31 + reach, 30 - reach : 31 + reach] = True
    assert torch.equal(x.grad[0, 0] != 0, square)


def test_the_cost_of_a_large_kernel_is_its_closed_form() -> None:
    module = LSKA(16, kernel_size=53)
    assert module.macs(7, 5) == counted_macs(module, 7, 5)


def test_a_kernel_that_is_not_the_papers_is_refused() -> None:
    with pytest.raises(ValueError, match="LSKA needs kernel_size to be one of 7, 11, 23, 35, 41, 53, got 9"):
        LSKA(64, kernel_size=9)
