from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from attngraft._core.errors import DataError, OutputError
from attngraft.retrieve.stores.segments import Segment, merged, read_segment


def segment(count: int = 4, dtype: str = "float16") -> Segment:
    rng = np.random.default_rng(count)
    heads, standard = rng.normal(size=(count, 2, 3)).astype(dtype), rng.normal(size=(count, 5)).astype(dtype)
    return Segment([f"é{n}" for n in range(count)], [{"n": n, "half": "\ud800"} for n in range(count)], heads, standard)


def test_a_file_is_mapped_and_gives_what_was_written(tmp_path: Path) -> None:
    wanted = segment()
    found = wanted.write(tmp_path / "keys.safetensors")
    assert isinstance(found.heads, np.memmap)
    assert (found.ids, found.fields) == (wanted.ids, wanted.fields)
    assert np.array_equal(found.heads, wanted.heads)
    assert np.array_equal(found.standard, wanted.standard)
    assert np.array_equal(load_file(tmp_path / "keys.safetensors")["heads"], wanted.heads)  # anybody can read it


def test_no_standard_keys(tmp_path: Path) -> None:
    bare = Segment(["a"], [{}], np.ones((1, 2, 3), np.float32), np.ones((1, 0), np.float32))
    assert bare.write(tmp_path / "keys.safetensors").standard.shape == (1, 0)


def test_merged_segments_leave_out_what_is_deleted() -> None:
    one, two = segment(4), segment(3)
    one.alive[[0, 2]] = False
    both = merged([one, two])
    assert both.ids == ["é1", "é3", "é0", "é1", "é2"]
    assert np.array_equal(both.heads, np.concatenate([one.heads[[1, 3]], two.heads]))
    assert both.alive.all()


@pytest.mark.parametrize("cut", [3, 40, -1, -200])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "keys.safetensors"
    segment().write(file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match="keys.safetensors is not a file of keys, or a damaged one"):
        read_segment(file)


def header(entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def test_files_of_others_are_refused_and_run_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys.safetensors"
    entry = {"dtype": "F32", "shape": [1, 1, 1], "data_offsets": [0, 4]}
    wrong = [
        b"",
        b"PK\x03\x04 an archive",
        struct.pack("<Q", 1 << 60) + b"{}",
        header([]),
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        header({"heads": {**entry, "shape": [float("inf"), 1, 1]}, "standard": entry, "items": entry}),
        header({"heads": entry}) + b"1234",
        header({"heads": {**entry, "shape": [1 << 40, 1 << 40, 1]}, "standard": entry, "items": entry}),
        header({"heads": {**entry, "data_offsets": [-4, 0]}, "standard": entry, "items": entry}) + b"1234",
        header({"heads": {**entry, "dtype": "I64"}, "standard": entry, "items": entry}) + b"1234",
    ]
    for content in wrong:
        file.write_bytes(content)
        with pytest.raises(DataError, match="is not a file of keys"):
            read_segment(file)
    tensors = {"heads": np.ones((2, 1, 1), np.float32), "standard": np.ones((1, 1), np.float32)}
    save_file({**tensors, "items": np.frombuffer(b"no zlib", np.uint8)}, file)
    with pytest.raises(DataError, match="is not a file of keys"):
        read_segment(file)
    heads, deep = np.ones((1, 1, 1), np.float32), np.frombuffer(zlib.compress(b"[" * 100_000), np.uint8)
    save_file({"heads": heads, "standard": np.ones((1, 1), np.float32), "items": deep}, file)
    with pytest.raises(DataError, match="its brackets are nested too deep"):
        read_segment(file)
    with pytest.raises(DataError, match="No such file"):
        read_segment(tmp_path / "none")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        segment().write(tmp_path)
