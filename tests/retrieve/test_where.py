"""Filters, beside SQLite's answers on the same rows."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraft._core.errors import OptionError
from attngraft.retrieve.items import Value
from attngraft.retrieve.where import check, matching, parse

ROWS: list[dict[str, Value]] = [
    {"split": "val", "year": 1990, "score": 0.5, "odd name": "x"},
    {"split": "train", "year": 2001, "score": -2.0},
    {"split": "it's", "year": None, "score": 0.5},
    {"year": 1990, "odd name": "100% x_y"},
    {"split": "Val", "score": 1e3},
]
FIELDS = ("split", "year", "score", "odd name")


def column(name: str) -> list[Value]:
    return [row.get(name) for row in ROWS]


def ours(text: str) -> list[int]:
    return [row for row, passes in enumerate(matching(parse(text), column)) if passes]


def sqlite(text: str) -> list[int]:
    database = sqlite3.connect(":memory:")
    try:
        database.execute("PRAGMA case_sensitive_like = ON")
        database.execute('CREATE TABLE items (n, split TEXT, year INTEGER, score REAL, "odd name" TEXT)')
        for number, row in enumerate(ROWS):
            values = [number, *(row.get(name) for name in FIELDS)]
            database.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", values)
        return [n for (n,) in database.execute(f"SELECT n FROM items WHERE {text} ORDER BY n")]
    finally:
        database.close()


FILTERS = [
    "split = 'val'",
    "split <> 'val'",
    "NOT split = 'val'",
    "split != 'val' OR year = 1990",
    "split = 'it''s'",
    "year >= 1990 AND year < 2001",
    "year in (1990, 2001) and score > -3",
    "year NOT IN (1990)",
    "split IN ('val', 'train') AND NOT (year = 2001 OR score < 0)",
    "score = 0.5 AND (year IS NULL OR year = 1990)",
    "split is not null",
    "NOT (year = 2001 AND score > 5)",
    "split LIKE '_al'",
    "split NOT LIKE '%a%'",
    "\"odd name\" LIKE '100% x__'",
    "score >= .5e0",
    "year = 1990.0",
    "score = +1e3",
    "NOT NOT split = 'val'",
    "split = 'val' OR split = 'train' AND year = 1",
]


@pytest.mark.parametrize("text", FILTERS)
def test_filters_let_pass_what_sql_does(text: str) -> None:
    assert ours(text) == sqlite(text)
    assert ours(parse(text).sql()) == sqlite(parse(text).sql()) == sqlite(text)


def comparisons() -> st.SearchStrategy[str]:
    texts = st.sampled_from(["'val'", "'it''s'", "'v'"])
    numbers = st.sampled_from(["1990", "2001", "0.5", "-2"])
    signs = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    return st.one_of(
        st.builds("split {} {}".format, signs, texts),
        st.builds("{} {} {}".format, st.sampled_from(["year", "score"]), signs, numbers),
        st.builds("{} IS {}".format, st.sampled_from(["split", "year"]), st.sampled_from(["NULL", "NOT NULL"])),
        st.builds("year {} ({}, {})".format, st.sampled_from(["IN", "NOT IN"]), numbers, numbers),
    )


@given(
    st.recursive(
        comparisons(),
        lambda inner: st.one_of(
            st.builds("NOT ({})".format, inner),
            st.builds("{} AND {}".format, inner, inner),
            st.builds("({} OR {})".format, inner, inner),
        ),
        max_leaves=6,
    )
)
def test_any_filter_lets_pass_what_sql_does(text: str) -> None:
    assert ours(text) == sqlite(text)
    assert ours(parse(text).sql()) == sqlite(text)


def test_truth_is_no_number() -> None:
    rows = [{"kept": True}, {"kept": False}, {"kept": 1}]
    for text, passes in [("kept = TRUE", [True, False, False]), ("kept = 1", [False, False, True]),
                         ("NOT kept = true", [False, True, False])]:  # fmt: skip
        assert matching(parse(text), lambda name: [row[name] for row in rows]).tolist() == passes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expects the name of a field at 'its end'"),
        ("split", "expects one of = != < <= > >= IN LIKE IS at 'its end'"),
        ("split == 'val'", "expects a value"),
        ("split = val", "expects a value: a 'text' in single quotes"),
        ("split = 'val", "expects a field, a sign or a value"),
        ("split = 'val' year = 3", "expects the end, AND or OR"),
        ("split = 'a' AND", "expects the name of a field"),
        ("(split = 'a'", r"expects \) at"),
        ("split IN ()", "expects a value"),
        ("split NOT = 'a'", "expects IN or LIKE"),
        ("year LIKE 3", "expects a 'text' after LIKE"),
        ("1 = 1", "expects the name of a field"),
        ("split = 'a'; DROP TABLE items", "expects a field, a sign or a value"),
        ("split = 'a' -- rest", "expects a field, a sign or a value"),
        ("length(split) > 3", "expects one of"),
        ("(" * 3000 + "split = 'a'" + ")" * 3000, "expects at most 100 brackets"),
    ],
)
def test_what_is_no_filter_is_said_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(OptionError, match=f"where {said}"):
        parse(text)


def test_fields_are_checked_with_the_kinds_they_hold() -> None:
    kinds = {"split": ["text"], "year": ["number"], "empty": []}
    check(parse("split = 'a' AND year > 3 AND empty = 'x'"), kinds)
    with pytest.raises(OptionError, match="where names 'splt', which no item has; did you mean split"):
        check(parse("splt = 'a'"), kinds)
    with pytest.raises(OptionError, match="which no item has; there are: split$"):
        check(parse("x = 1"), {"split": ["text"], "_digest": ["text"]})
    with pytest.raises(OptionError, match="where compares year to '1990', a text; it holds number"):
        check(parse("NOT (split = 'a' OR year = '1990')"), kinds)
