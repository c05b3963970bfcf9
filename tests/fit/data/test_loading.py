"""Order and chance are functions of the seed."""

from __future__ import annotations

import pytest
import torch

from attngraft.fit.data import loading
from attngraft.fit.data.loading import EpochSampler, chance


def share(monkeypatch: pytest.MonkeyPatch, rank: int, world: int, *, training: bool, length: int = 11) -> list[int]:
    monkeypatch.setattr(loading, "_place", lambda: (rank, world))
    sampler = EpochSampler(length, seed=3, training=training)
    found = [index for _, index in sampler]
    assert len(found) == len(sampler)
    return found


def test_processes_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [share(monkeypatch, rank, 3, training=True) for rank in range(3)]
    assert [len(one) for one in shares] == [3, 3, 3]
    assert len({index for one in shares for index in one}) == 9
    measured = [share(monkeypatch, rank, 3, training=False) for rank in range(3)]
    assert sorted(index for one in measured for index in one) == list(range(11))


@pytest.mark.parametrize(("length", "world"), [(1, 2), (2, 5)])
def test_fewer_images_than_processes_come_several_times(
    monkeypatch: pytest.MonkeyPatch, length: int, world: int
) -> None:
    shares = [share(monkeypatch, rank, world, training=True, length=length) for rank in range(world)]
    assert [len(one) for one in shares] == [1] * world
    assert {index for one in shares for index in one} == set(range(length))


def test_each_epoch_has_an_order_of_its_own() -> None:
    sampler = EpochSampler(20, seed=0, training=True)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert [key for key in sampler if key in first] == []
    assert sorted(index for _, index in sampler) == list(range(20))
    assert [index for _, index in sampler] != [index for _, index in first]


def test_chance_is_restored() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with chance(1, (2, 3)):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with chance(1, (2, 3)):
        assert torch.equal(torch.rand(3), inside)
    with chance(1, (3, 2)):
        assert not torch.equal(torch.rand(3), inside)
