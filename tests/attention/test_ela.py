"""ELA against the paper's equations and its table of variants (arXiv 2403.01123), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import ELA
from attngraft.attention.ela import VARIANTS
from tests.attention.slow import conv1d, counted_macs, group_norm, parameters, randomise, sigmoid


def reference(x: Tensor, module: ELA) -> Tensor:
    H, W = x.shape[2:]

    def gate(strip: Tensor) -> Tensor:
        mixed = conv1d(strip, module.conv.weight)
        return sigmoid(group_norm(mixed, module.norm_groups, module.norm.weight, module.norm.bias))

    y_h = gate(torch.stack([x[:, :, i].sum(2) / W for i in range(H)], 2))  # (B, C, H)
    y_w = gate(torch.stack([x[:, :, :, j].sum(2) / H for j in range(W)], 2))  # (B, C, W)
    out = torch.empty_like(x)
    for i in range(H):
        for j in range(W):
            out[:, :, i, j] = x[:, :, i, j] * y_h[:, :, i] * y_w[:, :, j]
    return out


@pytest.mark.parametrize("variant", ["T", "B", "S", "L"])
def test_equals_the_paper(variant: str) -> None:
    module = randomise(ELA(24, variant=variant, norm_groups=3))
    x = torch.randn(2, 24, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


@pytest.mark.parametrize("variant", ["T", "L"])
def test_the_cost_of_a_variant_is_its_closed_form(variant: str) -> None:
    module = ELA(64, variant=variant)
    assert module.macs(7, 5) == counted_macs(module, 7, 5)


@pytest.mark.parametrize(
    ("variant", "kernel_size", "conv_groups", "norm_groups"),
    [("T", 5, 256, 32), ("B", 7, 256, 16), ("S", 5, 32, 16), ("L", 7, 32, 16)],
)
def test_variants_are_the_papers(variant: str, kernel_size: int, conv_groups: int, norm_groups: int) -> None:
    module = ELA(256, variant=variant)
    assert module.conv.kernel_size == (kernel_size,)
    assert module.conv.groups == conv_groups
    assert module.norm.num_groups == norm_groups
    assert parameters(module) == 256 * (256 // conv_groups) * kernel_size + 2 * 256


def test_a_gate_looks_along_its_strip() -> None:
    """A bright cell moves the gates of three rows on either side: copies with a kernel of 1 see no neighbour."""
    module = randomise(ELA(16, norm_groups=16))
    with torch.no_grad():
        module.conv.weight[:, :, 3] = 0  # the cell itself
    x = torch.zeros(1, 16, 9, 9, dtype=torch.float64)
    x[:, :, 4, 4] = 1
    seen = module.conv(x.mean(3)).abs().amax((0, 1)) > 0
    assert seen.nonzero().flatten().tolist() == [1, 2, 3, 5, 6, 7]


def test_widths_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="channels=24 and norm_groups=16; norm_groups could be 12 or 24"):
        ELA(24)
    with pytest.raises(ValueError, match="ELA S needs channels to be a multiple of 8, got 12; use 8 or 16"):
        ELA(12, variant="S", norm_groups=4)
    with pytest.raises(ValueError, match="ELA needs variant to be one of 'T', 'B', 'S', 'L', got 'XL'"):
        ELA(64, variant="XL")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("channels", [16, 48, 80, 128])
def test_a_graft_fits_every_variant(variant: str, channels: int) -> None:
    module = ELA(channels, **{**ELA.fit(channels), "variant": variant})
    assert channels % module.norm_groups == 0
    assert ELA(channels, **ELA.fit(channels)).norm_groups == 16, "B keeps the paper's where they divide"
