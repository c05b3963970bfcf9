"""The sums of `attngraft.retrieve.spaces`, beside the paper's formula over all pairs, written slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from attngraft._core.errors import DataError, ShapeError
from attngraft.retrieve.spaces import HeadSpaces, joined, split, unit

Keys = NDArray[np.float64]


def slow_importance(keys: Keys) -> list[float]:
    """Return s_h over all N^2 pairs, each key with itself too, in plain Python."""
    count, heads, _ = keys.shape
    found = []
    for head in range(heads):
        vectors = [[float(x) for x in keys[item, head]] for item in range(count)]
        lengths = [math.sqrt(sum(x * x for x in vector)) for vector in vectors]
        distances = [
            1 - sum(a * b for a, b in zip(one, other, strict=True)) / (lengths[i] * lengths[j])
            for i, one in enumerate(vectors)
            for j, other in enumerate(vectors)
        ]
        found.append(sum(lengths) / count * sum(distances) / count**2)
    return found


def keys(seed: int, count: int = 13, heads: int = 5, dim: int = 3) -> Keys:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, heads, dim)) * rng.uniform(0.1, 9, (1, heads, 1)) + rng.normal(size=(1, heads, dim))


@pytest.mark.parametrize("seed", range(3))
def test_importance_in_one_pass_is_that_over_all_pairs(seed: int) -> None:
    found = keys(seed)
    np.testing.assert_allclose(HeadSpaces.of(found).importance(), slow_importance(found), rtol=1e-12)


def test_the_pairs_of_a_key_with_itself_count() -> None:
    """Two keys at right angles: the mean over 2^2 pairs is 1/2, over the pairs of different keys it would be 1."""
    assert HeadSpaces.of(np.array([[[2.0, 0.0]], [[0.0, 2.0]]])).importance() == pytest.approx([2 * 0.5])


def test_parts_merge_to_the_whole_and_leave_it_again() -> None:
    found = keys(4)
    whole, first, rest = HeadSpaces.of(found), HeadSpaces.of(found[:6]), HeadSpaces.of(found[6:])
    for made, wanted in ((first.merged(rest), whole), (whole.without(rest), first)):
        assert made.count == wanted.count
        for name in ("norms", "units", "keys"):
            np.testing.assert_allclose(getattr(made, name), getattr(wanted, name), rtol=1e-9, atol=1e-12)
    assert HeadSpaces.empty(5, 3).merged(whole).importance() == pytest.approx(whole.importance())
    nothing = whole.without(whole)
    assert nothing.count == 0
    assert not nothing.units.any()


def test_the_mean_is_that_of_the_keys() -> None:
    found = keys(5)
    np.testing.assert_allclose(HeadSpaces.of(found).mean, found.mean(0), rtol=1e-12)
    np.testing.assert_allclose(HeadSpaces.of(found - found.mean(0)).mean, 0, atol=1e-12)


def test_a_head_of_zeros_weighs_nothing() -> None:
    found = keys(6)
    found[:, 2] = 0
    weights = HeadSpaces.of(found).importance()
    assert HeadSpaces.of(found).dead() == (2,)
    assert weights[2] == 0
    assert (np.delete(weights, 2) > 0).all()


def test_one_key_of_zeros_has_no_direction() -> None:
    """Its cosine is 0 with every key and with itself, so one pair of four is alike: the other key with itself."""
    found = HeadSpaces.of(np.array([[[3.0, 0.0]], [[0.0, 0.0]]]))
    assert found.spread() == pytest.approx([1 - 1 / 4])
    assert np.isfinite(found.importance()).all()


def test_one_item_weighs_every_live_head_alike() -> None:
    one = keys(7)[:1]
    one[:, 1] = 0
    assert HeadSpaces.of(one).importance().tolist() == [1, 0, 1, 1, 1]


def test_items_that_are_all_alike_weigh_every_head_alike() -> None:
    assert HeadSpaces.of(np.ones((4, 2, 1))).importance().tolist() == [1, 1]


def test_sums_of_other_heads_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"heads and width \(5, 3\), got shape \(4, 3\)"):
        HeadSpaces.of(keys(0)).merged(HeadSpaces.empty(4, 3))
    with pytest.raises(DataError, match="cannot take 13 keys out of 2"):
        HeadSpaces.of(keys(0)[:2]).without(HeadSpaces.of(keys(0)))
    with pytest.raises(ShapeError, match=r"keys \(N, heads, dim\)"):
        HeadSpaces.of(keys(0)[0])


def test_joined_and_split_keep_the_order_of_heads() -> None:
    found = np.arange(24.0).reshape(2, 3, 4)
    assert joined(found)[1, 0].tolist() == list(range(12, 24))
    assert split(found.reshape(2, 12), 3)[1, 2].tolist() == [20, 21, 22, 23]
    with pytest.raises(ShapeError, match="a width that 5 heads divide"):
        split(found.reshape(2, 12), 5)


def test_unit_leaves_zeros() -> None:
    made = unit(np.array([[0.0, 0.0], [3.0, 4.0]], np.float32))
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [[0, 0], [0.6, 0.8]], rtol=1e-6)
