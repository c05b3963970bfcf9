"""What docstrings list under ``Attributes:`` is there, in classes of all kinds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import attngraft
from attngraft._core.docstrings import entries

SOURCE = Path(attngraft.__file__).parent


def documented() -> Iterator[tuple[str, list[str], set[str]]]:
    """Yield each class with ``Attributes:`` in its docstring, what it lists, and what it has."""
    for file in sorted(SOURCE.rglob("*.py")):
        for part in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(part, ast.ClassDef) and (listed := entries(ast.get_docstring(part) or "", "Attributes")):
                yield f"{file.relative_to(SOURCE).as_posix()}:{part.name}", list(listed), {*defined(part)}


def defined(part: ast.ClassDef) -> Iterator[str]:
    """Yield the names that a class defines: in its body, and on itself in its methods."""
    for inner in ast.walk(part):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield inner.name
        for target in getattr(inner, "targets", [getattr(inner, "target", None)]):
            for one in ast.walk(target) if target else ():
                if isinstance(one, ast.Name) and inner in part.body:
                    yield one.id
                elif isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self":
                    yield one.attr


CLASSES = {name: (listed, has) for name, listed, has in documented()}


def test_the_classes_are_read() -> None:
    assert len(CLASSES) > 100
    assert CLASSES["probe/instrument.py:Drawn"][0] == ["images", "owners", "boxes", "far", "near", "gaps"]
    assert {"images", "labels", "batch"} <= CLASSES["probe/instrument.py:Drawn"][1]


@pytest.mark.parametrize("name", CLASSES)
def test_a_listed_attribute_is_there(name: str) -> None:
    listed, has = CLASSES[name]
    assert not [one for one in listed if one not in has]
