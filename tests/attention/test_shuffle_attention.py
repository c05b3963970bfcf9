"""ShuffleAttention against the paper's equations (arXiv 2102.00240), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import ShuffleAttention
from tests.attention.slow import parameters, randomise, sigmoid


def reference(x: Tensor, module: ShuffleAttention) -> Tensor:
    """Gate channel c by its group's half, then send channel (p, k) of two halves to place (k, p)."""
    B, C, H, W = x.shape
    half = C // (2 * module.groups)
    gated = torch.empty_like(x)
    for b in range(B):
        for c in range(C):
            k = c % half
            values = x[b, c]
            mean = values.sum() / (H * W)
            if c // half % 2 == 0:
                logit = module.channel_weight[k] * mean + module.channel_bias[k]
            else:
                variance = ((values - mean) ** 2).sum() / (H * W)
                normalised = (values - mean) / (variance + 1e-5).sqrt() * module.norm.weight[k] + module.norm.bias[k]
                logit = module.cell_weight[k] * normalised + module.cell_bias[k]
            gated[b, c] = values * sigmoid(logit)
    out = torch.empty_like(x)
    for p in range(2):
        for k in range(C // 2):
            out[:, 2 * k + p] = gated[:, p * (C // 2) + k]
    return out


@pytest.mark.parametrize(("channels", "groups"), [(12, 1), (12, 2), (12, 3), (14, 7)])
def test_equals_the_paper(channels: int, groups: int) -> None:
    module = randomise(ShuffleAttention(channels, groups=groups))
    x = torch.randn(2, channels, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("groups", "count"), [(64, 12), (8, 96)])
def test_parameter_count_is_the_closed_form(groups: int, count: int) -> None:
    assert parameters(ShuffleAttention(256, groups=groups)) == 3 * 256 // groups == count


def test_starts_as_a_scaled_permutation_of_the_channels() -> None:
    x = torch.randn(2, 12, 5, 3)
    order = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    expected = x[:, order] * torch.tensor(1.0).sigmoid()
    torch.testing.assert_close(ShuffleAttention(12, groups=3)(x), expected)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (24, 12), (4, 2), (96, 48)])
def test_fit_takes_the_most_groups_the_width_allows(channels: int, groups: int) -> None:
    assert ShuffleAttention.fit(channels) == {"groups": groups}
    assert ShuffleAttention.fit(128) == {}


def test_widths_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="channels=64 and groups=64; groups could be 32"):
        ShuffleAttention(64)
    with pytest.raises(ValueError, match="ShuffleAttention needs channels to be a multiple of 2, got 7; use 6 or 8"):
        ShuffleAttention(7)
