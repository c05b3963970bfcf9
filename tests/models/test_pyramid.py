"""What the pyramids share: sizes rounded up, rates that rise, padding, and a classifier that can be replaced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attngraft._core.errors import OptionError, ShapeError
from attngraft.models._pyramid import Block, ChannelNorm, Pyramid, drop_rates, four, map_sizes, pad_to


def pyramid(classes: int = 5) -> Pyramid:
    stages = [nn.Conv2d(3 if i == 0 else 4, 4, 3, 4 if i == 0 else 2, 1) for i in range(4)]
    return Pyramid(stages, (4,) * 4, norm=nn.Identity(), num_classes=classes, in_channels=3)


@pytest.mark.parametrize("size", [(64, 96), (33, 65), (1, 1)], ids=str)
def test_maps_are_a_stride_smaller_rounded_up(size: tuple[int, int]) -> None:
    net = pyramid()
    for made, stride, expected in zip(
        net.forward_features(torch.rand(2, 3, *size)), net.strides, zip(*map_sizes_of(size), strict=True), strict=True
    ):
        assert made.shape[2:] == tuple(-(-side // stride) for side in size) == expected


def map_sizes_of(size: tuple[int, int]) -> tuple[list[int], list[int]]:
    heights, widths = zip(*map_sizes("A network", size), strict=True)
    return list(heights), list(widths)


def test_the_classifier_is_the_mean_through_one_layer_and_can_be_replaced() -> None:
    net, x = pyramid().eval(), torch.rand(2, 3, 40, 56)
    mean = net.forward_features(x)[-1].mean((2, 3))
    assert isinstance(net.get_classifier(), nn.Linear)
    torch.testing.assert_close(net(x), mean @ net.head.weight.T + net.head.bias)  # type: ignore[operator, union-attr]
    net.reset_classifier(0)
    torch.testing.assert_close(net(x), mean)
    net.reset_classifier(7)
    assert net(x).shape == (2, 7)
    with pytest.raises(ShapeError, match="Pyramid expects .*3"):
        net(torch.rand(1, 1, 8, 8))


def test_rates_rise_evenly_over_all_blocks() -> None:
    rates = [rate for stage in drop_rates(0.3, (2, 3, 1)) for rate in stage]
    assert rates == pytest.approx([0.3 * i / 5 for i in range(6)])
    assert drop_rates(0.3, (1,)) == [[0.0]]


@pytest.mark.parametrize("step", [1, 2, 7])
def test_padding_is_of_zeros_below_and_to_the_right(step: int) -> None:
    x = torch.rand(2, 3, 5, 8)
    padded = pad_to(x, step)
    assert all(side % step == 0 and side - before < step for side, before in zip(padded.shape[2:], (5, 8), strict=True))
    assert torch.equal(padded[..., :5, :8], x)
    assert padded.sum() == pytest.approx(x.sum().item(), rel=1e-6)


def test_a_block_adds_its_branches_to_what_comes() -> None:
    block = Block(6, nn.Identity(), nn.Linear(6, 6), convolve=True).double()
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    y = x + nn.functional.conv2d(x, block.positions.weight, block.positions.bias, padding=1, groups=6)  # type: ignore[union-attr]
    y = y + ChannelNorm(6, eps=1e-6).double()(y)
    tokens = y.permute(0, 2, 3, 1)
    centred = tokens - tokens.mean(-1, keepdim=True)
    normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    expected = (tokens + normal @ block.mlp.weight.T + block.mlp.bias).permute(0, 3, 1, 2)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=0)


def test_an_option_of_a_stage_has_four_values() -> None:
    with pytest.raises(OptionError, match=r"Net needs depths to be four values, one a stage, got \(1, 2\)"):
        four("Net", depths=(1, 2))
