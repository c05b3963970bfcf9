"""RFCBAMConv against the authors' equations (arXiv 2304.03198) on a state of their module, written slowly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from attngraft.attention import RFCBAMConv
from attngraft.attention.rfcbam import from_official
from tests.attention.slow import assert_same, conv2d, norm_shapes, normed, official, parameters, sigmoid
from tests.attention.test_rfa import convolved_at_stride

C, K, HIDDEN = 3, 3, 2
TAPS = K * K
SHAPES = {
    "se.fc.0.weight": (HIDDEN, C), "se.fc.2.weight": (C, HIDDEN), "generate.0.weight": (C * TAPS, 1, K, K),
    **norm_shapes("generate.1", C * TAPS), "get_weight.0.weight": (1, 2, 3, 3), "conv.0.weight": (C, C, K, K),
    "conv.0.bias": (C,), **norm_shapes("conv.1", C),
}  # fmt: skip


def reference(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Features of the surroundings, gated by channel and, on a map k times as large, by their maxima and means."""
    B, _, H, W = x.shape
    pooled = x.flatten(2).sum(2) / (H * W)
    by_channel = sigmoid((pooled @ state["se.fc.0.weight"].T).clamp(min=0) @ state["se.fc.2.weight"].T)
    features = normed(conv2d(x, state["generate.0.weight"]), state, "generate.1").clamp(min=0).view(B, C, TAPS, H, W)
    large = torch.zeros(B, 2, H * K, W * K, dtype=x.dtype)
    for i in range(H * K):
        for j in range(W * K):
            tap = features[:, :, i % K * K + j % K, i // K, j // K]  # (B, C)
            large[:, :, i, j] = torch.stack([tap.amax(1), tap.sum(1) / C], 1)
    gates = sigmoid(conv2d(large, state["get_weight.0.weight"]))[:, 0]
    places = [gates[:, t // K :: K, t % K :: K] for t in range(TAPS)]
    weighted = features * by_channel[:, :, None, None, None] * torch.stack(places, 1)[:, None]
    return convolved_at_stride(weighted, state)


@pytest.mark.parametrize(("batch", "size"), [(1, (4, 3)), (3, (1, 5)), (1, (1, 1))])
def test_equals_the_authors(batch: int, size: tuple[int, int]) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    assert_same(RFCBAMConv(C, hidden=HIDDEN), reference, official(SHAPES), x, from_official, ["conv.0.bias"])


def test_parameter_count_is_the_authors_without_the_cancelled_bias() -> None:
    C = 256
    assert parameters(RFCBAMConv(C)) == 32 * C + 81 * C + 18 * C + 18 + 9 * C**2 + 2 * C == 623_890


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="RFCBAMConv needs an odd kernel_size .* got 2; use 1 or 3"):
        RFCBAMConv(8, kernel_size=2)
