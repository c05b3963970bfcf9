"""The exact store: every search looks at all keys, which lie in files that are mapped into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.checks import positive
from attngraft._core.errors import DataError
from attngraft.retrieve.items import Value
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.rank import Neighbours
from attngraft.retrieve.spaces import HeadSpaces, unit
from attngraft.retrieve.stores.base import Space, in_space, require_described, require_fields, require_fit
from attngraft.retrieve.stores.folder import Folder, Layout
from attngraft.retrieve.stores.nearest import Nearest
from attngraft.retrieve.stores.segments import Segment
from attngraft.retrieve.stores.view import View

_STEADY: ContextVar[tuple[object, View] | None] = ContextVar("_STEADY", default=None)
"""The store that this thread reads steadily, and the items as it began."""


class ArrayStore:
    """Keys in arrays, in a folder or in memory alone.

    Args:
        heads: Number of heads.
        dim: Width of a head's key.
        width: Width of the standard key; 0 keeps none.
        dtype: How numbers are stored, "float32" or "float16".
        folder: Where to; None keeps everything in memory.

    Raises:
        OptionError: If a number is not positive, or there is no such type.
        OutputError: If the folder holds an index already, or cannot be written.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> keys = Keys(("a", "b"), rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 4)))
        >>> store = ArrayStore(heads=2, dim=3, width=4)
        >>> store.add(keys, [{"split": "val"}, {"split": "train"}])
        >>> store.nearest(keys, 1).rows.tolist(), store.nearest(keys, 1, where="split = 'val'").rows.tolist()
        ([[[0], [0]], [[1], [1]]], [[[0], [0]], [[0], [0]]])
    """

    def __init__(
        self, heads: int, dim: int, width: int, *, dtype: str = "float32", folder: Path | str | None = None
    ) -> None:
        self._folder = Folder(None if folder is None else Path(folder), Layout(heads, dim, width, dtype))
        self._view = View(self._folder)

    @classmethod
    def open(cls, folder: Path | str) -> ArrayStore:
        """Open what a folder holds.

        Raises:
            DataError: If it holds no index, or a damaged one.
        """
        store = cls.__new__(cls)
        store._folder = Folder(Path(folder))
        store._view = View(store._folder)
        return store

    @property
    def heads(self) -> int:
        """Return the number of heads."""
        return self._folder.layout.heads

    @property
    def dim(self) -> int:
        """Return the width of a head's key."""
        return self._folder.layout.dim

    @property
    def width(self) -> int:
        """Return the width of the standard key; 0 where it is not kept."""
        return self._folder.layout.width

    @property
    def dtype(self) -> str:
        """Return how numbers are stored."""
        return self._folder.layout.dtype

    @property
    def ids(self) -> Sequence[str]:
        """Return the ids of all items, in the order in which they were added."""
        return self._seen.ids

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Read the items as they are now, whoever changes them meanwhile; see `Store.steady`."""
        before = _STEADY.set((self, self._seen))
        try:
            yield
        finally:
            _STEADY.reset(before)

    @property
    def _seen(self) -> View:
        held = _STEADY.get()
        return held[1] if held is not None and held[0] is self else self._view

    def add(self, keys: Keys, fields: Sequence[Mapping[str, Value]] = ()) -> None:
        """Add items; see `Store.add`."""
        require_fit(keys, self.heads, self.dim, self.width)
        described = require_described(keys, fields)
        if not len(keys):
            return
        segment = Segment(keys.ids, described, self._stored(keys, keys.heads),
                          self._stored(keys, keys.standard[:, : self.width]))  # fmt: skip
        with self._changing() as before:
            for name in keys.ids:
                if name in before.places:
                    raise DataError(f"the index has an item {name!r} already; delete it first, or give another id")
            self._folder.append(segment)
        if before.sums is not None:
            self._view.sums = before.sums.merged(HeadSpaces.of(segment.heads))

    def delete(self, ids: Iterable[str]) -> None:
        """Delete items; see `Store.delete`."""
        names = list(dict.fromkeys(ids))
        gone = HeadSpaces.empty(self.heads, self.dim)
        with self._changing() as before:
            for segment, rows, _ in before.chosen(names):
                gone = gone.merged(HeadSpaces.of(segment.heads[rows]))
                segment.alive[rows] = False
            if sum(map(len, self._folder.segments)) > 2 * (len(before.ids) - len(names)):
                self._folder.merge()
        if before.sums is not None:
            self._view.sums = before.sums.without(gone)

    def describe(self, ids: Sequence[str], fields: Sequence[Mapping[str, Value]]) -> None:
        """Give items other fields; see `Store.describe`. They count as added last."""
        described = require_fields(ids, fields)
        if not described:
            return
        with self._changing() as before:
            keys = _taken(before, tuple(ids), self._folder.layout)
            segment = Segment(ids, described, keys.heads.astype(self.dtype), keys.standard.astype(self.dtype))
            for old, rows, _ in before.chosen(ids):
                old.alive[rows] = False
            self._folder.append(segment)
        self._view.sums = before.sums

    def fields(self, ids: Iterable[str]) -> list[Mapping[str, Value]]:
        """Return the fields of some items; see `Store.fields`."""
        names = list(ids)
        found: list[Mapping[str, Value]] = [{}] * len(names)
        for segment, rows, wanted in self._seen.chosen(names):
            for row, at in zip(rows, wanted, strict=True):
                found[at] = segment.fields[row]
        return found

    def keys(self, ids: Sequence[str] | None = None) -> Keys:
        """Return the keys of some items, or of all, as they are stored; see `Store.keys`."""
        view = self._seen
        return _taken(view, tuple(view.ids if ids is None else ids), self._folder.layout)

    def spaces(self, space: Space = "heads", *, center: bool = False) -> HeadSpaces:
        """Return the sums over all keys of a space; see `Store.spaces`."""
        return self._seen.spaces(space, center=center)

    def nearest(
        self, queries: Keys, n: int, *, space: Space = "heads", center: bool = False, where: str | None = None
    ) -> Neighbours:
        """Return the n nearest items of every query and head, by looking at all; see `Store.nearest`."""
        positive("nearest", n=n)
        require_fit(queries, self.heads, self.dim, 0 if space in ("heads", "joined") else self.width)
        view = self._seen
        allowed = None if where is None else view.allowed(where)
        compared = in_space(space, queries.heads, queries.standard)
        best = Nearest(unit(compared - view.mean(space) if center else compared), n)
        for block in view.units(space, center=center):
            best.see(block, allowed)
        return Neighbours(view.ids, best.rows, best.similarity)

    def compact(self) -> None:
        """Merge all files into one, without what was deleted."""
        with self._changing() as before:
            self._folder.merge()
        self._view.sums = before.sums

    def save(self, folder: Path | str) -> ArrayStore:
        """Write everything to a new folder, and return the store there.

        Raises:
            OutputError: If it holds an index already, or cannot be written.
        """
        saved = ArrayStore(self.heads, self.dim, self.width, dtype=self.dtype, folder=folder)
        saved.add(self.keys(), self.fields(self.ids))
        return saved

    @contextmanager
    def _changing(self) -> Iterator[View]:
        """Change what the folder holds now; gives what it held before."""
        with self._folder.changing():
            self._see()
            yield self._view
        self._see()

    def _see(self) -> None:
        """Forget what was computed of the keys, where they are others by now."""
        if self._view.revision != self._folder.revision:
            self._view = View(self._folder)

    def _stored(self, keys: Keys, array: NDArray[np.float32]) -> NDArray[Any]:
        """Return keys as they are stored.

        Raises:
            DataError: If one is beyond what the type can hold.
        """
        with np.errstate(over="ignore"):
            found = array.astype(self.dtype)
        beyond = np.flatnonzero(~np.isfinite(found.reshape(len(found), -1)).all(1))
        if len(beyond):
            raise DataError(
                f"the keys of {keys.ids[beyond[0]]} are beyond what {self.dtype} holds; build the index with float32"
            )
        return found


def _taken(view: View, names: tuple[str, ...], layout: Layout) -> Keys:
    """Return the keys of some items, as they are stored."""
    heads = np.empty((len(names), layout.heads, layout.dim), np.float32)
    standard = np.empty((len(names), layout.width), np.float32)
    for segment, rows, wanted in view.chosen(names):
        heads[wanted], standard[wanted] = segment.heads[rows], segment.standard[rows]
    return Keys(names, heads, standard)
