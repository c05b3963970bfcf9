"""Files of keys: safetensors mapped into memory, the items beside their keys; nothing in them is ever run."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError
from attngraft._core.extras import extra_package
from attngraft._core.files import write_whole
from attngraft._core.json_text import parse_json
from attngraft.retrieve.items import Value

Fields = Mapping[str, Value]
DTYPES = ("float32", "float16")
NUMPY: Mapping[str, Any] = {"F16": np.float16, "F32": np.float32, "U8": np.uint8}
LONGEST = 1 << 20
"""Bytes of a header at most; ours have about 300."""
LARGEST = 1 << 32
"""Bytes that the items of one file unpack to at most."""


class Segment:
    """Some items with their keys, which never change; a mask leaves out those that are deleted.

    Attributes:
        ids: Names of the items.
        fields: Their fields.
        heads: Their keys, ``(items, heads, dim)``.
        standard: Their standard keys, ``(items, width)``.
        alive: Which are not deleted.
        file: Where they are stored; None in memory alone.
    """

    def __init__(
        self,
        ids: Sequence[str],
        fields: Sequence[Fields],
        heads: NDArray[Any],
        standard: NDArray[Any],
        file: Path | None = None,
    ) -> None:
        self.ids, self.fields, self.heads, self.standard, self.file = list(ids), list(fields), heads, standard, file
        self.alive = np.ones(len(self.ids), bool)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def rows(self) -> NDArray[np.intp]:
        """Return the rows that are not deleted."""
        return np.flatnonzero(self.alive)

    def write(self, file: Path) -> Segment:
        """Write everything to a file, in one step, and return it as it is mapped from there.

        Raises:
            OutputError: If it cannot be written.
            MissingExtraError: If safetensors is not installed.
        """
        safetensors = extra_package("safetensors.numpy", "retrieve")
        items = [[name, dict(of)] for name, of in zip(self.ids, self.fields, strict=True)]
        packed = zlib.compress(json.dumps(items, separators=(",", ":")).encode())
        tensors = {
            "heads": np.ascontiguousarray(self.heads),
            "standard": np.ascontiguousarray(self.standard),
            "items": np.frombuffer(packed, np.uint8),
        }
        write_whole(file, lambda partial: safetensors.save_file(tensors, partial))
        return read_segment(file)


def merged(segments: Sequence[Segment]) -> Segment:
    """Return segments as one in memory, without what is deleted."""
    rows = [segment.rows for segment in segments]
    pairs = list(zip(segments, rows, strict=True))
    return Segment(
        [segment.ids[row] for segment, kept in pairs for row in kept],
        [segment.fields[row] for segment, kept in pairs for row in kept],
        np.concatenate([segment.heads[kept] for segment, kept in pairs]),
        np.concatenate([segment.standard[kept] for segment, kept in pairs]),
    )


def read_segment(file: Path) -> Segment:
    """Map a file of keys.

    Raises:
        DataError: If it is missing or damaged, or holds something else.
    """
    try:
        arrays = _mapped(file)
        items = parse_json(_unpacked(arrays["items"].tobytes()))
        ids, fields = [str(name) for name, _ in items], [dict(of) for _, of in items]
        heads, standard = arrays["heads"], arrays["standard"]
        if heads.ndim != 3 or standard.ndim != 2 or not len(heads) == len(standard) == len(ids):
            raise ValueError("its arrays do not fit each other")
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{file} is not a file of keys, or a damaged one ({reason}); build the index again") from error
    return Segment(ids, fields, heads, standard, file)


def _mapped(file: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file without reading them."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= min(LONGEST, size - 8):
            raise ValueError("its header has no sensible length")
        header = parse_json(opened.read(length))
    return {name: _array(file, entry, 8 + length, size) for name, entry in header.items() if name != "__metadata__"}


def _array(file: Path, entry: Mapping[str, Any], start: int, size: int) -> NDArray[Any]:
    dtype, shape = np.dtype(NUMPY[entry["dtype"]]).newbyteorder("<"), tuple(int(side) for side in entry["shape"])
    begin, end = (start + int(offset) for offset in entry["data_offsets"])
    count = int(np.prod(shape, dtype=object))
    if min(shape, default=0) < 0 or not start <= begin <= end <= size or end - begin != count * dtype.itemsize:
        raise ValueError("it is cut short")
    return np.memmap(file, dtype, "r", begin, shape) if count else np.zeros(shape, dtype)


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    found = unpacking.decompress(packed, LARGEST)
    if not unpacking.eof:
        raise ValueError("its items are cut short, or too many")
    return found
