from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from attngraft._core.errors import DataError, OutputError
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.stores import view
from attngraft.retrieve.stores.arrays import ArrayStore
from tests.retrieve.stores.conftest import DIM, HEADS, WIDTH, keys


def test_half_precision_needs_two_bytes_a_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heads = rng.normal(size=(1250, 12, 32))
    stored = Keys(tuple(f"doc{n}" for n in range(1250)), heads, np.zeros((1250, 0)))
    ArrayStore(12, 32, 0, dtype="float16", folder=tmp_path).add(stored)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size <= 1.05 * 1250 * 12 * 32 * 2
    back = ArrayStore.open(tmp_path)
    assert back.dtype == "float16"
    assert np.array_equal(back.keys().heads, stored.heads.astype(np.float16).astype(np.float32))


def test_sums_are_those_of_what_is_stored() -> None:
    """Else an index that was updated and one that is opened would weigh heads differently."""
    store = ArrayStore(HEADS, DIM, WIDTH, dtype="float16")
    store.add(keys(0, 10))
    store.spaces()
    store.add(keys(1, 10, "e"))
    store.delete(["d1", "e2"])
    updated, fresh = store.spaces(), ArrayStore(HEADS, DIM, WIDTH, dtype="float16")
    fresh.add(store.keys())
    np.testing.assert_allclose(updated.importance(), fresh.spaces().importance(), rtol=1e-12)


def test_keys_beyond_half_precision_are_refused() -> None:
    wide = keys(0, 3)
    wide.heads[1, 0, 0] = 70000
    with pytest.raises(DataError, match="the keys of d1 are beyond what float16 holds; build the index with float32"):
        ArrayStore(HEADS, DIM, WIDTH, dtype="float16").add(wide)


@pytest.mark.parametrize("center", [False, True])
def test_a_space_too_large_for_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch, center: bool) -> None:
    store, queries = ArrayStore(HEADS, DIM, WIDTH), keys(1, 4, "q")
    store.add(keys(0, 50))
    store.delete(["d3", "d10"])
    wanted = store.nearest(queries, 7, center=center)
    monkeypatch.setattr(view, "CACHED", 0)
    monkeypatch.setattr(view, "BLOCK", 16)
    store.add(keys(2, 1, "e"))
    store.delete(["e0"])
    found = store.nearest(queries, 7, center=center)
    assert np.array_equal(found.rows, wanted.rows)


def test_a_copy_is_complete_and_replaces_nothing(tmp_path: Path) -> None:
    store = ArrayStore(HEADS, DIM, WIDTH, dtype="float16")
    store.add(keys(0, 5), [{"n": n} for n in range(5)])
    saved = store.save(tmp_path / "my.index")
    opened = ArrayStore.open(tmp_path / "my.index")
    for one in (saved, opened):
        assert list(one.ids) == list(store.ids)
        assert one.fields(["d4"]) == [{"n": 4}]
        assert np.array_equal(one.keys().heads, store.keys().heads)
    with pytest.raises(OutputError, match="holds an index already"):
        store.save(tmp_path / "my.index")


ADDING = """
import sys, numpy as np
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.stores.arrays import ArrayStore
store = ArrayStore(2, 3, 4, folder=sys.argv[1])
for number in range(100_000):
    ids = tuple(f"{number}-{part}" for part in range(5))
    store.add(Keys(ids, np.full((5, 2, 3), number + 1), np.full((5, 4), number + 1)))
    print(number, flush=True)
"""


def test_a_process_that_is_killed_loses_nothing_that_was_added(tmp_path: Path) -> None:
    for round_ in range(2):
        folder = tmp_path / str(round_)
        with subprocess.Popen([sys.executable, "-c", ADDING, str(folder)], stdout=subprocess.PIPE, text=True) as adding:
            assert adding.stdout is not None
            for _ in range(25 + round_):
                last = adding.stdout.readline()
            time.sleep(0.003 * round_)
            adding.kill()
            finished = int((adding.stdout.read().split() or [last])[-1]) + 1
        store = ArrayStore.open(folder)
        whole, rest = divmod(len(store.ids), 5)
        assert rest == 0
        assert finished <= whole <= finished + 1
        found = store.keys()
        numbers = np.repeat(np.arange(1, whole + 1), 5)
        assert (found.heads == numbers[:, None, None]).all()
        assert (found.standard == numbers[:, None]).all()
        store.add(Keys(("after",), np.ones((1, 2, 3)), np.ones((1, 4))))
        assert len(ArrayStore.open(folder).ids) == 5 * whole + 1
