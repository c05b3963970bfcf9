"""Reads from source files what completion and help need, since importing them would import PyTorch."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

FIELD_DOC = re.compile(r"^ {4}(?P<name>\w+): (?P<about>.*(?:\n {8,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Declared:
    """A field of a class.

    Attributes:
        name: Its name.
        default: Its default as the source has it; empty where it must be given.
        about: What the docstring of the class says of it.
        choices: The values that it may have, where its type lists them.
    """

    name: str
    default: str
    about: str
    choices: tuple[str, ...]


def source(module: str) -> Path:
    """Return the file of a module of ours, which is not imported; the packages it stands in are."""
    spec = find_spec(module)
    assert spec is not None  # a test holds every name
    assert spec.origin is not None
    return Path(spec.origin)


@cache
def fields(module: str, name: str) -> tuple[Declared, ...]:
    """Return the fields of a class of ours and of the classes in other files that it is made of.

    Args:
        module: The dotted path of its file.
        name: The class.
    """
    tree = ast.parse(source(module).read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    inherited = [field for base in found.bases for field in _inherited(tree, base)]
    about = {match["name"]: _plain(match["about"]) for match in FIELD_DOC.finditer(ast.get_docstring(found) or "")}
    aliases = {name: node for node in tree.body for name in _assigned(node)}
    own = [
        Declared(
            node.target.id, _default(node.value), about.get(node.target.id, ""), _choices(node.annotation, aliases)
        )
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return (*inherited, *own)


def mechanisms() -> dict[str, str]:
    """Return our mechanisms by name, each with the first line of its file."""
    folder = source("attngraft.attention").parent
    files = sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))
    return {file.stem: _first_line(file) for file in files}


@cache
def options(mechanism: str) -> tuple[str, ...]:
    """Return the options of one of our mechanisms; none if there is no such file."""
    file = source("attngraft.attention").parent / f"{mechanism}.py"
    if not file.is_file():
        return ()
    classes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    registered = (one for one in classes if any("register" in ast.unparse(mark) for mark in one.decorator_list))
    starts = [node for one in registered for node in one.body if getattr(node, "name", "") == "__init__"]
    return tuple(argument.arg for start in starts for argument in start.args.kwonlyargs)  # type: ignore[attr-defined]


def _inherited(tree: ast.Module, base: ast.expr) -> tuple[Declared, ...]:
    """Return the fields of a base class that is imported from another of our files."""
    wanted = ast.unparse(base)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attngraft."):
            for alias in node.names:
                if (alias.asname or alias.name) == wanted:
                    return fields(str(node.module), alias.name)
    return ()


def _assigned(node: ast.stmt) -> list[str]:
    return [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]


def _default(node: ast.expr | None) -> str:
    """Write a default as a user would give it; what a function makes stays out."""
    if node is None:
        return ""
    return (
        str(node.value) if isinstance(node, ast.Constant) else "" if isinstance(node, ast.Call) else ast.unparse(node)
    )


def _choices(annotation: ast.expr, aliases: dict[str, ast.stmt]) -> tuple[str, ...]:
    text = ast.unparse(annotation)
    if text in aliases:
        text = ast.unparse(aliases[text]).partition(" = ")[2]
    if re.match(r"(Annotated\[)?bool\b", text):
        return ("True", "False")
    return tuple(re.findall(r"'([^']+)'", text)) if "Literal[" in text else ()


def _first_line(file: Path) -> str:
    head = file.read_text(encoding="utf-8").partition("\n")[0]
    return _plain(head.strip('"r'))


def _plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())
