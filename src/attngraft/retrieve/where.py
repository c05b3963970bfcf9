"""Filters on fields, in a part of SQL that every store understands alike.

``split = 'val' AND (year >= 1990 OR category IN ('ships', 'ports')) AND NOT title LIKE 'The %'``

Compared are a field and a value: ``=``, ``!=``, ``<>``, ``<``, ``<=``, ``>``, ``>=``, ``IN (...)``, ``LIKE`` with ``%``
and ``_``, and ``IS NULL``, all of which ``NOT`` may stand before. Values are 'texts', numbers, TRUE and FALSE. A name
that is no plain word stands in double quotes. As in SQL, an item that lacks a field, or has a value of another kind in
it, is neither equal to a value nor different from it. Nothing of a filter is ever run.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import OptionError, suggest
from attngraft.retrieve.items import Value

Mask = NDArray[np.bool_]
Literal = str | int | float | bool
DEEPEST = 100
"""Brackets within each other; more are no filter that a person wrote."""
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
WORDS = {"and", "or", "not", "in", "is", "null", "like", "true", "false"}
TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")+")|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>[^\W\d][\w.]*)|(?P<sign><=|>=|<>|!=|[=<>(),])|(?P<end>\Z))""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Compare:
    """A field beside one value or several: one of the signs of `COMPARE`, "in", "like" or "is null"."""

    field: str
    sign: str
    values: tuple[Literal, ...] = ()

    def sql(self) -> str:
        """Write it in SQL."""
        name = '"' + self.field.replace('"', '""') + '"'
        if self.sign == "is null":
            return f"{name} IS NULL"
        if self.sign == "in":
            return f"{name} IN ({', '.join(map(_sql, self.values))})"
        return f"{name} {self.sign.upper()} {_sql(self.values[0])}"

    def compares(self) -> Iterator[Compare]:
        """Yield itself."""
        yield self

    def masks(self, column: Callable[[str], Sequence[Value]]) -> tuple[Mask, Mask]:
        """Tell of which rows it is true, and of which false."""
        found = column(self.field)
        if self.sign == "is null":
            empty = np.fromiter((one is None for one in found), bool, len(found))
            return empty, ~empty
        kinds = {kind(value) for value in self.values}
        known = np.fromiter((one is not None and kind(one) in kinds for one in found), bool, len(found))
        holds = self._test()
        true = np.fromiter((is_known and holds(v) for is_known, v in zip(known, found, strict=True)), bool, len(found))
        return true, known & ~true

    def _test(self) -> Callable[[Any], bool]:
        if self.sign == "in":
            return set(self.values).__contains__
        value = self.values[0]
        if self.sign == "like":
            signs = {"%": ".*", "_": "."}
            pattern = re.compile("".join(signs.get(c, re.escape(c)) for c in str(value)), re.DOTALL)
            return lambda one: pattern.fullmatch(one) is not None
        compare = COMPARE[self.sign]
        return lambda one: compare(one, value)


@dataclass(frozen=True)
class Not:
    """The opposite of a filter; what is unknown stays so."""

    of: Where

    def sql(self) -> str:
        """Write it in SQL."""
        return f"NOT ({self.of.sql()})"

    def compares(self) -> Iterator[Compare]:
        """Yield every comparison in it."""
        yield from self.of.compares()

    def masks(self, column: Callable[[str], Sequence[Value]]) -> tuple[Mask, Mask]:
        """Tell of which rows it is true, and of which false."""
        true, false = self.of.masks(column)
        return false, true


@dataclass(frozen=True)
class Both:
    """Filters that must all hold ("and"), or of which one must ("or")."""

    word: str
    of: tuple[Where, ...]

    def sql(self) -> str:
        """Write it in SQL."""
        return f" {self.word.upper()} ".join(f"({one.sql()})" for one in self.of)

    def compares(self) -> Iterator[Compare]:
        """Yield every comparison in it."""
        for one in self.of:
            yield from one.compares()

    def masks(self, column: Callable[[str], Sequence[Value]]) -> tuple[Mask, Mask]:
        """Tell of which rows it is true, and of which false."""
        true, false = zip(*(one.masks(column) for one in self.of), strict=True)
        every, some = np.logical_and.reduce, np.logical_or.reduce
        return (every(true), some(false)) if self.word == "and" else (some(true), every(false))


Where = Compare | Not | Both


def parse(text: str) -> Where:
    """Read a filter.

    Raises:
        OptionError: If it cannot be read; shows where.

    Example:
        >>> print(parse("year > 1990 and not split in ('val', 'test')").sql())
        ("year" > 1990) AND (NOT ("split" IN ('val', 'test')))
    """
    return _Reader(text).whole()


def kind(value: Literal) -> str:
    """Return the kind of a value; values of one kind can be compared."""
    return "true or false" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def check(where: Where, kinds: Mapping[str, Collection[str]]) -> None:
    """Require that every field is there, with values that the filter's can be compared to.

    Args:
        where: The filter.
        kinds: What `kind` says of the values of each field; empty for a field without any.

    Raises:
        OptionError: If a field is unknown, or has values of another kind alone.
    """
    for one in where.compares():
        if one.field not in kinds:
            shown = sorted(name for name in kinds if not name.startswith("_"))
            raise OptionError(f"where names {one.field!r}, which no item has; {suggest(one.field, shown)}")
        there = kinds[one.field]
        wrong = [value for value in one.values if there and kind(value) not in there]
        if wrong:
            raise OptionError(
                f"where compares {one.field} to {_sql(wrong[0])}, a {kind(wrong[0])}; it holds {' and '.join(there)}"
            )


def matching(where: Where, column: Callable[[str], Sequence[Value]]) -> Mask:
    """Return which rows a filter lets pass.

    Args:
        where: The filter.
        column: Gives the values of a field, one a row, None where there is none.
    """
    return where.masks(column)[0]


def _sql(value: Literal) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).upper() if isinstance(value, bool) else repr(value)


class _Reader:
    """Reads a filter, one token after the other."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self._next()

    def whole(self) -> Where:
        found = self._either()
        if self.group != "end":
            self._fail("the end, AND or OR")
        return found

    def _next(self) -> None:
        self.start = self.at
        match = TOKEN.match(self.text, self.at)
        if match is None or match.lastgroup is None:
            self._fail("a field, a sign or a value")
        self.group, self.token = match.lastgroup, match[match.lastgroup]
        self.at = match.end()

    def _fail(self, wanted: str) -> NoReturn:
        shown = self.text[self.start :].strip() or "its end"
        raise OptionError(
            f"where expects {wanted} at {shown!r} in {self.text!r}; write it as in: split = 'val' AND year >= 1990"
        )

    def _takes(self, *words: str) -> bool:
        """Take a word or a sign if it is the next."""
        found = self.group in ("word", "sign") and self.token.lower() in words
        if found:
            self._next()
        return found

    def _need(self, sign: str) -> None:
        if not self._takes(sign):
            self._fail(sign)

    def _either(self) -> Where:
        return self._several("or", lambda: self._several("and", self._one))

    def _several(self, word: str, read: Callable[[], Where]) -> Where:
        found = [read()]
        while self._takes(word):
            found.append(read())
        return found[0] if len(found) == 1 else Both(word, tuple(found))

    def _one(self) -> Where:
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(f"at most {DEEPEST} brackets")
        if self._takes("not"):
            found: Where = Not(self._one())
        elif self._takes("("):
            found = self._either()
            self._need(")")
        else:
            found = self._compare(self._field())
        self.depth -= 1
        return found

    def _field(self) -> str:
        is_name = self.group == "quoted" or (self.group == "word" and self.token.lower() not in WORDS)
        if not is_name:
            self._fail("the name of a field")
        name = self.token[1:-1].replace('""', '"') if self.group == "quoted" else self.token
        self._next()
        return name

    def _compare(self, field: str) -> Where:
        if self._takes("is"):
            differs = self._takes("not")
            self._need("null")
            return _maybe_not(Compare(field, "is null"), differs)
        differs = self._takes("not")
        if self._takes("in"):
            return _maybe_not(Compare(field, "in", self._values()), differs)
        if self._takes("like"):
            if self.group != "text":
                self._fail("a 'text' after LIKE")
            return _maybe_not(Compare(field, "like", (self._value(),)), differs)
        sign = "!=" if self.token == "<>" else self.token
        if differs or self.group != "sign" or sign not in COMPARE:
            self._fail("IN or LIKE" if differs else "one of = != < <= > >= IN LIKE IS")
        self._next()
        return Compare(field, sign, (self._value(),))

    def _values(self) -> tuple[Literal, ...]:
        self._need("(")
        found = [self._value()]
        while self._takes(","):
            found.append(self._value())
        self._need(")")
        return tuple(found)

    def _value(self) -> Literal:
        group, token = self.group, self.token
        if group == "text":
            found: Literal = token[1:-1].replace("''", "'")
        elif group == "number":
            found = float(token) if set(token) & set(".eE") else int(token)
        elif group == "word" and token.lower() in ("true", "false"):
            found = token.lower() == "true"
        else:
            self._fail("a value: a 'text' in single quotes, a number, TRUE or FALSE")
        self._next()
        return found


def _maybe_not(one: Compare, differs: bool) -> Where:
    return Not(one) if differs else one
