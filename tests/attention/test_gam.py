"""GAM against the paper's equations and figures (arXiv 2112.05561), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import GAM
from tests.attention.slow import batch_norm, conv2d, parameters, randomise, sigmoid


def reference(x: Tensor, module: GAM) -> Tensor:
    squash = sigmoid if module.channel_gate == "sigmoid" else torch.clone
    first, _, second = module.channel
    gated = torch.empty_like(x)
    for b, image in enumerate(x):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                hidden = (first.weight[:, :, 0, 0] @ image[:, i, j] + first.bias).clamp(min=0)
                gated[b, :, i, j] = image[:, i, j] * squash(second.weight[:, :, 0, 0] @ hidden + second.bias)
    narrow, narrow_norm, _, wide, wide_norm = module.spatial
    hidden = batch_norm(conv2d(gated, narrow.weight, narrow.bias), narrow_norm).clamp(min=0)
    return gated * sigmoid(batch_norm(conv2d(hidden, wide.weight, wide.bias), wide_norm))


@pytest.mark.parametrize(("kernel_size", "channel_gate"), [(3, "sigmoid"), (7, "sigmoid"), (3, "none")])
def test_equals_the_paper(kernel_size: int, channel_gate: str) -> None:
    module = randomise(GAM(7, reduction=3, kernel_size=kernel_size, channel_gate=channel_gate))
    x = torch.randn(2, 7, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_parameter_count_is_the_closed_form() -> None:
    C, n, k = 256, 64, 7
    assert parameters(GAM(C)) == 2 * C * n * (1 + k**2) + 2 * (C + n) + 2 * (C + n) == 1_639_680


def test_both_gates_lie_between_0_and_1() -> None:
    """The copies without the sigmoid of the channel gate can change a value's sign; two sigmoids cannot."""
    x = torch.randn(2, 16, 5, 3)
    y = GAM(16)(x)
    assert (y * x >= 0).all()
    assert (y.abs() <= x.abs()).all()


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"GAM needs reduction of at most 2 .* channels=2, got 4"):
        GAM(2)
    with pytest.raises(ValueError, match=r"GAM needs an odd kernel_size .* got 6; use 5 or 7"):
        GAM(64, kernel_size=6)
    with pytest.raises(ValueError, match=r"channel_gate"):
        GAM(64, channel_gate="relu")
