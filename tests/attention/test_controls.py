"""The two controls of a study: what they must be for a comparison with them to mean something."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from attngraft._core.errors import OptionError
from attngraft.attention import Noop, PlainConv


def test_noop_has_nothing_to_learn() -> None:
    assert not list(Noop(16).parameters())


@pytest.mark.parametrize(("channels", "width"), [(4, 1), (48, 7), (256, 90)])
def test_plain_conv_has_as_many_parameters_as_it_says(channels: int, width: int) -> None:
    count = sum(p.numel() for p in PlainConv(channels, width=width).parameters())
    assert count == 10 * channels * width + 2 * width + channels


def test_plain_conv_is_two_convolutions() -> None:
    module = PlainConv(5, width=3).double().eval()
    for value in [*module.parameters(), module.norm.running_mean, module.norm.running_var]:
        torch.nn.init.uniform_(value, 0.5, 1.5)
    x = torch.randn(2, 5, 7, 11, dtype=torch.float64)
    weight, bias = module.norm.weight, module.norm.bias
    hidden = F.conv2d(x, module.near.weight, padding=1)
    scale = weight / (module.norm.running_var + module.norm.eps).sqrt()
    hidden = (hidden - module.norm.running_mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]
    expected = torch.einsum("ow,bwij->boij", module.out.weight[:, :, 0, 0], hidden * hidden.sigmoid())
    torch.testing.assert_close(module(x), expected + module.out.bias[:, None, None])


def test_plain_conv_needs_a_width() -> None:
    with pytest.raises(OptionError, match="PlainConv needs width"):
        PlainConv(8, width=0)
