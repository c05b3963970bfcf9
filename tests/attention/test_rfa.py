"""RFAConv against the paper's equations (arXiv 2304.03198) on a state of the authors' module, written slowly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from attngraft.attention import RFAConv
from attngraft.attention.rfa import from_official
from tests.attention.slow import assert_same, conv2d, norm_shapes, normed, official, parameters

C, K = 3, 3
TAPS = K * K
SHAPES = {
    "get_weight.1.weight": (C * TAPS, 1, 1, 1), "generate_feature.0.weight": (C * TAPS, 1, K, K),
    **norm_shapes("generate_feature.1", C * TAPS), "conv.0.weight": (C, C, K, K), "conv.0.bias": (C,),
    **norm_shapes("conv.1", C),
}  # fmt: skip


def convolved_at_stride(taps: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Sum the taps of each cell by the filters of a convolution of stride k, and normalise."""
    B, _, _, H, W = taps.shape
    out = torch.zeros(B, C, H, W, dtype=taps.dtype)
    for u in range(K):
        for v in range(K):
            out = out + torch.einsum("oc,bchw->bohw", state["conv.0.weight"][:, :, u, v], taps[:, :, u * K + v])
    return normed(out + state["conv.0.bias"][:, None, None], state, "conv.1").clamp(min=0)


def reference(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Equation 7: the softmax of the means of the surroundings, times features, convolved at a stride of k."""
    means = conv2d(x, torch.full((C, 1, K, K), 1 / TAPS, dtype=x.dtype))
    logits = conv2d(means, state["get_weight.1.weight"]).view(len(x), C, TAPS, *x.shape[2:])
    features = normed(conv2d(x, state["generate_feature.0.weight"]), state, "generate_feature.1").clamp(min=0)
    weights = logits.exp() / logits.exp().sum(2, keepdim=True)
    return convolved_at_stride(features.view_as(weights) * weights, state)


@pytest.mark.parametrize(("batch", "size"), [(1, (4, 3)), (3, (1, 5)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int]) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    assert_same(RFAConv(C), reference, official(SHAPES), x, from_official, ["conv.0.bias"])


def test_parameter_count_is_the_authors_without_the_cancelled_bias() -> None:
    C = 256
    assert parameters(RFAConv(C)) == 9 * C + 81 * C + 18 * C + 9 * C**2 + 2 * C == 617_984


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="RFAConv needs an odd kernel_size to keep the map's size, got 4; use 3 or 5"):
        RFAConv(8, kernel_size=4)
