"""CoordAttention against the paper's equations 4-9 (arXiv 2103.02907), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import CoordAttention
from tests.attention.slow import batch_norm, conv2d, parameters, randomise, sigmoid


def reference(x: Tensor, module: CoordAttention) -> Tensor:
    H, W = x.shape[2:]
    z_h = torch.stack([x[:, :, i].sum(2) / W for i in range(H)], 2)  # (B, C, H)
    z_w = torch.stack([x[:, :, :, j].sum(2) / H for j in range(W)], 2)  # (B, C, W)
    both = batch_norm(
        conv2d(torch.cat([z_h, z_w], 2)[..., None], module.squeeze.weight, module.squeeze.bias), module.norm
    )
    both = both * (both + 3).clamp(0, 6) / 6
    g_h = sigmoid(conv2d(both[:, :, :H], module.rows.weight, module.rows.bias))
    g_w = sigmoid(conv2d(both[:, :, H:], module.columns.weight, module.columns.bias))
    out = torch.empty_like(x)
    for i in range(H):
        for j in range(W):
            out[:, :, i, j] = x[:, :, i, j] * g_h[:, :, i, 0] * g_w[:, :, j, 0]
    return out


def test_equals_the_paper() -> None:
    module = randomise(CoordAttention(11))
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_parameter_count_is_the_authors() -> None:
    C, m = 256, 8
    assert parameters(CoordAttention(C)) == (C * m + m) + 2 * m + 2 * (m * C + C) == 6680


@pytest.mark.parametrize(("channels", "hidden"), [(16, 8), (256, 8), (512, 16)])
def test_the_shared_layer_never_has_fewer_than_8_channels(channels: int, hidden: int) -> None:
    assert CoordAttention(channels).hidden == hidden


def test_trains_on_a_single_cell() -> None:
    """Its norm sees two strips even there, where other batch norms refuse."""
    assert CoordAttention(16).train()(torch.randn(1, 16, 1, 1)).isfinite().all()


def test_a_reduction_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="CoordAttention needs reduction to be a positive integer, got 0"):
        CoordAttention(64, reduction=0)
