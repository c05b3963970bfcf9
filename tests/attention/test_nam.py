"""NAM against the paper's equations (arXiv 2111.12419), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import NAM
from tests.attention.slow import batch_norm, parameters, randomise, sigmoid


def reference(x: Tensor, module: NAM, scales: Tensor) -> Tensor:
    normalised = batch_norm(x, module.norm)
    total = sum(abs(scale) for scale in scales)
    return torch.stack([x[:, c] * sigmoid(abs(s) / total * normalised[:, c]) for c, s in enumerate(scales)], 1)


@pytest.mark.parametrize("detach", [False, True])
def test_equals_the_paper_and_its_gradient(detach: bool) -> None:
    module = randomise(NAM(11, detach=detach))
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    scales = module.norm.weight.detach() if detach else module.norm.weight
    expected = reference(x, module, scales)
    torch.testing.assert_close(module(x), expected, atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(module(x).square().sum(), module.norm.weight)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), module.norm.weight)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-12, rtol=0)


def test_the_shares_have_a_gradient_of_their_own() -> None:
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    gradients = []
    for detach in (False, True):
        torch.manual_seed(1)
        module = randomise(NAM(11, detach=detach))
        gradients += torch.autograd.grad(module(x).square().sum(), module.norm.weight)
    assert not torch.allclose(*gradients)


def test_parameter_count_is_the_closed_form() -> None:
    assert parameters(NAM(256)) == 2 * 256 == 512


def test_no_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="NAM needs channels to be a positive integer, got 0"):
        NAM(0)
