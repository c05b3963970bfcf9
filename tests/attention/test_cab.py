"""CAB against the description in HAT (arXiv 2205.04437, section 3.2), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attngraft.attention import CAB


def conv3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    _, H, W = x.shape
    out = bias[:, None, None].repeat(1, H, W)
    for y in range(H):
        for x_ in range(W):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < H and 0 <= x_ + dx < W:
                        out[:, y, x_] += weight[:, :, dy + 1, dx + 1] @ x[:, y + dy, x_ + dx]
    return out


def gelu(x: Tensor) -> Tensor:
    return x.clone().apply_(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))


def reference(module: CAB, x: Tensor) -> Tensor:
    p = {name: tensor.detach() for name, tensor in module.named_parameters()}
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        y = conv3(gelu(conv3(image, p["conv1.weight"], p["conv1.bias"])), p["conv2.weight"], p["conv2.bias"])
        means = torch.stack([channel.sum() / channel.numel() for channel in y])
        hidden = p["gate1.weight"][:, :, 0, 0] @ means + p["gate1.bias"]
        logits = p["gate2.weight"][:, :, 0, 0] @ hidden.clamp(min=0) + p["gate2.bias"]
        for c, logit in enumerate(logits.tolist()):
            out[b, c] = y[c] / (1 + math.exp(-logit))
    return out


def test_equals_the_paper() -> None:
    module = CAB(7, compress=2, squeeze=3).double()
    x = torch.randn(2, 7, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("channels", "compress", "squeeze", "count"), [(180, 3, 30, 196_986), (144, 24, 24, 17_580), (256, 3, 30, 396_381)]
)
def test_parameter_count_is_the_references(channels: int, compress: int, squeeze: int, count: int) -> None:
    module = CAB(channels, compress=compress, squeeze=squeeze)
    assert sum(p.numel() for p in module.parameters()) == count


@pytest.mark.parametrize("option", ["compress", "squeeze"])
def test_a_ratio_that_leaves_nothing_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"CAB needs {option} of at most channels=40, got 41; use 40 or less"):
        CAB(40, **{option: 41})
