from __future__ import annotations

import json
from pathlib import Path

import pytest

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.stores import folder as folders
from attngraft.retrieve.stores.arrays import ArrayStore
from attngraft.retrieve.stores.folder import Folder, Layout
from tests.retrieve.stores.conftest import DIM, HEADS, WIDTH, keys


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_many_small_files_become_few_and_keep_their_order(tmp_path: Path) -> None:
    store, stored = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path), keys(0, 60)
    most = 0
    for row in range(60):
        store.add(stored.take([row]))
        most = max(most, len(files(tmp_path)))
    assert most <= folders.SEGMENTS + 10
    assert list(ArrayStore.open(tmp_path).ids) == list(stored.ids)
    store.compact()
    assert len(files(tmp_path)) == 2
    assert (store.keys().heads == stored.heads).all()


def test_what_is_deleted_leaves_the_disk_when_it_is_more_than_half(tmp_path: Path) -> None:
    store = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path)
    store.add(keys(0, 100))
    before = sum(path.stat().st_size for path in tmp_path.iterdir())
    store.delete([f"d{n}" for n in range(60)])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 0.6 * before
    store.delete(store.ids)
    assert files(tmp_path) == ["manifest.json"]


def test_two_stores_of_one_folder_add_to_what_the_other_left(tmp_path: Path) -> None:
    one = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path)
    other = ArrayStore.open(tmp_path)
    one.add(keys(0, 5))
    other.add(keys(1, 3, "e"))
    assert list(other.ids) == [f"d{n}" for n in range(5)] + ["e0", "e1", "e2"]
    with pytest.raises(DataError, match="has an item 'e1' already"):
        one.add(keys(2, 2, "e").take([1]))
    assert list(one.ids) == list(other.ids)
    one.delete(["d0", "e2"])
    other.delete(["d1"])
    assert list(other.ids) == list(ArrayStore.open(tmp_path).ids) == ["d2", "d3", "d4", "e0", "e1"]
    assert other.spaces().count == 5


def test_a_file_that_no_manifest_names_is_overwritten(tmp_path: Path) -> None:
    """That is what a process leaves that is killed between the two."""
    store = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path)
    store.add(keys(0, 5))
    manifest = (tmp_path / "manifest.json").read_text()
    store.add(keys(1, 5, "e"))
    (tmp_path / "manifest.json").write_text(manifest)
    store = ArrayStore.open(tmp_path)
    assert len(store.ids) == 5
    store.add(keys(2, 5, "f"))
    assert list(ArrayStore.open(tmp_path).ids)[5:] == [f"f{n}" for n in range(5)]
    assert len(files(tmp_path)) == 3


def test_a_failure_within_a_change_leaves_everything_as_it_was(tmp_path: Path) -> None:
    store = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path)
    store.add(keys(0, 5))
    folder = Folder(tmp_path)

    def fail() -> None:
        with folder.changing():
            folder.segments[0].alive[:] = False
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert folder.segments[0].alive.all()
    assert len(ArrayStore.open(tmp_path).ids) == 5


def test_a_merge_that_fails_costs_no_file_at_the_next_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, stored = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path), keys(0, 6)
    for first in (0, 2, 4):
        store.add(stored.take([first, first + 1]))

    def full(_: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(folders, "merged", full)
        with pytest.raises(OutputError, match="the disk is full"):
            store.compact()
    store.add(keys(1, 1, "e"))
    found = ArrayStore.open(tmp_path)
    assert list(found.ids) == [*stored.ids, "e0"]
    assert (found.keys(stored.ids).heads == stored.heads).all()


def test_a_reader_that_opens_while_a_writer_merges_takes_what_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, stored = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path), keys(0, 6)
    for first in (0, 2):
        writer.add(stored.take([first, first + 1]))
    read, waiting = (
        folders._read_manifest,
        [writer.compact, lambda: (writer.add(stored.take([4, 5])), writer.compact())],
    )

    def overtaken(folder: Path) -> object:
        found = read(folder)
        if waiting:
            change = waiting.pop(0)
            with monkeypatch.context() as patch:
                patch.setattr(folders, "_read_manifest", read)
                change()
        return found

    monkeypatch.setattr(folders, "_read_manifest", overtaken)
    found = ArrayStore.open(tmp_path)
    assert waiting == []
    assert list(found.ids) == list(stored.ids)
    assert (found.keys().heads == stored.heads).all()
    (tmp_path / files(tmp_path)[0]).unlink()
    with pytest.raises(DataError, match=r"keys-\d+.safetensors is not a file of keys, or a damaged one"):
        ArrayStore.open(tmp_path)


