"""YAML that somebody else may have written: read as data, within bounds.

A few hundred bytes of aliases to aliases stand for billions of values, and a few kilobytes of brackets overflow the
stack of a parser written in C. So the events are counted, with what each alias stands for, before anything is built.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from attngraft._core.errors import AttngraftError, DataError

MAX_BYTES = 8 << 20
MAX_VALUES = 1_000_000
"""Most values in a document, each alias counted as what it stands for."""
MAX_DEPTH = 100
MAX_NUMBER = 1_000
"""Longest scalar that may be read as a number or a date: their cost grows with the square of their length."""

FULL_WIDTH = "：，［］｛｝－＃"
"""Signs of Chinese keyboards in the place of those that YAML reads."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNREADABLE = (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError)
"""What PyYAML raises over text that is no YAML; the built-in ones over a date or a number that cannot be."""


def read_yaml(file: Path, *, error: type[AttngraftError] = DataError, once: bool = False) -> Any:
    """Read a YAML file as plain data.

    Args:
        file: The file.
        error: What to raise where it cannot be read; takes a message.
        once: Whether to refuse a key that stands twice in a mapping, of which PyYAML and Ultralytics keep the last.

    Returns:
        Dicts, lists, strings, numbers, dates, booleans and None; None for an empty file.

    Raises:
        AttngraftError: Of the type ``error``, if the file is missing, no regular file, larger than `MAX_BYTES`, not in
            UTF-8, or what `parse_yaml` refuses.
    """
    if not os.path.isfile(file):  # unlike Path.is_file, also for a name that no file can have
        what = "a folder" if os.path.isdir(file) else "no regular file" if os.path.lexists(file) else "not there"
        raise error(f"expected a YAML file, and {file} is {what}; check the path")
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as problem:
        raise error(f"{file} cannot be read ({problem.strerror}); check its permissions") from problem
    if len(content) > MAX_BYTES:
        raise error(f"{file} is larger than {MAX_BYTES >> 20} MiB, which no YAML of this kind is; check the file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{file} is not in UTF-8 (byte {problem.start}); save it as UTF-8") from problem
    values = parse_yaml(text, name=str(file), error=error)
    if once and (key := _repeated_key(yaml.compose(text, _LOADER))):
        line = key.start_mark.line + 1
        raise error(f"{file} has the key {key.value} twice, again at line {line}; keep one of them")
    return values


def parse_yaml(text: str, *, name: str, error: type[AttngraftError] = DataError) -> Any:
    """Read YAML text as plain data.

    Args:
        text: The text.
        name: What it is called in messages, such as its file.
        error: What to raise where it cannot be read; takes a message.

    Raises:
        AttngraftError: Of the type ``error``, if the text is no YAML, names Python objects, or stands for more than
            `MAX_VALUES` values or `MAX_DEPTH` levels.

    Example:
        >>> parse_yaml("names: [cat, dog]", name="data.yaml")
        {'names': ['cat', 'dog']}
    """
    try:
        if (excess := _excess(text)) is not None:
            raise error(f"{name} {excess}; it is refused, since it could fill the memory. Write its values out")
        return yaml.load(text, _LOADER)
    except _UNREADABLE as problem:
        if isinstance(problem, AttngraftError):
            raise
        raise error(f"{name} is not valid YAML{_where(problem)}; {_advice(text, problem)}") from problem


def _repeated_key(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """Return the first key that repeats one of its mapping."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    return key
                seen.add(key.value)
    inside = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = (part for one in inside for part in (one if isinstance(one, tuple) else [one]))
    return next((found for part in parts if (found := _repeated_key(part))), None)


def _excess(text: str) -> str | None:
    """Say which bound a text passes, from its events alone."""
    values = 0
    stands_for: dict[str | None, int] = {}
    opened: list[tuple[str | None, int]] = []  # the anchor of each collection that is not closed, and values before it
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                return f"has the alias *{event.anchor} inside the value that it names"
            values += stands_for.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            if _is_long_number(event):
                return f"has a number of {len(event.value):,} characters"
            values += 1
            stands_for[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            stands_for[anchor] = values - before
        if values > MAX_VALUES:
            return f"stands for more than {MAX_VALUES:,} values"
        if len(opened) > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} levels deep"
    return None


def _is_long_number(scalar: yaml.ScalarEvent) -> bool:
    read = scalar.style in (None, "") or scalar.tag is not None
    return read and len(scalar.value) > MAX_NUMBER and scalar.value[0] in "+-.0123456789"


def _advice(text: str, problem: Exception) -> str:
    """Say what to do about the line at which a parser stopped, or the one before it."""
    mark = getattr(problem, "problem_mark", None)
    lines = text.splitlines()[max(mark.line - 1, 0) : mark.line + 1] if mark else []
    there = "".join(line.partition("#")[0] for line in lines)
    if "\t" in there:
        return "it has a tab there, and YAML is indented by spaces"
    if wide := next((sign for sign in there if sign in FULL_WIDTH), None):
        return f"it has the full-width sign {wide} there; write {unicodedata.normalize('NFKC', wide)}"
    return "correct it there"


def _where(problem: Exception) -> str:
    """Say what is wrong and on which line, as far as the parser knows."""
    said = getattr(problem, "problem", None) or next(iter(str(problem).splitlines()), type(problem).__name__)
    mark = getattr(problem, "problem_mark", None)
    at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{at} ({said})"
