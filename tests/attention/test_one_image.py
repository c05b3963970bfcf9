"""Gradients of one image, in every neighbourhood that a detector gives a mechanism, equal those of the image twice.

PyTorch's batch norm on the CPU goes by the stride of the batch axis, which means nothing where that axis has one image
(2.13, 2.14.1). A view that leaves another stride there, such as ``flatten(2).transpose(1, 2)`` of a map, then gives
wrong gradients without a word, with outputs that are right.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import attngraft.attention as zoo
from attngraft._core.registry import fitted
from attngraft.attention._tokens import to_map, to_tokens
from tests.attention.test_contract import NAMES

SIZES = [(13, 9), (5, 1), (1, 6), (8, 8)]


class Shortcut(nn.Module):
    """A bottleneck's end: what a detector's block adds after its convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


PLACES: dict[str, Callable[[int, nn.Module], nn.Module]] = {
    "norm before": lambda c, layer: nn.Sequential(nn.BatchNorm2d(c), layer),
    "norm and SiLU before": lambda c, layer: nn.Sequential(nn.BatchNorm2d(c), nn.SiLU(), layer),
    "block with shortcut before": lambda c, layer: nn.Sequential(Shortcut(c), layer),
    "norm after": lambda c, layer: nn.Sequential(layer, nn.BatchNorm2d(c)),
    "norms around": lambda c, layer: nn.Sequential(nn.BatchNorm2d(c), layer, nn.BatchNorm2d(c), nn.SiLU()),
}


def made(name: str, channels: int) -> nn.Module:
    torch.manual_seed(0)
    cls = zoo.mechanism(name).cls
    module = cls(channels, **fitted(cls, channels)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def placed(place: str, channels: int, layer: nn.Module) -> nn.Module:
    """Put a layer in its place, with batch norms away from their start, where a ReLU of a mean sits on its kink."""
    net = PLACES[place](channels, layer).double()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.5)
    return net


def gradients(net: nn.Module, image: Tensor, weight: Tensor, copies: int) -> list[Tensor]:
    """Return the gradients of the image and of every parameter, of ``copies`` of the image, per copy."""
    net.zero_grad()
    x = torch.cat([image] * copies).requires_grad_()
    (net(x) * weight).sum().backward()
    assert x.grad is not None
    return [x.grad[:1].clone()] + [p.grad / copies for p in net.parameters() if p.grad is not None]


def deviation(net: nn.Module, size: tuple[int, int], channels: int, *, last: bool = False) -> float:
    image, weight = torch.randn(2, 1, channels, *size, dtype=torch.float64)
    if last:
        image = image.to(memory_format=torch.channels_last)
    one, two = (gradients(net, image, weight, copies) for copies in (1, 2))
    scale = max(float(g.abs().max()) for g in two)
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True)) / scale


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_gradients_of_one_image_are_those_of_the_image_twice(name: str, train: bool) -> None:
    wrong = []
    for place, size, last in itertools.product(PLACES, SIZES, (False, True)):
        net = placed(place, 16, made(name, 16)).train(train)
        if (off := deviation(net, size, 16, last=last)) > 1e-8:
            wrong.append(f"{place}, {size}, channels_last={last}: {off:.0e}")
    assert not wrong


@pytest.mark.parametrize("name", ["area_attention", "aifi", "mha", "mhsa", "non_local", "mlca"])
def test_gradients_of_one_image_are_the_slopes(name: str) -> None:
    """The derivative of the loss along a direction, by central differences in float64."""
    net = placed("norms around", 8, made(name, 8)).eval()
    image, weight, along = torch.randn(3, 1, 8, 5, 3, dtype=torch.float64)
    slope = (gradients(net, image, weight, 1)[0] * along).sum()
    with torch.no_grad():
        ahead, behind = ((net(image + step * along) * weight).sum() for step in (1e-5, -1e-5))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-6)


class TestTokens:
    def test_the_two_are_inverse_and_row_by_row(self) -> None:
        x = torch.arange(24.0).view(1, 2, 3, 4)
        tokens = to_tokens(x)
        assert tokens.shape == (1, 12, 2)
        assert tokens[0, :, 0].tolist() == list(range(12))
        assert torch.equal(to_map(tokens, 3, 4), x)

    def test_this_test_can_fail(self) -> None:
        """The view that is written by hand most often; once PyTorch reads it right, the detour may go."""

        class Hand(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x.flatten(2).transpose(1, 2).contiguous() * 2).transpose(1, 2).reshape(x.shape)

        wrong = [deviation(placed(p, 4, Hand()).eval(), (5, 3), 4) > 1e-8 for p in PLACES]
        assert any(wrong)
