"""CBAM against the paper's equations 1-3 (arXiv 1807.06521) with the authors' biases and norm, written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import CBAM
from tests.attention.slow import batch_norm, conv2d, parameters, randomise, sigmoid


def reference(x: Tensor, module: CBAM) -> Tensor:
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        means = torch.stack([channel.sum() / channel.numel() for channel in image])
        maxima = torch.stack([channel.flatten().sort().values[-1] for channel in image])
        logits = torch.zeros_like(means)
        for pooled in (means, maxima):
            hidden = module.mlp.squeeze.weight @ pooled + module.mlp.squeeze.bias
            logits += module.mlp.excite.weight @ hidden.clamp(min=0) + module.mlp.excite.bias
        for c, logit in enumerate(logits):
            out[b, c] = image[c] * sigmoid(logit)
    planes = torch.stack([out.sort(1).values[:, -1], out.sum(1) / out.shape[1]], 1)
    return out * sigmoid(batch_norm(conv2d(planes, module.spatial.conv.weight), module.spatial.norm))


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_equals_the_paper(kernel_size: int) -> None:
    module = randomise(CBAM(11, reduction=3, kernel_size=kernel_size))
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_the_copies_have_neither_biases_nor_norm() -> None:
    """As most write them: two bare matrices with a leaky ReLU, and a convolution whose bias takes the norm's place."""
    module = randomise(CBAM(11, reduction=3, kernel_size=3, bias=False, spatial_bias=True, norm="none", slope=0.1))
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    logits = torch.zeros(2, 11, dtype=torch.float64)
    for pooled in (x.sum((2, 3)) / 35, x.flatten(2).sort().values[..., -1]):
        hidden = pooled @ module.mlp.squeeze.weight.t()
        logits += torch.where(hidden > 0, hidden, 0.1 * hidden) @ module.mlp.excite.weight.t()
    gated = x * sigmoid(logits)[:, :, None, None]
    planes = torch.stack([gated.sort(1).values[:, -1], gated.sum(1) / 11], 1)
    expected = gated * sigmoid(conv2d(planes, module.spatial.conv.weight, module.spatial.conv.bias))
    torch.testing.assert_close(module(x), expected, atol=1e-12, rtol=0)
    assert parameters(module) == 2 * 11 * 3 + 2 * 3**2 + 1


def test_parameter_count_is_the_authors() -> None:
    C, r, k = 256, 16, 7
    assert parameters(CBAM(C)) == 2 * C**2 // r + C // r + C + 2 * k**2 + 2 == 8564


def test_cells_that_share_a_maximum_share_its_gradient() -> None:
    module = randomise(CBAM(4, reduction=1))
    x = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    x[0, :, 1, 0] = x[0, :, 1, 2] = 1
    with torch.no_grad():
        module.spatial.conv.weight.add_(module.spatial.conv.weight.flip(3))
    module(x.requires_grad_()).sum().backward()
    torch.testing.assert_close(x.grad, x.grad.flip(3), atol=1e-14, rtol=0)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"CBAM needs reduction of at most 8 .* channels=8, got 16"):
        CBAM(8)
    with pytest.raises(ValueError, match=r"CBAM needs an odd kernel_size .* got 4; use 3 or 5"):
        CBAM(64, kernel_size=4)
    with pytest.raises(ValueError, match=r"norm"):
        CBAM(64, norm="layer")
