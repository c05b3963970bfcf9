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
