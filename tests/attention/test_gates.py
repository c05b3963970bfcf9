"""The shared parts of the gates: maxima that share their gradient, hidden widths, a norm for single cells."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from attngraft._core.checks import multiple_of
from attngraft.attention._gates import GroupNorm, fit_reduction, hidden_channels, shared_max

AXES = [(1,), (2,), (3,), (2, 3)]


@pytest.mark.parametrize("dim", AXES, ids=str)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_shared_max_is_amax_with_its_gradient(dim: tuple[int, ...], ties: bool) -> None:
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    x = (x.round() if ties else x).requires_grad_()
    ours, torchs = shared_max(x, *dim), x.amax(dim)
    assert torch.equal(ours, torchs)
    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), x)
    (expected,) = torch.autograd.grad((torchs * weights).sum(), x)
    torch.testing.assert_close(gradient, expected, atol=1e-15, rtol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_shared_max_can_be_saved_as_torchscript() -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return shared_max(x, 2, 3)

    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(Pool(), torch.randn(1, 3, 4, 5)), file)
    file.seek(0)
    x = torch.randn(2, 3, 7, 2)
    assert torch.equal(torch.jit.load(file)(x), x.amax((2, 3)))


@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_takes_a_single_value_a_group(groups: int) -> None:
    norm, ordinary = GroupNorm(groups, 4), nn.GroupNorm(groups, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    ordinary.load_state_dict(norm.state_dict())
    x = torch.randn(2, 4, 3)
    assert torch.equal(norm(x), ordinary(x))
    single = GroupNorm(4, 4)
    nn.init.normal_(single.bias)
    torch.testing.assert_close(single(torch.randn(1, 4, 1)), single.bias[None, :, None], atol=1e-4, rtol=0)


def test_hidden_channels_names_the_largest_reduction_that_works() -> None:
    assert hidden_channels("X", 64, 16) == 4
    with pytest.raises(ValueError, match="X needs reduction of at most 8 to keep 2 hidden of channels=16, got 9"):
        hidden_channels("X", 16, 9, least=2)
    for channels in (1, 2, 15, 16, 31, 32, 100):
        reduction = fit_reduction(channels, 16).get("reduction", 16)
        assert hidden_channels("X", channels, reduction) >= 1


def test_multiple_of_names_both_neighbours() -> None:
    multiple_of("X", 4, 12)
    with pytest.raises(ValueError, match="X needs channels to be a multiple of 4, got 3; use 4"):
        multiple_of("X", 4, 3)
