"""What the speed benchmark compares finds the same items, and an index is as small as it is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.retrieve import speed

from attngraft.retrieve.stores.arrays import ArrayStore


@pytest.mark.parametrize(("other", "package"), [("faiss_flat", "faiss"), ("sql_a_head", "duckdb")])
def test_faiss_and_one_sql_query_a_head_find_the_same(other: str, package: str) -> None:
    pytest.importorskip(package, reason=f"needs {package}: what the benchmark compares with")
    stored, query = speed.drawn(300, 1, "d"), speed.drawn(1, 2, "q")
    store = ArrayStore(speed.HEADS, speed.DIM, speed.HEADS * speed.DIM)
    store.add(stored)
    search = getattr(speed, other)(stored, query)
    assert search() == speed.found(store, query)()


def test_an_index_of_half_precision_takes_two_bytes_a_number(tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="needs lancedb: pip install 'attngraft[retrieve-db]'")
    of = speed.sizes_and_sums(5000, tmp_path)["bytes_over_bytes_of_the_keys"]
    assert 1 < of["arrays"] <= 1.05
    assert 1 < of["LanceDB"] <= 1.15  # it keeps each key's length beside it, in single precision
