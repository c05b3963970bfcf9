"""What LanceDB adds to what every store promises: files, ties, indexes, filters in SQL, and other processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attngraft._core.errors import DataError, MissingExtraError, OptionError, OutputError
from attngraft.retrieve.index import Index
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.stores.arrays import ArrayStore
from attngraft.retrieve.stores.lance import LanceStore
from tests.retrieve.stores.conftest import DIM, HEADS, WIDTH, keys
from tests.retrieve.stores.test_base import names
from tests.retrieve.toy import Letters

pytest.importorskip("lancedb", reason="needs lancedb: pip install 'attngraft[retrieve-db]'")


def same(one: LanceStore, other: ArrayStore, queries: Keys, n: int, **options: object) -> None:
    found, expected = one.nearest(queries, n, **options), other.nearest(queries, n, **options)  # type: ignore[arg-type]
    assert names(found) == names(expected)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=2e-6)


def test_what_was_written_is_there_when_opened(tmp_path: Path) -> None:
    store = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path / "a")
    store.add(keys(0, 30), [{"n": n} for n in range(30)])
    before, centred = store.spaces(), store.spaces("standard", center=True)
    opened = LanceStore.open(tmp_path / "a")
    assert (opened.heads, opened.dim, opened.width, opened.dtype) == (HEADS, DIM, WIDTH, "float32")
    assert list(opened.ids) == list(store.ids)
    assert opened.fields(["d7"]) == [{"n": 7}]
    np.testing.assert_array_equal(opened.spaces().units, before.units)
    np.testing.assert_array_equal(opened.spaces("standard", center=True).norms, centred.norms)
    with pytest.raises(OutputError, match="holds an index already"):
        LanceStore(HEADS, DIM, WIDTH, folder=tmp_path / "a")
    with pytest.raises(DataError, match="holds no index in LanceDB"):
        LanceStore.open(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_sums_of_another_version_or_a_broken_file_are_computed_again(tmp_path: Path) -> None:
    store, other = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path), ArrayStore(HEADS, DIM, WIDTH)
    store.add(keys(0, 20))
    store.spaces()
    second = LanceStore.open(tmp_path)
    second.add(keys(1, 10, "e"))
    other.add(keys(0, 20))
    other.add(keys(1, 10, "e"))
    np.testing.assert_allclose(store.spaces().units, other.spaces().units, rtol=1e-5, atol=1e-6)
    kept = (tmp_path / "sums.npz").read_bytes()
    changed = bytearray(kept)
    changed[100:400] = bytes(300)
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for broken in (b"", b"cut short", kept[: len(kept) // 2], kept[:30], bytes(changed), array.getvalue()):
        (tmp_path / "sums.npz").write_bytes(broken)
        np.testing.assert_allclose(LanceStore.open(tmp_path).spaces().keys, other.spaces().keys, rtol=1e-4, atol=1e-5)
    second.delete(["d3"])
    other.delete(["d3"])
    same(store, other, keys(2, 3, "q"), 6)


def test_what_cannot_be_written_is_searched_all_the_same(tmp_path: Path) -> None:
    store, other = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path), ArrayStore(HEADS, DIM, WIDTH)
    for one in (store, other):
        one.add(keys(0, 20))
    (tmp_path / "sums.npz").unlink(missing_ok=True)
    (tmp_path / "sums.npz").mkdir()  # as in a folder that is only read, which binds no superuser
    np.testing.assert_allclose(LanceStore.open(tmp_path).spaces().units, other.spaces().units, rtol=1e-5, atol=1e-6)
    same(LanceStore.open(tmp_path), other, keys(2, 3, "q"), 6)


def test_ties_at_the_cut_go_to_the_item_added_first(tmp_path: Path) -> None:
    store, other, one = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path), ArrayStore(HEADS, DIM, WIDTH), keys(0, 1)
    copies = Keys(tuple(f"c{n}" for n in range(50)), np.repeat(one.heads, 50, 0), np.repeat(one.standard, 50, 0))
    for added in (keys(1, 5), copies):
        store.add(added)
        other.add(added)
    assert names(store.nearest(one, 3)) == [[["c0", "c1", "c2"]] * HEADS]
    same(store, other, one, 7)


def test_keys_and_queries_of_length_zero(tmp_path: Path) -> None:
    store, other = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path), ArrayStore(HEADS, DIM, WIDTH)
    stored = keys(0, 12)
    stored.heads[4, 1] = 0
    stored.heads[:, 2] = 0  # a dead head
    queries = keys(1, 3, "q")
    queries.heads[2] = 0
    for one in (store, other):
        one.add(stored)
    for space in ("heads", "standard", "joined"):
        same(store, other, queries, 12, space=space)
    assert store.spaces().dead() == (2,)


def test_half_precision_takes_half_the_room(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = Keys(tuple(map(str, range(500))), rng.normal(size=(500, 4, 32)), np.zeros((500, 0)))
    sizes = {}
    for dtype in ("float32", "float16"):
        store = LanceStore(4, 32, 0, folder=tmp_path / dtype, dtype=dtype)
        store.add(wide)
        assert LanceStore.open(tmp_path / dtype).dtype == dtype
        np.testing.assert_allclose(store.keys().heads, wide.heads, atol=1e-6 if dtype == "float32" else 5e-3)
        found = names(store.nearest(wide.take(range(90, 120)), 1))
        assert found == [[[name]] * 4 for name in wide.ids[90:120]]
        sizes[dtype] = sum(file.stat().st_size for file in (tmp_path / dtype).rglob("*.lance"))
    assert sizes["float16"] < 0.62 * sizes["float32"]
    with pytest.raises(OptionError, match="keeps no standard keys"):
        store.nearest(wide, 1, space="standard")


def test_an_index_finds_nearly_the_same_and_all_of_it_when_told_to(tmp_path: Path) -> None:
    store, other = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path), ArrayStore(HEADS, DIM, WIDTH)
    for one in (store, other):
        one.add(keys(0, 600))
    store.index(partitions=16)
    for one in (store, other):
        one.add(keys(1, 20, "late"))  # beside the index
    queries = keys(2, 4, "q")
    store.probes = 16
    same(store, other, queries, 10)
    store.probes = 2
    near, exact = names(store.nearest(queries, 10)), names(other.nearest(queries, 10))
    kept = [len(set(a) & set(b)) for one, two in zip(near, exact, strict=True) for a, b in zip(one, two, strict=True)]
    assert 0.3 < np.mean(kept) / 10 < 1
    store.probes = None
    same(store, other, queries, 10)
    store.compact()
    same(store, other, queries, 10)


def test_fields_keep_what_they_were_and_compare_by_kind(tmp_path: Path) -> None:
    store, other = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path), ArrayStore(HEADS, DIM, WIDTH)
    fields = [
        {"a.b": "x", "n": 1, "_row": "mine", "id": 3}, {"a.b": 2.5, "n": True, 'odd "name`': "y"},
        {"n": "1", "per cent%:": None}, {}, {"n": 10**15 + 1, "naïve 名": "val's 100%"}, {"a.b": "x_y\\z"},
    ]  # fmt: skip
    for one in (store, other):
        one.add(keys(0, 3), fields[:3])
        one.add(keys(1, 3, "e"), fields[3:])
    assert store.fields(store.ids) == fields
    assert [type(of["n"]) for of in store.fields(store.ids) if "n" in of] == [int, bool, str, int]
    for where in (
        "\"a.b\" = 'x'", '"a.b" > 2', "n = 1", "n = TRUE", "n = '1'", "NOT n = 1", "n IN (1, '1')", "NOT n IN (1, 'x')",
        "n IS NULL", "n IS NOT NULL", "_row = 'mine'", "\"odd \"\"name`\" LIKE '%'", "\"naïve 名\" = 'val''s 100%'",
        "\"a.b\" LIKE 'x\\_y%' OR n < 0", "\"a.b\" LIKE '%\\z'", "n = 1000000000000001", "\"a.b\" NOT LIKE 'x'",
    ):  # fmt: skip
        same(store, other, keys(2, 2, "q"), 6, where=where)
    for where, said in (("m = 1", "no item has"), ("n = ", "expects a value"), ("id = 'x'", "compares id to 'x'")):
        with pytest.raises(OptionError, match=said):
            store.nearest(keys(2, 1), 1, where=where)


values = st.sampled_from([None, 0, 1, -2.5, True, False, "", "a", "b%", "A_", "it's"])
rows = st.lists(st.dictionaries(st.sampled_from(["x", "y"]), values), min_size=6, max_size=6)
texts = st.sampled_from(["'a'", "'b%'", "'it''s'", "''"])
literals = st.one_of(texts, st.sampled_from(["0", "1", "-2.5", "TRUE"]))
compares = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from("xy"), st.sampled_from(["=", "!=", "<", ">="]), literals),
    st.builds("{} {} ({}, {})".format, st.sampled_from("xy"), st.sampled_from(["IN", "NOT IN"]), literals, literals),
    st.builds("{} {} {}".format, st.sampled_from("xy"), st.sampled_from(["LIKE", "NOT LIKE"]), texts),
    st.builds("{} {}".format, st.sampled_from("xy"), st.sampled_from(["IS NULL", "IS NOT NULL"])),
)
wheres = st.recursive(
    compares,
    lambda inner: st.one_of(
        st.builds("NOT ({})".format, inner),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["AND", "OR"]), inner),
    ),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=rows, where=wheres)
def test_filters_mean_what_they_mean_in_arrays(
    tmp_path_factory: pytest.TempPathFactory, fields: list[dict[str, object]], where: str
) -> None:
    store = LanceStore(HEADS, DIM, WIDTH, folder=tmp_path_factory.mktemp("lance"))
    other = ArrayStore(HEADS, DIM, WIDTH)
    for one in (store, other):
        one.add(keys(0, 6), fields)  # type: ignore[arg-type]
    answers: list[object] = []
    for one in (store, other):
        try:
            answers.append(names(one.nearest(keys(1, 1), 6, where=where)))
        except OptionError as error:
            answers.append(set(str(error).split()))  # kinds may stand in another order
    assert answers[0] == answers[1]


def test_a_process_that_is_killed_loses_nothing_that_was_added(tmp_path: Path) -> None:
    program = f"""