def test_folders_that_hold_no_index_or_one_already(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no index \(manifest.json: No such file"):
        ArrayStore.open(tmp_path)
    ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path).add(keys(0, 2))
    with pytest.raises(OutputError, match="holds an index already"):
        ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path)
    file = tmp_path / "manifest.json"
    whole = json.loads(file.read_text())
    for wrong, said in [
        ("{", "is damaged"),
        ("[]", "has the schema None"),
        ("[" * 100_000, r"manifest.json is damaged \(its brackets are nested too deep\)"),
        *(
            (json.dumps({**whole, "revision": one}), f"is damaged .revision is {one!r} and no number from 0")
            for one in ("3", "abc", 1.5, -1, True, None)
        ),
        (json.dumps({**whole, "last": "1"}), "is damaged .last is '1' and no number from 0"),
        (json.dumps({**whole, "segments": [{"file": "keys-000001.safetensors", "deleted": ["a"]}]}), "is damaged"),
        (
            json.dumps({**whole, "schema": "attngraft.retrieve.arrays/9"}),
            "has the schema 'attngraft.retrieve.arrays/9'",
        ),
        (json.dumps({**whole, "layout": {}}), "is damaged"),
        (json.dumps({**whole, "layout": {**whole["layout"], "dim": 4}}), "holds keys of another index"),
        (json.dumps({**whole, "segments": [{"file": "keys-000001.safetensors", "deleted": [9]}]}), "is damaged"),
        (
            json.dumps({**whole, "segments": [{"file": "../secret", "deleted": []}]}),
            r"my.index.?/secret|/secret is not",
        ),
    ]:
        file.write_text(wrong)
        with pytest.raises(DataError, match=said):
            ArrayStore.open(tmp_path)


def test_an_index_that_cannot_be_locked_is_not_changed(tmp_path: Path) -> None:
    store = ArrayStore(HEADS, DIM, WIDTH, folder=tmp_path)
    store.add(keys(0, 2))
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()  # as in a folder that is only read, which binds no superuser
    with pytest.raises(OutputError, match=r"cannot write .* \(.+\); an index is changed where it can be written"):
        store.delete(["d0"])
    assert ArrayStore.open(tmp_path).ids == ["d0", "d1"]


def test_a_layout_that_cannot_be() -> None:
    with pytest.raises(OptionError, match="heads to be a positive integer, got 0"):
        Layout(0, 1, 1)
    with pytest.raises(OptionError, match="width to be an integer of 0 or more, got -1"):
        Layout(1, 1, -1)
    with pytest.raises(OptionError, match="dtype to be one of 'float32', 'float16', got 'int8'"):
        Layout(1, 1, 1, "int8")


def test_keys_without_standard_keys(tmp_path: Path) -> None:
    store = ArrayStore(HEADS, DIM, 0, folder=tmp_path)
    store.add(keys(0, 4))
    assert store.keys().standard.shape == (4, 0)
    assert store.nearest(keys(1, 2), 2).rows.shape == (2, HEADS, 2)
    with pytest.raises(OptionError, match="keeps no standard keys, which split needs; build it with standard=True"):
        store.nearest(keys(1, 2), 2, space="split")
    with pytest.raises(DataError, match="4 items came with the fields of 1"):
        store.add(Keys(tuple("wxyz"), keys(0, 4).heads, keys(0, 4).standard), [{}])
