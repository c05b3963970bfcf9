"""Every store there is, for the tests that all of them have to pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attngraft.retrieve.keys import Keys
from attngraft.retrieve.stores import Store
from attngraft.retrieve.stores.arrays import ArrayStore
from attngraft.retrieve.stores.lance import LanceStore

HEADS, DIM, WIDTH = 3, 5, 6
Make = Callable[[], Store]


@pytest.fixture(params=["memory", "folder", "lance"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return what makes an empty store of 3 heads x 5 and standard keys of width 6."""
    if request.param == "lance":
        pytest.importorskip("lancedb", reason="needs lancedb: pip install 'attngraft[retrieve-db]'")
        return lambda: LanceStore(HEADS, DIM, WIDTH, folder=tmp_path / "my.index")
    folder = tmp_path / "my.index" if request.param == "folder" else None
    return lambda: ArrayStore(HEADS, DIM, WIDTH, folder=folder)


def keys(seed: int, count: int, prefix: str = "d") -> Keys:
    """Return random keys, of other lengths and means in every head."""
    rng = np.random.default_rng(seed)
    heads = rng.normal(size=(count, HEADS, DIM)) * [[[1.0], [5.0], [0.2]]] + np.random.default_rng(99).normal(
        size=(HEADS, DIM)
    )
    return Keys(tuple(f"{prefix}{n}" for n in range(count)), heads, rng.normal(size=(count, WIDTH)) + 0.5)
