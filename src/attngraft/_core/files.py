"""Files that are there whole or not at all, whatever kills the process that writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def write_text(file: Path, text: str) -> None:
    """Write a text file in one step.

    Args:
        file: Where to; replaced if it exists.
        text: What to write.
    """
    write_whole(file, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file in one step; the arguments are those of `write_text`."""
    write_whole(file, lambda partial: partial.write_bytes(content))


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside the one that is wanted, and put it in its place when it is safe on the disk.

    Args:
        file: Where to; its folder is made.
        write: Fills the path that it is given.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{os.getpid()}.{file.name}")
    try:
        write(partial)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def numbered(path: Path) -> Iterator[Path]:
    """Yield ``path``, ``path-2``, ``path-3``, ... up to 9999: what is there already is left alone."""
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))


def free_path(path: Path) -> Path:
    """Return the first of the `numbered` paths that does not exist."""
    return next(candidate for candidate in numbered(path) if not candidate.exists())
