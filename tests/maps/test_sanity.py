"""The randomisation check: a map of the image stays, a map of the model does not."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from attngraft import maps
from attngraft._core.errors import MapError
from attngraft.maps.sanity import scramble
from tests.maps.beacons import tensors, watched


def test_spearman_is_scipys_with_ties() -> None:
    a, b = torch.randn(2, 5, 7).round(), torch.randn(2, 5, 7).round()
    expected = sum(spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)) / 2
    assert maps.spearman(a, b) == pytest.approx(expected)
    assert maps.spearman(a, torch.ones_like(b)) == 0


def test_scrambling_keeps_the_numbers() -> None:
    layer = nn.Conv2d(3, 8, 3)
    before = layer.weight.detach().clone()
    scramble(layer, torch.Generator().manual_seed(0))
    assert not torch.equal(layer.weight, before)
    torch.testing.assert_close(layer.weight.flatten().sort().values, before.flatten().sort().values)


def test_odam_depends_on_the_weights_and_an_edge_map_does_not() -> None:
    detector = watched("global")
    image = tensors(1)
    targets = [d.target() for d in detector.find(image)[0]]

    def odam(network: nn.Module) -> torch.Tensor:
        from attngraft.yolo.looking import Watched

        copy = Watched(network)
        return maps.odam(copy.network, copy.predict, image, targets, ["model.2"], signed=True)["model.2"]

    def edges(_network: nn.Module) -> torch.Tensor:
        return (image.diff(dim=3)[:, 0, 1:] + image.diff(dim=2)[:, 0, :, 1:]).abs()

    stages = ["model.4", "model.3", "model.2", "model.1", "model.0"]
    before = {name: tensor.clone() for name, tensor in detector.network.state_dict().items()}
    of_model = maps.randomisation_check(detector.network, odam, stages)
    of_image = maps.randomisation_check(detector.network, edges, stages)
    assert [step.module for step in of_model] == stages
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.network.state_dict().items())
    assert abs(of_model[-1].similarity) < 0.5
    assert all(step.similarity == pytest.approx(1) for step in of_image)
    assert maps.randomisation_check(detector.network, odam, stages) == of_model


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(MapError, match="no module 'head'"):
        maps.randomisation_check(nn.Sequential(nn.Conv2d(1, 1, 1)).eval(), lambda m: torch.ones(1, 2, 2), ["head"])
