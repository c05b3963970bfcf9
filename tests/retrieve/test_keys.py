from __future__ import annotations

import numpy as np
import pytest
import torch

from attngraft._core.errors import DataError, ShapeError
from attngraft.retrieve.keys import Keys, fingerprint


def made(count: int = 3) -> Keys:
    rng = np.random.default_rng(0)
    return Keys(tuple("abc"[:count]), rng.normal(size=(count, 2, 5)), rng.normal(size=(count, 7)))


def test_keys_are_float32_whatever_they_were() -> None:
    assert made().heads.dtype == made().standard.dtype == np.float32


def test_some_keys_are_taken_by_their_rows() -> None:
    some = made().take([2, 0])
    assert some.ids == ("c", "a")
    assert np.array_equal(some.heads, made().heads[[2, 0]])
    assert np.array_equal(some.standard, made().standard[[2, 0]])


def test_keys_of_nothing_keep_their_widths() -> None:
    nothing = made().take([])
    assert (nothing.ids, nothing.heads.shape, nothing.standard.shape) == ((), (0, 2, 5), (0, 7))
    assert len(Keys((), np.zeros((0, 2, 5)), np.zeros((0, 0)))) == 0


@pytest.mark.parametrize("name", ["heads", "standard"])
def test_a_key_that_is_not_finite_is_named(name: str) -> None:
    arrays = {"heads": made().heads.copy(), "standard": made().standard.copy()}
    arrays[name][1].flat[0] = np.nan
    arrays[name][2].flat[-1] = np.inf
    with pytest.raises(DataError, match=r"the keys of b are not finite; .*2 of 3"):
        Keys(("a", "b", "c"), **arrays)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"heads \(items, heads, dim\) for 2 ids, got shape \(3, 2, 5\)"):
        Keys(("a", "b"), made().heads, made().standard)
    with pytest.raises(ShapeError, match=r"standard \(items, width\) for 3 ids, got shape \(3, 2, 5\)"):
        Keys(("a", "b", "c"), made().heads, made().heads)


def test_a_fingerprint_sees_weights_their_names_their_type_and_options() -> None:
    weights = {"one": torch.tensor([[1.0, 2.0]]), "two": torch.tensor([3, 4])}
    others = [
        fingerprint({**weights, "one": torch.tensor([[1.0, 2.5]])}, {}),
        fingerprint({**weights, "one": torch.tensor([[1.0], [2.0]])}, {}),
        fingerprint({**weights, "one": weights["one"].bfloat16()}, {}),
        fingerprint({"three": weights["one"], "two": weights["two"]}, {}),
        fingerprint(weights, {"layers": [-1]}),
        fingerprint(weights, {"layers": [-2]}),
    ]
    same = fingerprint(dict(reversed(weights.items())), {})
    assert same == fingerprint(weights, {})
    assert len({same, *others}) == 7


def test_a_fingerprint_takes_arrays_and_views_and_leaves_out_the_rest() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    assert fingerprint({"w": weight.t().contiguous().t()}, {}) == fingerprint({"w": weight, "note": "x"}, {})
    assert fingerprint({"w": np.ones(2, np.float32)}, {}) != fingerprint({"w": np.zeros(2, np.float32)}, {})
    assert fingerprint({"w": torch.tensor(1.0)}, {}) != fingerprint({"w": torch.tensor(2.0)}, {})
