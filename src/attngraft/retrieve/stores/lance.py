"""The store for what outgrows memory: a LanceDB table with one row an item and one vector column a head.

Head 3 of a query meets head 3 of the items alone, so each head is a column with an index of its own; a multivector
column would compare all heads with all. Columns hold keys of length 1, which Lance compares by their dot product, and
their lengths beside them. Each head's nearest and those of the standard key are asked of the columns; what has no
column (heads joined, cuts of the standard key, centred keys, whose mean moves with every change) is compared exactly
while the table is read through, block by block, and never held in memory.

``FOLDER/items.lance`` is a plain Lance table: LanceDB's other editions and the readers of Lance for Ray and Spark open
the same files. The names of items are held in memory; their keys are not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.checks import positive
from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft._core.extras import extra_package
from attngraft.retrieve import where as filters
from attngraft.retrieve.items import Value
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.rank import Neighbours
from attngraft.retrieve.spaces import HeadSpaces, unit
from attngraft.retrieve.stores.base import Space, in_space, require_described, require_fields, require_fit
from attngraft.retrieve.stores.columns import Columns
from attngraft.retrieve.stores.folder import Layout, locked
from attngraft.retrieve.stores.nearest import Nearest
from attngraft.retrieve.stores.sums import Sums

TABLE = "items"
BLOCK = 16384
"""Items that are compared at once while the table is read through."""
AT_ONCE = 4
"""Columns that are asked at the same time."""
PROBES = 20
"""Partitions of an index that are looked at."""


class LanceStore:
    """Keys in a LanceDB table.

    Args:
        heads: Number of heads.
        dim: Width of a head's key.
        width: Width of the standard key; 0 keeps none.
        dtype: How numbers are stored, "float32" or "float16".
        folder: Where to.

    Attributes:
        probes: Partitions that are looked at where a column has an index; None looks at all items, exactly.

    Raises:
        MissingExtraError: If lancedb is not installed.
        OptionError: If a number is not positive, or there is no such type, or no folder.
        OutputError: If the folder holds an index already.
    """

    def __init__(self, heads: int, dim: int, width: int, *, folder: Path | str | None, dtype: str = "float32") -> None:
        if folder is None:
            raise OptionError("LanceDB keeps keys in a folder; say which with path=, or take store='arrays'")
        layout, database = Layout(heads, dim, width, dtype), _connect(Path(folder))
        if TABLE in _tables(database):
            raise OutputError(f"{folder} holds an index already; open it, or choose another folder")
        columns = Columns.empty(layout)
        self._start(Path(folder), database.create_table(TABLE, schema=columns.schema), columns)

    @classmethod
    def open(cls, folder: Path | str) -> LanceStore:
        """Open what a folder holds.

        Raises:
            DataError: If it holds no such index.
            MissingExtraError: If lancedb is not installed.
        """
        home = Path(folder)
        database = _connect(home) if home.is_dir() else None
        if database is None or TABLE not in _tables(database):
            raise DataError(f"{home} holds no index in LanceDB; build one with store='lance'")
        table = database.open_table(TABLE)
        store = cls.__new__(cls)
        store._start(home, table, Columns.of(table.schema, home))
        return store

    def _start(self, folder: Path, table: Any, columns: Columns) -> None:
        self._folder, self._table, self._columns = folder, table, columns
        self._sums = Sums(folder / "sums.npz")
        self._reading, self._steady = threading.RLock(), 0
        self._known: tuple[int, list[str], list[int]] | None = None
        self.probes: int | None = PROBES

    @property
    def heads(self) -> int:
        """Return the number of heads."""
        return self._columns.layout.heads

    @property
    def dim(self) -> int:
        """Return the width of a head's key."""
        return self._columns.layout.dim

    @property
    def width(self) -> int:
        """Return the width of the standard key; 0 where it is not kept."""
        return self._columns.layout.width

    @property
    def dtype(self) -> str:
        """Return how numbers are stored."""
        return self._columns.layout.dtype

    @property
    def ids(self) -> Sequence[str]:
        """Return the ids of all items, in the order in which they were added."""
        return self._names()[0]

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Read the items as they are now, whoever changes them meanwhile; see `Store.steady`."""
        with self._reading:  # the threads of a process have one table, which stands at one version
            if not self._steady:
                self._see()
            with self._held():
                yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep the table at its version, but for what this thread itself changes."""
        self._steady += 1
        try:
            yield
        finally:
            self._steady -= 1

    def _see(self) -> None:
        """Take the table as others left it."""
        self._table.checkout_latest()
        self._columns = Columns.of(self._table.schema, self._folder)

    def add(self, keys: Keys, fields: Sequence[Mapping[str, Value]] = ()) -> None:
        """Add items; see `Store.add`."""
        require_fit(keys, self.heads, self.dim, self.width)
        described = require_described(keys, fields)
        if not len(keys):
            return
        with self._changing():
            names, rows = self._names()
            if twice := set(names) & set(keys.ids):
                raise DataError(f"the index has an item {min(twice)!r} already; delete it first, or give another id")
            rows_of_new = np.arange(len(keys)) + (rows[-1] + 1 if rows else 0)
            self._columns, missing = self._columns.with_fields(described)
            data = self._columns.rows(keys, described, rows_of_new)
            if missing:
                self._table.add_columns(missing)
            version = self._version
            self._table.add(data)
            self._sums.changed(version, self._version, added=HeadSpaces.of(keys.heads))

    def delete(self, ids: Iterable[str]) -> None:
        """Delete items; see `Store.delete`."""
        names = list(dict.fromkeys(ids))
        if not names:
            return
        with self._changing():
            rows = self._rows_of(names)
            gone = HeadSpaces.empty(self.heads, self.dim)
            for _, _, heads, _ in self._read(_among(rows)):
                gone = gone.merged(HeadSpaces.of(heads))
            version = self._version
            self._table.delete(_among(rows))
            self._sums.changed(version, self._version, deleted=gone)

    def describe(self, ids: Sequence[str], fields: Sequence[Mapping[str, Value]]) -> None:
        """Give items other fields; see `Store.describe`. They stay where they are in the order."""
        described = require_fields(ids, fields)
        if not described:
            return
        with self._changing():
            fields_of = dict(zip(self._rows_of(ids), described, strict=True))
            columns, missing = self._columns.with_fields(described)
            chosen = ["_id", "_row", "_norms", *columns.vectors(heads=True, standard=bool(self.width))]
            found = self._table.search().where(_among(list(fields_of))).select(chosen).to_arrow()
            data = columns.described(found, [fields_of[row] for row in found["_row"].to_pylist()])
            if missing:
                self._table.add_columns(missing)
            self._columns, version = columns, self._version
            self._table.merge_insert("_row").when_matched_update_all().execute(data)
            self._sums.changed(version, self._version)

    def fields(self, ids: Iterable[str]) -> list[Mapping[str, Value]]:
        """Return the fields of some items; see `Store.fields`."""
        found: dict[int, Mapping[str, Value]] = {}
        with self.steady():
            rows = self._rows_of(list(ids))
            for start in range(0, len(rows), BLOCK):
                wanted = self._table.search().where(_among(rows[start : start + BLOCK])).select(["_row", "_fields"])
                for one in wanted.to_arrow().to_pylist():
                    found[one["_row"]] = json.loads(one["_fields"])
        return [found[row] for row in rows]

    def keys(self, ids: Sequence[str] | None = None) -> Keys:
        """Return the keys of some items, or of all, as they are stored; see `Store.keys`."""
        with self.steady():
            names = tuple(self.ids if ids is None else ids)
            place = {row: at for at, row in enumerate(self._rows_of(names))}
            heads = np.empty((len(names), self.heads, self.dim), np.float32)
            standard = np.empty((len(names), self.width), np.float32)
            wanted = sorted(place)
            for start in range(0, len(wanted), BLOCK):
                for _, rows, of_heads, of_standard in self._read(_among(wanted[start : start + BLOCK])):
                    at = [place[row] for row in rows]
                    heads[at], standard[at] = of_heads, of_standard
        return Keys(names, heads, standard)

    def spaces(self, space: Space = "heads", *, center: bool = False) -> HeadSpaces:
        """Return the sums over all keys of a space; see `Store.spaces`."""
        with self.steady():
            return self._sums.of(self._version, space, center, lambda: self._summed(space, center=center))

    def nearest(
        self, queries: Keys, n: int, *, space: Space = "heads", center: bool = False, where: str | None = None
    ) -> Neighbours:
        """Return the n nearest items of every query and head; see `Store.nearest`.

        Exact, but for the heads and the standard key where `index` made an index for them.
        """
        positive("nearest", n=n)
        require_fit(queries, self.heads, self.dim, 0 if space in ("heads", "joined") else self.width)
        with self.steady():
            condition = None if where is None else self._condition(where)
            compared = in_space(space, queries.heads, queries.standard)
            if center or space in ("joined", "split"):
                mean = self.spaces(space).mean.astype(np.float32) if center else np.zeros(1, np.float32)
                return self._scanned(unit(compared - mean), n, space, mean, condition)
            names = self._columns.heads if space == "heads" else ["_standard"]
            return self._asked(unit(compared), n, names, condition)

    def index(self, partitions: int | None = None) -> None:
        """Make an index (IVF) for each head and the standard key, so that a search looks at some partitions alone.

        Items that are added later are searched one by one until it is made again.

        Args:
            partitions: How many parts each column is cut into; LanceDB's own number by default.
        """
        config = extra_package("lancedb.index", "retrieve-db").IvfFlat
        with self._changing():
            version = self._version
            for column in [*self._columns.heads, *(["_standard"] if self.width else [])]:
                self._table.create_index(column, config=config(distance_type="dot", num_partitions=partitions))
            self._sums.changed(version, self._version)

    def compact(self) -> None:
        """Merge small files and bring indexes up to date; what was deleted leaves the disk after a week."""
        with self._changing():
            version = self._version
            self._table.optimize()
            self._sums.changed(version, self._version)

    @property
    def _version(self) -> int:
        return int(self._table.version)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the table as the only process that does, from what others left."""
        with locked(self._folder), self._reading:
            self._see()
            with self._held():
                yield

    def _names(self) -> tuple[list[str], list[int]]:
        """Return the ids of all items and their numbers, which rise in the order in which items were added."""
        with self.steady():
            if self._known is None or self._known[0] != self._version:
                found = self._table.search().select(["_id", "_row"]).to_arrow().sort_by("_row")
                self._known = self._version, found["_id"].to_pylist(), found["_row"].to_pylist()
            return self._known[1], self._known[2]

    def _rows_of(self, ids: Sequence[str]) -> list[int]:
        """Return the numbers of items.

        Raises:
            DataError: If one is not there.
        """
        place = dict(zip(*self._names(), strict=True))
        absent = [name for name in ids if name not in place]
        if absent:
            raise DataError(f"the index has no item {absent[0]!r} ({len(absent)} of {len(ids)} are not there)")
        return [place[name] for name in ids]

    def _condition(self, where: str) -> str:
        parsed = filters.parse(where)
        filters.check(parsed, self._columns.kinds())
        return self._columns.sql(parsed)

    def _read(
        self, condition: str | None, *, heads: bool = True, standard: bool = True
    ) -> Iterator[tuple[list[str], list[int], NDArray[np.float32], NDArray[np.float32]]]:
        """Yield ids, numbers and keys, a block of items at a time; keys that are not asked for are empty."""
        search = self._table.search()
        if condition is not None:
            search = search.where(condition)
        chosen = self._columns.vectors(heads=heads, standard=standard and bool(self.width))
        for batch in search.select(["_id", "_row", "_norms", *chosen]).to_batches(BLOCK):
            if batch.num_rows:
                yield (batch["_id"].to_pylist(), batch["_row"].to_pylist(), *self._columns.keys(batch, heads, standard))

    def _blocks(self, space: str, condition: str | None = None) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield ids and the keys of a space, ``(items, heads, dim)``."""
        of_heads = space in ("heads", "joined")
        for ids, _, heads, standard in self._read(condition, heads=of_heads, standard=not of_heads):
            yield ids, in_space(space, heads, standard)

    def _summed(self, space: Space, *, center: bool) -> HeadSpaces:
        empty = in_space(space, np.zeros((1, self.heads, self.dim)), np.zeros((1, self.width)))
        found = HeadSpaces.empty(*empty.shape[1:])
        mean = self.spaces(space).mean.astype(np.float32) if center else 0
        for _, block in self._blocks(space):
            found = found.merged(HeadSpaces.of(block - mean))
        return found

    def _scanned(
        self, queries: NDArray[np.float32], n: int, space: str, mean: NDArray[np.float32], condition: str | None
    ) -> Neighbours:
        """Compare queries with all items while the table is read through."""
        best, names = Nearest(queries, n), list[str]()
        for ids, block in self._blocks(space, condition):
            best.see(np.ascontiguousarray(unit(block - mean).transpose(1, 0, 2)))
            names += ids
        return Neighbours(names, best.rows, best.similarity)

    def _asked(self, queries: NDArray[np.float32], n: int, columns: Sequence[str], condition: str | None) -> Neighbours:
        """Ask a column for each head, several at the same time."""
        found: dict[int, str] = {}
        total = len(self.ids)

        def ask(head: int) -> list[tuple[list[int], list[float]]]:
            return self._column(columns[head], queries[:, head], n, condition, found, total)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            of_heads = list(pool.map(ask, range(len(columns))))
        place = {row: at for at, row in enumerate(sorted(found))}
        rows = np.full((len(queries), len(columns), min(n, total)), -1, np.int64)
        similarity = np.full(rows.shape, -np.inf, np.float32)
        for head, of_queries in enumerate(of_heads):
            for query, (numbers, alike) in enumerate(of_queries):
                rows[query, head, : len(numbers)] = [place[number] for number in numbers]
                similarity[query, head, : len(numbers)] = alike
        return Neighbours([found[row] for row in sorted(found)], rows, similarity)

    def _column(
        self,
        column: str,
        queries: NDArray[np.float32],
        n: int,
        condition: str | None,
        found: dict[int, str],
        total: int,
    ) -> list[tuple[list[int], list[float]]]:
        """Return numbers and cosines of the items nearest to each query in one column; ties go to the item added first.

        One more than n is asked for, and more while the last of them tie, so that the cut is never Lance's choice.
        """
        best: list[tuple[list[int], list[float]]] = []
        for query, hits in enumerate(self._search(column, queries, n + 1, condition)):
            asked = n + 1
            while len(hits) == asked < total and _cosines(hits)[n - 1] == _cosines(hits)[-1]:
                asked *= 2
                hits = self._search(column, queries[query : query + 1], asked, condition)[0]
            numbers, cosines = hits["_row"].to_numpy(), _cosines(hits)
            order = np.lexsort((numbers, -cosines))[:n]
            names = hits["_id"]
            found |= {int(numbers[at]): names[int(at)].as_py() for at in order}
            best.append((numbers[order].tolist(), cosines[order].tolist()))
        return best

    def _search(self, column: str, queries: NDArray[np.float32], n: int, condition: str | None) -> list[Any]:
        """Return what Lance finds for each query, nearest first."""
        several = len(queries) > 1
        search = self._table.search(queries if several else queries[0], vector_column_name=column)
        search = search.distance_type("dot").limit(n)
        if condition is not None:
            search = search.where(condition, prefilter=True)
        search = search.bypass_vector_index() if self.probes is None else search.nprobes(self.probes)
        hits = search.select(["_id", "_row", "_distance"]).to_arrow()
        if not several:
            return [hits]
        of_query = hits["query_index"].to_numpy()
        order = np.argsort(of_query, kind="stable")
        ends = np.searchsorted(of_query[order], np.arange(len(queries) + 1))
        return [hits.take(order[start:end]) for start, end in pairwise(ends.tolist())]


def _cosines(hits: Any) -> NDArray[np.float32]:
    return np.asarray(1 - hits["_distance"].to_numpy(), np.float32)


def _among(rows: Sequence[int]) -> str:
    """Return the condition that an item is one of some."""
    return f"_row IN ({', '.join(map(str, rows))})" if rows else "_row < 0"


def _connect(folder: Path) -> Any:
    """Connect to a folder, which is made."""
    database = extra_package("lancedb", "retrieve-db")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder} ({error.strerror or error}); choose another folder") from error
    return database.connect(folder)


def _tables(database: Any) -> list[str]:
    return [str(name) for name in database.list_tables().tables]
