"""What every store promises, beside a search written slowly in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Thread

import numpy as np
import pytest

from attngraft._core.errors import DataError, OptionError, OutputError, ShapeError
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.rank import Neighbours
from attngraft.retrieve.stores.arrays import ArrayStore
from attngraft.retrieve.stores.base import in_space
from attngraft.retrieve.stores.lance import LanceStore
from tests.retrieve.stores.conftest import DIM, HEADS, WIDTH, Make, keys

FIELDS = [{"split": "val" if n % 3 == 0 else "train", "n": n} for n in range(40)]


def slow_nearest(
    stored: Keys, queries: Keys, n: int, space: str = "heads", *, center: bool = False, allowed: Sequence[bool] = ()
) -> list[list[list[str]]]:
    """Return the ids of the n nearest, one cosine after the other; the first added wins a tie."""
    of_items, of_queries = (in_space(space, k.heads.astype(float), k.standard.astype(float)) for k in (stored, queries))
    mean = of_items.mean(0) if center else 0 * of_items[0]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(sum(x * y for x, y in zip(a, b, strict=True))) / (math.hypot(*a) * math.hypot(*b))

    found = []
    for query in of_queries:
        of_query = []
        for head in range(len(query)):
            ranked = [
                (-cosine(query[head] - mean[head], item[head] - mean[head]), row)
                for row, item in enumerate(of_items)
                if not allowed or allowed[row]
            ]
            of_query.append([stored.ids[row] for _, row in sorted(ranked)[:n]])
        found.append(of_query)
    return found


def names(found: Neighbours) -> list[list[list[str]]]:
    return [[[found.ids[row] for row in head if row >= 0] for head in query] for query in found.rows.tolist()]


@pytest.mark.parametrize("space", ["heads", "standard", "joined", "split"])
@pytest.mark.parametrize("center", [False, True])
def test_the_nearest_are_those_of_the_slow_search(make: Make, space: str, center: bool) -> None:
    store, stored, queries = make(), keys(0, 40), keys(1, 7, "q")
    store.add(stored.take(range(25)), FIELDS[:25])
    store.add(stored.take(range(25, 40)), FIELDS[25:])
    found = store.nearest(queries, 6, space=space, center=center)
    assert names(found) == slow_nearest(stored, queries, 6, space, center=center)
    heads = {"standard": 1, "joined": 1}.get(space, HEADS)
    assert found.rows.shape == found.similarity.shape == (7, heads, 6)
    assert (np.diff(found.similarity) <= 1e-6).all()


def test_the_similarity_is_the_cosine(make: Make) -> None:
    store, stored = make(), keys(0, 10)
    store.add(stored)
    found = store.nearest(stored, 1)
    np.testing.assert_allclose(found.similarity, 1, rtol=1e-5)
    assert names(found) == [[[name]] * HEADS for name in stored.ids]


@pytest.mark.parametrize("center", [False, True])
def test_a_filter_passes_over_items_before_the_search(make: Make, center: bool) -> None:
    store, stored, queries = make(), keys(2, 40), keys(3, 5, "q")
    store.add(stored, FIELDS)
    found = store.nearest(queries, 8, where="split = 'val' AND n > 3", center=center)
    allowed = [of["split"] == "val" and of["n"] > 3 for of in FIELDS]
    assert names(found) == slow_nearest(stored, queries, 8, center=center, allowed=allowed)
    assert {len(head) for query in names(store.nearest(queries, 9, where="n < 4")) for head in query} == {4}


def test_what_is_added_and_deleted_is_as_if_built_at_once(make: Make) -> None:
    store, stored, queries = make(), keys(4, 40), keys(5, 5, "q")
    store.add(stored.take(range(30)), FIELDS[:30])
    store.spaces()
    store.delete([f"d{n}" for n in range(0, 30, 4)])
    store.add(stored.take(range(30, 40)), FIELDS[30:])
    kept = stored.take([n for n in range(40) if n % 4 or n >= 30])
    assert list(store.ids) == list(kept.ids)
    for center in (False, True):
        assert names(store.nearest(queries, 5, center=center)) == slow_nearest(kept, queries, 5, center=center)
    for space in ("heads", "standard"):
        wanted = in_space(space, kept.heads.astype(float), kept.standard.astype(float))
        np.testing.assert_allclose(store.spaces(space).mean, wanted.mean(0), rtol=1e-5, atol=1e-6)
    assert [of["n"] for of in store.fields(["d39", "d1"])] == [39, 1]
    back = store.keys(["d39", "d1"])
    np.testing.assert_allclose(back.heads, stored.take([39, 1]).heads, rtol=1e-6)
    np.testing.assert_allclose(store.keys().standard, kept.standard, rtol=1e-6)


def test_sums_of_centred_keys_are_those_of_keys_less_their_mean(make: Make) -> None:
    store, stored = make(), keys(6, 20)
    store.add(stored)
    raw, centred = store.spaces(), store.spaces(center=True)
    moved = stored.heads.astype(float) - stored.heads.astype(float).mean(0)
    np.testing.assert_allclose(raw.norms, np.linalg.norm(stored.heads.astype(float), axis=2).sum(0), rtol=1e-6)
    np.testing.assert_allclose(centred.norms, np.linalg.norm(moved, axis=2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(centred.keys, 0, atol=1e-3)


def test_fewer_items_than_asked_for(make: Make) -> None:
    store = make()
    store.add(keys(7, 3))
    found = store.nearest(keys(8, 2, "q"), 20)
    assert {len(head) for query in names(found) for head in query} == {3}


def test_an_empty_store_finds_nothing(make: Make) -> None:
    store = make()
    assert (store.keys().ids, store.keys().heads.shape, store.keys([]).standard.shape) == (
        *((), (0, HEADS, DIM)),
        (0, WIDTH),
    )
    assert not [row for row in store.nearest(keys(0, 1), 3).rows.ravel() if row >= 0]
    store.add(keys(0, 3))
    store.delete(store.ids)
    assert list(store.ids) == []
    assert not [row for row in store.nearest(keys(0, 1), 3).rows.ravel() if row >= 0]
    assert store.spaces().count == 0


def test_what_does_not_fit_is_refused_and_changes_nothing(make: Make) -> None:
    store = make()
    store.add(keys(0, 4), FIELDS[:4])
    with pytest.raises(DataError, match="the index has an item 'd3' already; delete it first"):
        store.add(Keys(("new", "d3"), keys(1, 2).heads, keys(1, 2).standard))
    with pytest.raises(DataError, match="same id"):
        store.add(Keys(("new", "new"), keys(1, 2).heads, keys(1, 2).standard))
    with pytest.raises(DataError, match=r"the index has no item 'gone' \(1 of 2 are not there\)"):
        store.delete(["d0", "gone"])
    with pytest.raises(ShapeError, match=f"keys of {HEADS} heads x {DIM}, got shape"):
        store.add(Keys(("new",), np.ones((1, HEADS + 1, DIM)), np.ones((1, WIDTH))))
    with pytest.raises(ShapeError, match=f"standard keys of width {WIDTH}"):
        store.add(Keys(("new",), np.ones((1, HEADS, DIM)), np.ones((1, WIDTH + 1))))
    with pytest.raises(ShapeError, match=f"keys of {HEADS} heads x {DIM}, got shape"):
        store.nearest(Keys(("q",), np.ones((1, HEADS, DIM + 1)), np.ones((1, WIDTH))), 1)
    with pytest.raises(OptionError, match="space to be one of"):
        store.nearest(keys(1, 1), 1, space="tails")
    with pytest.raises(OptionError, match="n to be a positive integer, got 0"):
        store.nearest(keys(1, 1), 0)
    with pytest.raises(OptionError, match="where names 'spilt', which no item has; did you mean split"):
        store.nearest(keys(1, 1), 1, where="spilt = 'val'")
    assert list(store.ids) == ["d0", "d1", "d2", "d3"]


def test_a_value_that_is_no_number_is_none_at_all(make: Make) -> None:
    store = make()
    store.add(keys(0, 3), [{"year": 1990.0}, {"year": float("nan")}, {"year": 2001.0}])

    def found(where: str) -> list[str]:
        nearest = store.nearest(keys(1, 1), 3, where=where)
        return sorted(nearest.ids[row] for row in nearest.rows[0, 0] if row >= 0)

    assert found("year > 1980") == ["d0", "d2"]
    assert found("year is null") == ["d1"]
    assert store.fields(["d1"]) == [{"year": None}]


def test_what_is_read_steadily_fits_together_whoever_deletes_meanwhile(make: Make) -> None:
    store = make()
    store.add(keys(0, 8), [{"n": n} for n in range(8)])
    before = store.spaces().importance()
    with store.steady():
        found = store.nearest(keys(1, 1), 3)
        names = [found.ids[row] for row in found.rows[0, 0]]
        other = Thread(target=store.delete, args=(names,)) if isinstance(store, ArrayStore) else None
        if other is not None:  # in LanceDB, threads take turns, and processes do not
            other.start()
            other.join()
        else:
            LanceStore.open(store._folder).delete(names)
        assert [of["n"] for of in store.fields(names)] == [int(name[1:]) for name in names]
        assert len(store.ids) == len(store.keys()) == 8
        np.testing.assert_allclose(store.spaces().importance(), before)
    assert len(store.ids) == 5
    assert not set(names) & {store.nearest(keys(1, 1), 3).ids[row] for row in store.nearest(keys(1, 1), 3).rows[0, 0]}


def test_items_get_other_fields_and_keep_their_keys(make: Make) -> None:
    store, stored, queries = make(), keys(9, 12), keys(10, 4, "q")
    store.add(stored.take(range(7)), FIELDS[:7])
    store.add(stored.take(range(7, 12)), FIELDS[7:12])
    before, importance = store.keys(stored.ids), store.spaces().importance()
    store.describe(["d8", "d2"], [{"n": 88.5, "shelf": "top"}, {"n": 22, "split": True}])
    assert store.fields(["d2", "d8", "d3"]) == [{"n": 22, "split": True}, {"n": 88.5, "shelf": "top"}, FIELDS[3]]
    assert sorted(store.ids) == sorted(stored.ids)
    np.testing.assert_array_equal(store.keys(stored.ids).heads, before.heads)
    np.testing.assert_array_equal(store.keys(stored.ids).standard, before.standard)
    np.testing.assert_allclose(store.spaces().importance(), importance, rtol=1e-6)
    assert names(store.nearest(queries, 5)) == slow_nearest(stored, queries, 5)
    allowed = [n in (2, 8) or n > 10 for n in range(12)]
    assert names(store.nearest(queries, 5, where="n > 10")) == slow_nearest(stored, queries, 3, allowed=allowed)
    store.describe([], [])
    assert len(store.ids) == 12


def test_fields_that_cannot_be_stored_leave_everything_as_it_was(make: Make) -> None:
    store, stored = make(), keys(11, 6)
    store.add(stored, FIELDS[:6])
    for ids, fields, said in [
        (["d1", "gone"], [{}, {}], r"has no item 'gone' \(1 of 2"),
        (["d1", "d1"], [{}, {}], "same id"),
        (["d1", "d2"], [{}], "2 items came with the fields of 1"),
    ]:
        with pytest.raises(DataError, match=said):
            store.describe(ids, fields)
    if isinstance(store, LanceStore):
        with pytest.raises(DataError, match="the field 'n' holds a number that is too large for LanceDB"):
            store.describe(["d1", "d2"], [{"n": 1}, {"n": 10**400}])
    elif store._folder.path is not None:
        (store._folder.path / "keys-000002.safetensors").mkdir()  # where the next file goes
        with pytest.raises(OutputError, match=r"keys-000002.safetensors is a folder"):
            store.describe(["d1", "d2"], [{"n": 1}, {"n": 2}])
    assert list(store.ids) == list(stored.ids)
    assert store.fields(store.ids) == FIELDS[:6]
    np.testing.assert_allclose(store.keys().heads, stored.heads, rtol=1e-6)
