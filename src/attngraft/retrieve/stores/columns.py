"""The columns of a LanceDB table of keys: which there are, what a row holds in them, and filters in their words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError
from attngraft._core.extras import extra_package
from attngraft.retrieve import where as filters
from attngraft.retrieve.items import Value
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.spaces import unit
from attngraft.retrieve.stores.folder import Layout

Floats = NDArray[np.float32]
SCHEMA = b"attngraft.retrieve.lance/1"
KINDS = {"text": "string", "number": "double", "true or false": "bool"}
"""Type of the column that holds a field's values of one kind."""
NOTHING = "nothing"
"""Kind of the values of a field that was named and never given one; its column is there to tell of it."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    A field has a column of its name for the first kind of values that it was given, and ``NAME:KIND`` for a further
    kind, so that a filter compares values of one kind alone; a field that had no value yet has ``NAME:nothing``. What a
    field really was stands in ``_fields``.

    Attributes:
        layout: What all keys have in common.
        schema: The Arrow schema.
    """

    layout: Layout
    schema: Any

    @classmethod
    def empty(cls, layout: Layout) -> Columns:
        """Return the columns of a table without fields."""
        arrow = _arrow()
        kind = arrow.float16() if layout.dtype == "float16" else arrow.float32()
        columns = [arrow.field("_id", arrow.string()), arrow.field("_row", arrow.int64()),
                   arrow.field("_fields", arrow.string())]  # fmt: skip
        columns.append(arrow.field("_norms", arrow.list_(arrow.float32(), layout.heads + 1)))
        columns += [arrow.field(f"_h{head}", arrow.list_(kind, layout.dim)) for head in range(layout.heads)]
        if layout.width:
            columns.append(arrow.field("_standard", arrow.list_(kind, layout.width)))
        return cls(layout, arrow.schema(columns, metadata={b"attngraft": SCHEMA}))

    @classmethod
    def of(cls, schema: Any, folder: Path) -> Columns:
        """Read the columns of a table.

        Raises:
            DataError: If it is not a table of keys.
        """
        names = set(schema.names)
        heads = sum(f"_h{head}" in names for head in range(len(names)))
        if not heads or not {"_id", "_row", "_fields", "_norms"} <= names:
            raise DataError(f"the table in {folder} holds no keys of heads; build the index again")
        first = schema.field("_h0").type
        width = schema.field("_standard").type.list_size if "_standard" in names else 0
        dtype = "float16" if str(first.value_type) in ("halffloat", "float16") else "float32"
        return cls(Layout(heads, first.list_size, width, dtype), schema)

    @property
    def heads(self) -> list[str]:
        """Return the column of each head."""
        return [f"_h{head}" for head in range(self.layout.heads)]

    def vectors(self, *, heads: bool, standard: bool) -> list[str]:
        """Return the columns of some keys."""
        return [*(self.heads if heads else []), *(["_standard"] if standard else [])]

    def kinds(self) -> dict[str, list[str]]:
        """Return the kinds of values of each field; none for a field without any."""
        found: dict[str, list[str]] = {}
        for name, kind in self._fields():
            found.setdefault(name, []).extend([kind] if kind != NOTHING else [])
        return found

    def _fields(self) -> list[tuple[str, str]]:
        """Return every field with a kind of its values, the column of its own name before others."""
        by_type = {arrow: kind for kind, arrow in KINDS.items()}
        found = []
        for column in self.schema:
            if not column.name.startswith("_"):
                name, _, further = column.name.partition(":")
                found.append((_unescaped(name), _unescaped(further) or by_type[str(column.type)]))
        return found

    def column(self, name: str, kind: str) -> str:
        """Return the column of a field's values of one kind, or what it would be called."""
        kinds = self.kinds().get(name, [])
        is_first = kind != NOTHING and (not kinds or kinds[0] == kind)
        return _escaped(name) if is_first else f"{_escaped(name)}:{_escaped(kind)}"

    def with_fields(self, described: Sequence[Mapping[str, Value]]) -> tuple[Columns, list[Any]]:
        """Return the columns that fields need, and the Arrow fields of those that are new."""
        arrow, columns, new = _arrow(), self, list[Any]()
        types = {"text": arrow.string(), "number": arrow.float64(), "true or false": arrow.bool_()}
        wanted = dict.fromkeys((name, _kind(value)) for of in described for name, value in of.items())
        for name, kind in sorted(wanted, key=lambda one: one[1] == NOTHING):
            known = columns.kinds()
            if name not in known if kind == NOTHING else kind not in known.get(name, []):
                new.append(arrow.field(columns.column(name, kind), types.get(kind, arrow.bool_())))
                columns = Columns(self.layout, columns.schema.append(new[-1]))
        return columns, new

    def rows(self, keys: Keys, described: Sequence[Mapping[str, Value]], numbers: NDArray[np.int64]) -> Any:
        """Return items as an Arrow table.

        Raises:
            DataError: If a field holds a number that is too large to compare.
        """
        arrow, layout = _arrow(), self.layout
        standard = keys.standard[:, : layout.width]
        norms = np.concatenate([np.linalg.norm(keys.heads, axis=2), np.linalg.norm(standard, axis=1)[:, None]], axis=1)
        columns: dict[str, Any] = {
            "_id": arrow.array(keys.ids, arrow.string()),
            "_row": arrow.array(numbers, arrow.int64()),
            "_norms": self._listed("_norms", norms.astype(np.float32)),
        }
        units = unit(keys.heads)
        columns |= {name: self._listed(name, units[:, head]) for head, name in enumerate(self.heads)}
        if layout.width:
            columns["_standard"] = self._listed("_standard", unit(standard))
        return arrow.table({**columns, **self._of_fields(described)}, schema=self.schema)

    def described(self, rows: Any, described: Sequence[Mapping[str, Value]]) -> Any:
        """Return rows of an Arrow table with the keys that they have and other fields.

        Raises:
            DataError: If a field holds a number that is too large to compare.
        """
        found = self._of_fields(described)
        kept = {name: rows[name] for name in self.schema.names if name not in found}
        return _arrow().table({**kept, **found}, schema=self.schema)

    def _of_fields(self, described: Sequence[Mapping[str, Value]]) -> dict[str, Any]:
        """Return the columns that hold fields."""
        arrow = _arrow()
        columns = {"_fields": arrow.array([json.dumps(dict(of)) for of in described], arrow.string())}
        for name, kind in self._fields():
            values = [of.get(name) for of in described]
            kept = [value if _kind(value) == kind else None for value in values]
            column = self.column(name, kind)
            try:
                columns[column] = arrow.array(kept, self.schema.field(column).type)
            except (arrow.ArrowInvalid, OverflowError) as error:
                raise DataError(f"the field {name!r} holds a number that is too large for LanceDB: {error}") from error
        return columns

    def _listed(self, name: str, vectors: Floats) -> Any:
        arrow = _arrow()
        kind = self.schema.field(name).type
        flat = np.ascontiguousarray(vectors, np.float16 if str(kind.value_type) == "halffloat" else np.float32)
        return arrow.FixedSizeListArray.from_arrays(arrow.array(flat.reshape(-1), kind.value_type), type=kind)

    def keys(self, batch: Any, heads: bool, standard: bool) -> tuple[Floats, Floats]:
        """Return keys in a batch of rows, ``(items, heads, dim)`` and ``(items, width)``; empty if not asked for."""
        layout, items = self.layout, batch.num_rows
        norms = _matrix(batch["_norms"], layout.heads + 1)
        of_heads = np.zeros((items, layout.heads, 0 if not heads else layout.dim), np.float32)
        if heads:
            for head, name in enumerate(self.heads):
                of_heads[:, head] = _matrix(batch[name], layout.dim) * norms[:, head, None]
        if not standard or not layout.width:
            return of_heads, np.zeros((items, 0), np.float32)
        return of_heads, _matrix(batch["_standard"], layout.width) * norms[:, -1:]

    def sql(self, where: filters.Where) -> str:
        """Write a filter in the SQL of LanceDB, which has backslashes for escapes in LIKE."""
        if isinstance(where, filters.Not):
            return f"NOT ({self.sql(where.of)})"
        if isinstance(where, filters.Both):
            return f" {where.word.upper()} ".join(f"({self.sql(one)})" for one in where.of)
        kinds = self.kinds()[where.field]
        if where.sign == "is null":
            columns = [self.column(where.field, kind) for kind in kinds or [NOTHING]]
            return " AND ".join(filters.Compare(column, "is null").sql() for column in columns)
        if not kinds:  # neither equal to anything nor different
            return filters.Compare(self.column(where.field, NOTHING), "=", (True,)).sql()
        by_kind: dict[str, list[filters.Literal]] = {}
        for value in where.values:
            escaped = value.replace("\\", "\\\\") if where.sign == "like" and isinstance(value, str) else value
            by_kind.setdefault(filters.kind(value), []).append(escaped)
        parts = [
            filters.Compare(self.column(where.field, kind), where.sign, tuple(values)).sql()
            for kind, values in by_kind.items()
        ]
        return parts[0] if len(parts) == 1 else f"COALESCE({', '.join(parts)})"


def _kind(value: Value) -> str:
    return NOTHING if value is None else filters.kind(value)


def _matrix(column: Any, width: int) -> Floats:
    """Return a column of vectors as ``(items, width)``."""
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)


def _escaped(name: str) -> str:
    """Return a field's name without the signs that a column's name cannot have or means otherwise."""
    found = "".join(f"%{ord(sign):02X}" if sign in "%.:`" else sign for sign in name)
    return f"%5F{found[1:]}" if found.startswith("_") else found


def _unescaped(name: str) -> str:
    first, *rest = name.split("%")
    return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


def _arrow() -> Any:
    return extra_package("pyarrow", "retrieve-db")
