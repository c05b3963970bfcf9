"""The SK convolution against the paper's equations (arXiv 1903.06586), written slowly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from attngraft.attention import SelectiveKernel
from tests.attention.slow import assert_same, conv2d, norm_shapes, normed, official, parameters

C, HIDDEN = 4, 3
SHAPES = {
    "convs.0.0.weight": (C, 2, 3, 3), "convs.1.0.weight": (C, 2, 3, 3), **norm_shapes("convs.0.1", C),
    **norm_shapes("convs.1.1", C), "squeeze.weight": (HIDDEN, C), **norm_shapes("squeeze_norm", HIDDEN),
    "select.weight": (2 * C, HIDDEN),
}  # fmt: skip


def reference(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Equations 1 to 6: split by 3x3 filters with dilations 1 and 2, fuse, select."""
    views = [
        normed(conv2d(x, state[f"convs.{i}.0.weight"], dilation=i + 1), state, f"convs.{i}.1").clamp(min=0)
        for i in range(2)
    ]
    pooled = sum(views).flatten(2).sum(2) / x[0, 0].numel()
    hidden = normed(pooled @ state["squeeze.weight"].T, state, "squeeze_norm").clamp(min=0)
    a, b = ((hidden @ half.T).exp() for half in state["select.weight"].split(C))
    return sum(view * (power / (a + b))[:, :, None, None] for view, power in zip(views, (a, b), strict=True))


@pytest.mark.parametrize(("batch", "size"), [(1, (5, 3)), (3, (2, 7)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int]) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    module = SelectiveKernel(C, groups=2, least=HIDDEN, norm="batch")
    assert_same(module, reference, official(SHAPES), x, dict)


def test_full_filters_are_as_large_as_they_see() -> None:
    module = SelectiveKernel(8, kernel_sizes=(1, 3, 5, 7), groups=1, dilated=False)
    assert [tuple(conv[0].weight.shape[2:]) for conv in module.convs] == [(1, 1), (3, 3), (5, 5), (7, 7)]
    assert module(torch.randn(2, 8, 5, 3)).shape == (2, 8, 5, 3)


def test_a_batch_of_one_trains_with_the_papers_norm() -> None:
    SelectiveKernel(32, norm="batch").train()(torch.randn(1, 32, 5, 3)).sum().backward()


def test_parameter_count_is_the_closed_form() -> None:
    C, d = 256, 32
    filters = 2 * (C * C // 32 * 9 + 2 * C)
    assert parameters(SelectiveKernel(C)) == filters + C * d + d + 2 * C * d == 62_496
    assert parameters(SelectiveKernel(C, norm="batch")) == filters + C * d + 2 * d + 2 * C * d


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two kernel_sizes or more to choose from, got \(3,\); use \(3, 5\)"):
        SelectiveKernel(32, kernel_sizes=(3,))
    with pytest.raises(ValueError, match="needs an odd kernel_size to keep the map's size, got 4; use 3 or 5"):
        SelectiveKernel(32, kernel_sizes=(3, 4))
    with pytest.raises(ValueError, match="channels divisible by groups, got channels=24 and groups=32"):
        SelectiveKernel(24)
