"""The parts that several transformer blocks share."""

from __future__ import annotations

import pytest
import torch

from attngraft.attention._blocks import DropPath


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    x = torch.rand(4000, 3, 2) + 0.5
    y = DropPath(0.3)(x)
    ratio = y / x
    kept = ratio[:, 0, 0] > 0
    torch.testing.assert_close(ratio, (kept / 0.7)[:, None, None].expand_as(ratio))
    assert 0.65 < kept.float().mean() < 0.75


def test_drop_path_does_nothing_outside_training() -> None:
    x = torch.randn(5, 3)
    assert DropPath(0.9).eval()(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_refuses_what_is_no_probability(rate: float) -> None:
    with pytest.raises(ValueError, match=f"at least 0 and below 1, got {rate}"):
        DropPath(rate)
