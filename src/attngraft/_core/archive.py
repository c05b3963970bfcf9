"""Checkpoints as archives: what they would unpack to, and what their pickles name, without unpickling anything."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from attngraft._core.errors import CheckpointError

MOST_TIMES = 8
"""PyTorch stores tensors uncompressed, and weights that somebody compressed afterwards shrink by a tenth or two."""
SPARE = 64 << 20
"""Bytes that an archive may unpack to in any case."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, KeyError, IndexError)
"""What reading an archive or the operations of a pickle raises where either is damaged."""
DAMAGED_ARRAYS = (*_DAMAGED, TypeError, AttributeError)
"""What reading a ``.npz`` raises that is empty, cut short, or holds something else than was written."""


def check_unpacked(file: Path) -> None:
    """Refuse an archive that unpacks to far more than its size, before anything reads it.

    Args:
        file: Any file; one that is no archive passes.

    Raises:
        CheckpointError: If it unpacks to more than `MOST_TIMES` its size and `SPARE` bytes.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except _DAMAGED:
        return  # whoever reads it says that it is damaged
    size = file.stat().st_size
    if unpacked > MOST_TIMES * size + SPARE:
        raise CheckpointError(
            f"{file} has {size:,} bytes and would unpack to {unpacked:,}, which no checkpoint does; it is not opened, "
            "since it could fill the memory"
        )


def is_torchscript(file: Path) -> bool:
    """Tell whether a file is an archive of ``torch.jit.save``, which holds a program."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
    except _DAMAGED:
        return False


def strings(file: Path, beginning: str = "") -> Iterator[str]:
    """Yield the strings in the pickles of an archive of ``torch.save``, in order.

    Args:
        file: A file of ``torch.save``.
        beginning: What they begin with; pickles without it are passed over quickly.
    """
    for _, value in _operations(file, beginning.encode()):
        if isinstance(value, str) and value.startswith(beginning):
            yield value


def number_after(file: Path, key: str) -> int | None:
    """Return the integer that a checkpoint's dictionary has under a key, the first in its pickle.

    Args:
        file: A file of ``torch.save``.
        key: The key, such as ``"epoch"``.

    Returns:
        The integer; None where the key is not there or has another value.
    """
    found = False
    for name, value in _operations(file):
        if found and "MEMO" not in name and "PUT" not in name:
            return value if isinstance(value, int) else None
        found = found or value == key
    return None


def _operations(file: Path, having: bytes = b"") -> Iterator[tuple[str, object]]:
    """Yield name and argument of each operation in a checkpoint's pickles, of those that have some bytes.

    Raises:
        CheckpointError: If the file is no archive, damaged, or unpacks to far more than its size.
    """
    check_unpacked(file)
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl") and having in (content := archive.read(name)):
                    for code, argument, _ in pickletools.genops(content):
                        yield code.name, argument
    except _DAMAGED as error:
        raise CheckpointError(f"{file} is not a checkpoint, or a damaged one; copy or train it again") from error
