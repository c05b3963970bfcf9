"""SimAM against the paper's equation 5 (ICML 2021), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attngraft.attention import SimAM
from tests.attention.slow import parameters


def reference(x: Tensor, e_lambda: float, correction: int) -> Tensor:
    """Gate each cell by 1 / e*, the inverse of the least energy of its neuron (paper, equation 5)."""
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        for c, channel in enumerate(image):
            values = channel.flatten().tolist()
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / (len(values) - correction)
            energies = [4 * (variance + e_lambda) / ((t - mean) ** 2 + 2 * variance + 2 * e_lambda) for t in values]
            gates = [1 / (1 + math.exp(-1 / energy)) for energy in energies]
            out[b, c] = channel * torch.tensor(gates, dtype=x.dtype).reshape(channel.shape)
    return out


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("e_lambda", [1e-4, 0.5])
def test_equals_the_paper(correction: int, e_lambda: float) -> None:
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    module = SimAM(11, e_lambda=e_lambda, correction=correction)
    torch.testing.assert_close(module(x), reference(x, e_lambda, correction), atol=1e-12, rtol=0)


@pytest.mark.parametrize("correction", [0, 1])
def test_a_map_of_one_cell_gets_the_gate_of_a_cell_at_the_mean(correction: int) -> None:
    x = torch.randn(2, 5, 1, 1, requires_grad=True)
    y = SimAM(5, correction=correction)(x)
    torch.testing.assert_close(y, x / (1 + math.exp(-0.5)))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("e_lambda", [1e-4, 0.5])
def test_the_gradient_is_that_of_the_equation(correction: int, e_lambda: float) -> None:
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64, requires_grad=True)
    d_out = torch.randn_like(x)
    distance, variance = x - x.mean((2, 3), keepdim=True), x.var((2, 3), correction=correction, keepdim=True)
    gated = x * (distance.square() / (4 * (variance + e_lambda)) + 0.5).sigmoid()
    expected = torch.autograd.grad(gated, x, d_out)
    actual = torch.autograd.grad(SimAM(11, e_lambda=e_lambda, correction=correction)(x), x, d_out)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)


def test_the_second_derivative_is_that_of_the_equation() -> None:
    """As in a gradient penalty, where it went missing without a word if what follows is linear."""
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(SimAM(3), x)
    scale, weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), torch.randn_like(x)
    slope = torch.autograd.grad((SimAM(3)(scale * x) * weight).sum(), x, create_graph=True)[0].square().sum()
    slope.backward()
    step = 1e-5

    def penalty(factor: Tensor) -> Tensor:
        return torch.autograd.grad((SimAM(3)(factor * x) * weight).sum(), x)[0].square().sum()

    expected = (penalty(scale.detach() + step) - penalty(scale.detach() - step)) / (2 * step)
    torch.testing.assert_close(scale.grad, expected, rtol=1e-7, atol=1e-7)


def test_has_no_parameter() -> None:
    assert parameters(SimAM(256)) == 0


def test_distances_that_overflow_when_squared_stay_right_in_half_precision() -> None:
    x = torch.full((1, 1, 8, 8), -300.0)
    x[0, 0, 3, 4] = 300
    x.requires_grad_()
    y, half = SimAM(1)(x), SimAM(1)(x.half())
    torch.testing.assert_close(half.float(), y, rtol=1e-2, atol=1e-2)
    gradients = (torch.autograd.grad(out.sum(), x)[0] for out in (half, y))
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-2)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="SimAM needs e_lambda above 0, got 0"):
        SimAM(64, e_lambda=0)
    with pytest.raises(ValueError, match=r"SimAM needs correction to be 0 .* or 1 .* got 2"):
        SimAM(64, correction=2)


def test_the_variance_of_a_strong_map_is_kept_in_half_precision() -> None:
    """Of standard deviation 1000: its square is infinite in fp16, and then every gate would be sigmoid(1/2)."""
    x = torch.randn(1, 4, 160, 160) * 1000
    torch.testing.assert_close(SimAM(4).gate_map(x.half()).float(), SimAM(4).gate_map(x), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(SimAM(4)(x.half()).float(), SimAM(4)(x), rtol=3e-3, atol=1.0)
