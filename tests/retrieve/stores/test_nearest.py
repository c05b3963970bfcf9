from __future__ import annotations

import numpy as np
import pytest

from attngraft.retrieve.spaces import unit
from attngraft.retrieve.stores import nearest
from attngraft.retrieve.stores.nearest import Nearest, first_largest


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_first_of_equal_values_are_taken(k: int) -> None:
    values = np.random.default_rng(k).integers(0, 4, (50, 7)).astype(np.float32)
    wanted = [sorted(sorted(range(7), key=lambda at: (-row[at], at))[:k]) for row in values.tolist()]
    assert first_largest(values, k).tolist() == wanted


@pytest.mark.parametrize("at_once", [1 << 24, 1])
def test_blocks_give_what_all_at_once_gives(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(nearest, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    queries, items = unit(rng.normal(size=(4, 3, 5)).astype(np.float32)), rng.integers(-1, 2, (3, 60, 5))
    blocks, allowed = unit(items.astype(np.float32)), rng.random(60) < 0.4
    for mask in (None, allowed):
        whole, parts = Nearest(queries, 11), Nearest(queries, 11)
        whole.see(blocks, mask)
        for start, end in ((0, 1), (1, 30), (30, 60)):
            parts.see(blocks[:, start:end], mask)
        assert np.array_equal(whole.rows, parts.rows)
        np.testing.assert_allclose(whole.similarity, parts.similarity, rtol=1e-6)


def test_where_a_mask_lets_fewer_pass_there_is_no_row() -> None:
    best = Nearest(np.ones((1, 1, 1), np.float32), 3)
    best.see(np.ones((1, 4, 1), np.float32), np.array([False, True, False, False]))
    assert best.rows.tolist() == [[[1, -1, -1]]]
