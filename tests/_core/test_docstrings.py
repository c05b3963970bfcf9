"""Sections of docstrings in Google style."""

from __future__ import annotations

from attngraft._core.docstrings import entries

DOC = """Do something.

    Args:
        first: One line: with a colon.
        second: Two
            lines.

    Attributes:
        kept: A number.

    Raises:
        ValueError: If it cannot.
    """


def test_a_section_ends_where_the_next_begins() -> None:
    assert entries(DOC, "Args") == {"first": "One line: with a colon.", "second": "Two lines."}
    assert entries(DOC, "Attributes") == {"kept": "A number."}
    assert entries(DOC, "Returns") == entries("", "Args") == {}
