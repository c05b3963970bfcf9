"""GRN against the paper's equations (arXiv 2301.00808), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import GRN
from tests.attention.slow import parameters, randomise


def reference(x: Tensor, module: GRN) -> Tensor:
    """Algorithm 1: aggregate by the L2 norm, normalise by the mean over channels, calibrate and add the input."""
    out = []
    for image in x:
        norms = [channel.square().sum() ** 0.5 for channel in image]
        mean = sum(norms) / len(norms)
        scaled = [image[c] * norm / (mean + module.eps) for c, norm in enumerate(norms)]
        channels = [module.scale[c] * y + module.offset[c] + image[c] for c, y in enumerate(scaled)]
        out.append(torch.stack(channels))
    return torch.stack(out)


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_equals_the_paper(eps: float) -> None:
    module = randomise(GRN(11, eps=eps))
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64) * torch.arange(1, 12, dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_starts_as_the_identity_with_a_gradient() -> None:
    module, x = GRN(6), torch.randn(2, 6, 5, 3)
    y = module(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert module.scale.grad is not None
    assert module.scale.grad.abs().min() > 0


def test_a_map_of_zeros_has_a_gradient() -> None:
    module, x = randomise(GRN(6)), torch.zeros(1, 6, 5, 3, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_parameter_count_is_the_closed_form() -> None:
    assert parameters(GRN(256)) == 2 * 256 == 512


def test_eps_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="GRN needs eps above 0, got 0; the paper's code uses 1e-6"):
        GRN(4, eps=0)


def test_norms_of_a_large_map_are_kept_in_half_precision() -> None:
    """At 160 x 160 cells of standard deviation 500 a channel's norm is 80,000, which fp16 does not hold."""
    module = GRN(8)
    with torch.no_grad():
        module.scale.fill_(0.5)
    x = torch.randn(1, 8, 160, 160) * 500
    torch.testing.assert_close(module.half()(x.half()).float(), module.float()(x), rtol=2e-3, atol=0.5)
