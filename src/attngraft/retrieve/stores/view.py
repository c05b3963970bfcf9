"""What is computed of the keys of a folder, as they are at one moment: names, sums, blocks to compare, filters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError
from attngraft.retrieve import where as filters
from attngraft.retrieve.items import Value
from attngraft.retrieve.spaces import HeadSpaces, unit
from attngraft.retrieve.stores.base import in_space
from attngraft.retrieve.stores.folder import Folder
from attngraft.retrieve.stores.segments import Segment

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]
BLOCK = 16384
"""Items that are compared at once."""
CACHED = 1 << 26
"""Numbers of a space that are kept in memory, ready to be compared; a larger one is read from its files each time."""


class View:
    """The items of a folder at one of its revisions; everything is computed when it is first asked for.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Folder) -> None:
        self.revision = folder.revision
        self._layout, self._segments = folder.layout, list(folder.segments)
        self._alive = [segment.rows for segment in self._segments]
        self._sums: dict[tuple[str, bool], HeadSpaces] = {}
        self._units: dict[tuple[str, bool], list[Floats]] = {}
        self._columns: dict[str, list[Value]] = {}
        self._filter: tuple[str, filters.Mask] | None = None

    @cached_property
    def ids(self) -> Sequence[str]:
        """Return the ids of all items, in the order in which they were added."""
        return [segment.ids[row] for segment, row in self._each()]

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Return the segment and the row of every item."""
        rows = enumerate(zip(self._segments, self._alive, strict=True))
        return {segment.ids[row]: (at, int(row)) for at, (segment, alive) in rows for row in alive}

    def chosen(self, names: Sequence[str]) -> Iterator[tuple[Segment, Rows, Rows]]:
        """Yield segments with the rows of some items in them, and where these stand among the names.

        Raises:
            DataError: If one is not there.
        """
        absent = [name for name in names if name not in self.places]
        if absent:
            raise DataError(f"the index has no item {absent[0]!r} ({len(absent)} of {len(names)} are not there)")
        found = np.array([self.places[name] for name in names], np.intp).reshape(-1, 2)
        for at in np.unique(found[:, 0]):
            wanted = np.flatnonzero(found[:, 0] == at)
            yield self._segments[at], found[wanted, 1], wanted

    @property
    def sums(self) -> HeadSpaces | None:
        """Return the sums over the heads' keys where they are known already; they can be set."""
        return self._sums.get(("heads", False))

    @sums.setter
    def sums(self, found: HeadSpaces | None) -> None:
        if found is not None:
            self._sums[("heads", False)] = found

    def spaces(self, space: str, *, center: bool) -> HeadSpaces:
        """Return the sums over the keys of a space, or over what is left of them without their mean."""
        if (space, center) not in self._sums:
            found = HeadSpaces.empty(*self._shape(space))
            for block in self._raw(space):
                found = found.merged(HeadSpaces.of(block - self.mean(space) if center else block))
            self._sums[(space, center)] = found
        return self._sums[(space, center)]

    def mean(self, space: str) -> Floats:
        """Return the mean key of each head of a space, ``(heads, dim)``."""
        return self.spaces(space, center=False).mean.astype(np.float32)

    def units(self, space: str, *, center: bool) -> Iterable[Floats]:
        """Return the keys of a space, centred if asked and scaled to length 1, in blocks ``(heads, items, dim)``."""
        if (space, center) in self._units:
            return self._units[(space, center)]
        mean = self.mean(space) if center else np.zeros(1, np.float32)
        made = (np.ascontiguousarray(unit(block - mean).transpose(1, 0, 2)) for block in self._raw(space))
        if len(self.ids) * int(np.prod(self._shape(space))) > CACHED:
            return made
        blocks = list(made)
        self._units[(space, center)] = [np.concatenate(blocks, 1)] if blocks else []
        return self._units[(space, center)]

    def allowed(self, where: str) -> filters.Mask:
        """Return which items a filter lets pass; the last answer is kept.

        Raises:
            OptionError: If the filter cannot be read, or asks for what no item has.
        """
        if self._filter is None or self._filter[0] != where:
            parsed = filters.parse(where)
            names = {name for segment, row in self._each() for name in segment.fields[row]}
            filters.check(parsed, {name: self._kinds(name) for name in names})
            self._filter = (where, filters.matching(parsed, self._column))
        return self._filter[1]

    def _each(self) -> Iterator[tuple[Segment, int]]:
        for segment, alive in zip(self._segments, self._alive, strict=True):
            yield from ((segment, int(row)) for row in alive)

    def _kinds(self, name: str) -> list[str]:
        return sorted({filters.kind(value) for value in self._column(name) if value is not None})

    def _column(self, name: str) -> list[Value]:
        if name not in self._columns:
            self._columns[name] = [segment.fields[row].get(name) for segment, row in self._each()]
        return self._columns[name]

    def _shape(self, space: str) -> tuple[int, int]:
        """Return heads and width of a space."""
        layout = self._layout
        heads, standard = np.zeros((0, layout.heads, layout.dim)), np.zeros((0, layout.width))
        _, of_space, dim = in_space(space, heads, standard).shape
        return of_space, dim

    def _raw(self, space: str) -> Iterator[Floats]:
        """Yield the keys of a space in blocks, ``(items, heads, dim)``."""
        for segment, alive in zip(self._segments, self._alive, strict=True):
            compared = in_space(space, segment.heads, segment.standard)
            for start in range(0, len(alive), BLOCK):
                rows = alive[start : start + BLOCK]
                whole = rows[-1] - rows[0] + 1 == len(rows)
                yield np.asarray(compared[rows[0] : rows[-1] + 1] if whole else compared[rows], np.float32)
