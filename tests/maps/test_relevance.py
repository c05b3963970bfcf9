"""ODAM: the equation written slowly, closed forms, and that nothing after a layer can change what was caught."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft import maps
from attngraft._core.errors import MapError, OptionError
from attngraft.maps import Predictions, Target


class Toy(nn.Module):
    """A detector of one candidate a cell: two convolutions, an operator in place, boxes and two scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.stem(x)))
        return out


@pytest.fixture
def toy() -> nn.Module:
    return Toy().double().eval()


def predict_with(model: nn.Module) -> maps.Predict:
    def predict(images: Tensor) -> Predictions:
        out = model(images).flatten(2).transpose(1, 2)  # (B, N, 6)
        return Predictions(out[..., :4] * 10, out[..., 4:].sigmoid())

    return predict


@pytest.mark.parametrize("quantity", ["class", "left", "top", "right", "bottom"])
def test_is_the_equation_written_slowly(toy: Toy, quantity: str) -> None:
    """relu(sum_c dY/dA_c * A_c) with the derivative by finite differences, batch of two, a rectangular map."""
    images = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    target = Target(1, 7, 1, quantity)  # type: ignore[arg-type]
    found = maps.odam(toy, predict_with(toy), images, [target], ["stem"], signed=True)["stem"][0]
    activation = toy.stem(images).detach()

    @torch.no_grad()
    def number(a: Tensor) -> float:
        out = toy.head(a.relu()).flatten(2).transpose(1, 2)
        return float(target.of(Predictions(out[..., :4] * 10, out[..., 4:].sigmoid())))

    slow = torch.zeros(3, 5, dtype=torch.float64)
    for c in range(4):
        for y in range(3):
            for x in range(5):
                step = torch.zeros_like(activation)
                step[1, c, y, x] = 1e-6
                derivative = (number(activation + step) - number(activation - step)) / 2e-6
                slow[y, x] += derivative * activation[1, c, y, x]
    torch.testing.assert_close(found, slow, atol=1e-6, rtol=1e-5)
    positive = maps.odam(toy, predict_with(toy), images, [target], ["stem"])["stem"][0]
    torch.testing.assert_close(positive, found.clamp(min=0))


def test_several_targets_and_layers_at_once(toy: Toy) -> None:
    images = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    targets = [Target(0, 3, 0), Target(1, 3, 1, "top")]
    both = maps.odam(toy, predict_with(toy), images, targets, ["stem", "head"])
    assert [maps_.shape for maps_ in both.values()] == [(2, 3, 5), (2, 3, 5)]
    for index, target in enumerate(targets):
        alone = maps.odam(toy, predict_with(toy), images, [target], ["stem"])["stem"][0]
        torch.testing.assert_close(both["stem"][index], alone)
    assert both["head"][0].count_nonzero() <= 1  # a score of the toy depends on its own cell of the last map


def test_works_in_half_precision_without_trainable_weights_and_under_no_grad() -> None:
    model = Toy().eval().requires_grad_(False).to(torch.bfloat16)
    with torch.no_grad():
        found = maps.odam(model, predict_with(model), torch.randn(1, 3, 8, 8).bfloat16(), [Target(0, 0, 0)], ["stem"])
    assert found["stem"].dtype == torch.float32
    assert found["stem"].isfinite().all()
    assert not any(module._forward_hooks for module in model.modules())


def test_smoothing_keeps_a_constant_gradient() -> None:
    maps_ = torch.full((1, 2, 9, 7), 3.0, dtype=torch.float64)
    torch.testing.assert_close(maps.smooth(maps_, 1.5), maps_)
    dot = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    dot[0, 0, 10, 10] = 1
    blurred = maps.smooth(dot, 2.0)[0, 0]
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-3)  # reaches three deviations
    assert float(blurred[10, 12] / blurred[10, 10]) == pytest.approx(math.exp(-0.5))


def test_a_layer_beside_the_target_has_a_map_of_zeros_where_that_is_allowed(toy: Toy) -> None:
    toy.beside = nn.Conv2d(3, 2, 1).double()

    def predict(images: Tensor) -> Predictions:
        toy.beside(images)
        return predict_with(toy)(images)

    images, layers = torch.randn(1, 3, 6, 10, dtype=torch.float64), ["stem", "beside"]
    with pytest.raises(MapError, match="does not depend on layer beside"):
        maps.odam(toy, predict, images, [Target(0, 0, 0)], layers)
    found = maps.odam(toy, predict, images, [Target(0, 0, 0)], layers, allow_unused=True, signed=True)
    assert found["beside"].shape == (1, 6, 10)
    assert not found["beside"].any()
    alone = maps.odam(toy, predict_with(toy), images, [Target(0, 0, 0)], ["stem"], signed=True)
    torch.testing.assert_close(found["stem"], alone["stem"])


def test_bad_input_gets_one_sentence(toy: Toy) -> None:
    predict, images = predict_with(toy), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(MapError, match="no detection to explain"):
        maps.odam(toy, predict, images, [], ["stem"])
    with pytest.raises(MapError, match="no layer 'stm'; did you mean stem"):
        maps.odam(toy, predict, images, [Target(0, 0, 0)], ["stm"])
    with pytest.raises(MapError, match="one of 1 images, 16 candidates and 2 classes, got image 0, candidate 99"):
        maps.odam(toy, predict, images, [Target(0, 99, 0)], ["stem"])
    with pytest.raises(OptionError, match="quantity"):
        maps.odam(toy, predict, images, [Target(0, 0, 0, "size")], ["stem"])  # type: ignore[arg-type]
    with pytest.raises(MapError, match="carry no gradient"):
        maps.odam(toy, torch.no_grad()(predict), images, [Target(0, 0, 0)], ["stem"])
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 6)).double().eval()
    with pytest.raises(MapError, match=r"layer 1 gives no map .* \(1, 6\)"):
        maps.odam(flat, lambda x: Predictions(*flat(x)[:, None].split((4, 2), 2)), images, [Target(0, 0, 0)], ["1"])
    unused = nn.ModuleDict({"used": toy, "unused": nn.Conv2d(3, 3, 1)}).eval()
    with pytest.raises(MapError, match="unused did not run"):
        maps.odam(unused, predict, images, [Target(0, 0, 0)], ["unused"])
