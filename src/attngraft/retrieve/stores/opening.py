"""Stores by the word that an index knows them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attngraft._core.checks import one_of
from attngraft._core.errors import OptionError
from attngraft.retrieve.stores.base import Store


def _arrays() -> Any:
    from attngraft.retrieve.stores.arrays import ArrayStore

    return ArrayStore


def _lance() -> Any:
    from attngraft.retrieve.stores.lance import LanceStore

    return LanceStore


KINDS: Mapping[str, Callable[[], Any]] = {"arrays": _arrays, "lance": _lance}
"""What imports the class of each: it takes heads, dim, width, dtype= and folder=, and has ``open(folder)``."""


def create(kind: str, folder: Path | None, *, heads: int, dim: int, width: int, dtype: str) -> Store:
    """Make an empty store.

    Args:
        kind: A key of `KINDS`.
        folder: Where to; None keeps everything in memory.
        heads: Number of heads.
        dim: Width of a head's key.
        width: Width of the standard key; 0 keeps none.
        dtype: How numbers are stored.

    Raises:
        OptionError: If there is no such store, or an option that it does not take.
        OutputError: If the folder cannot be written.
    """
    one_of("the index", "store", kind, tuple(KINDS))
    if kind == "lance" and folder is None:
        raise OptionError("store='lance' keeps keys in files; say where with path=, or use store='arrays'")
    return KINDS[kind]()(heads, dim, width, dtype=dtype, folder=folder)


def open_store(kind: str, folder: Path) -> Store:
    """Open a store.

    Raises:
        OptionError: If there is no such store.
        DataError: If the folder holds none, or a damaged one.
    """
    one_of("the index", "store", kind, tuple(KINDS))
    return KINDS[kind]().open(folder)
