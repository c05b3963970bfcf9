"""How much a graft changes, and what happens without it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attngraft import maps
from attngraft._core.errors import MapError
from attngraft.attention import ECA, MHSA
from attngraft.yolo.grafting import Graft


def grafted(gamma: float = 0.5) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Graft(MHSA(8), 8, "mixer"), Graft(ECA(8), 8, "gate"))
    for graft in model[1:]:
        nn.init.constant_(graft.gamma, gamma)
    return model.double().eval()


def test_strength_is_the_change_over_the_map() -> None:
    model, x = grafted(), torch.randn(3, 3, 5, 7, dtype=torch.float64)
    with maps.strength(model) as strengths:
        model(x)
    before = model[0](x)
    change = 0.5 * model[1].mechanism(before)
    torch.testing.assert_close(strengths["1"].ratio(), change.flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1))
    torch.testing.assert_close(strengths["1"].per_cell(), change.norm(dim=1) / before.norm(dim=1))
    assert strengths["2"].per_channel().shape == (3, 8)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_graft_at_its_start_changes_nothing() -> None:
    model, x = grafted(0.0), torch.randn(1, 3, 4, 4, dtype=torch.float64)
    with maps.strength(model) as strengths:
        model(x)
    assert strengths["1"].ratio().item() == 0.0
    assert strengths["2"].per_cell().max() == 0.0


def test_without_is_gamma_at_zero() -> None:
    model, x = grafted(), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    with maps.without(model, ["1"]):
        once = model(x)
    with maps.without(model):
        bare = model(x)
    again = model(x)
    zeroed = grafted()
    zeroed.load_state_dict(model.state_dict())
    nn.init.zeros_(zeroed[1].gamma)
    torch.testing.assert_close(once, zeroed(x))
    torch.testing.assert_close(bare, model[0](x))
    assert not torch.equal(again, bare)
    with pytest.raises(ZeroDivisionError), maps.without(model):
        raise ZeroDivisionError
    assert torch.equal(model(x), again)


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(MapError, match="carries no graft"), maps.strength(nn.Sequential(nn.ReLU()).eval()):
        pass
    with pytest.raises(MapError, match="no graft '7'; there are: 1, 2"), maps.without(grafted(), ["7"]):
        pass
    with maps.strength(grafted()) as strengths, pytest.raises(MapError, match="has not run"):
        strengths["1"].ratio()