from attngraft.retrieve.stores.lance import LanceStore
from tests.retrieve.stores.conftest import *
store = LanceStore(HEADS, DIM, WIDTH, folder={str(tmp_path / "k")!r})
for turn in range(10000):
    store.add(keys(turn, 20, f"t{{turn}}-"))
    print(turn, flush=True)
"""
    command, root = [sys.executable, "-c", program], Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "3":
                break
        time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        told = 3 + len(process.stdout.read().split())
    store = LanceStore.open(tmp_path / "k")
    turns = len(store.ids) / 20
    assert turns in (told + 1, told + 2)  # what was told of is there; a turn is there whole or not at all
    assert list(store.ids[:20]) == [f"t0-{n}" for n in range(20)]
    assert store.spaces().count == len(store.ids)
    store.add(keys(0, 3, "after"))
    assert store.spaces().count == len(store.ids) == 20 * turns + 3


def test_without_lancedb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match=r"attngraft\[retrieve-db\]"):
        LanceStore(HEADS, DIM, WIDTH, folder=tmp_path / "x")


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    import lancedb

    lancedb.connect(tmp_path).create_table("items", [{"vector": [1.0, 2.0], "text": "a"}])
    with pytest.raises(DataError, match="holds no keys of heads"):
        LanceStore.open(tmp_path)


def test_an_index_in_lancedb_is_built_completed_and_searched_like_one_in_arrays(tmp_path: Path) -> None:
    docs = [{"_id": f"d{n}", "text": f"text {n}", "even": n % 2 == 0} for n in range(30)]
    Index.build(docs[:20], model=Letters(), path=tmp_path / "a", store="lance")
    built = Index.build(docs, model=Letters(), path=tmp_path / "a", store="lance")
    assert sorted(built.encoder.encoded) == sorted(one["_id"] for one in docs[20:])  # type: ignore[attr-defined]
    other = Index.build(docs, model=Letters())
    opened = Index.open(tmp_path / "a", model=Letters())
    opened.delete("d3")
    other.delete("d3")
    for options in ({}, {"center": True}, {"where": "even = TRUE"}, {"rule": "rrf", "n": 5}):
        found, expected = (one.search("text 4", **options) for one in (opened, other))  # type: ignore[arg-type]
        assert [(hit.id, hit.fields) for hit in found] == [(hit.id, hit.fields) for hit in expected]
        assert [hit.votes for hit in found] == pytest.approx([hit.votes for hit in expected], rel=1e-5)
    with pytest.raises(OptionError, match="store"):
        Index.build(docs, model=Letters(), path=tmp_path / "a", store="arrays")


def test_a_folder_is_needed() -> None:
    with pytest.raises(OptionError, match="LanceDB keeps keys in a folder; say which with path="):
        LanceStore(HEADS, DIM, WIDTH, folder=None)
