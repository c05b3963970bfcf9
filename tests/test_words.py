"""The words that users read are the field's own (docs/glossary.md): on pages, in help, and in what commands say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from attngraft.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/decisions/*.md",
    "studies/**/*.md",
    "benchmarks/**/*.md",
    "examples/*.py",
]
AVOIDED = {
    r"pictures?": "image (or figure, where it is drawn)",
    r"trainings": "training runs",
    r"mend(s|ed|ing)?": "fix",
    r"the host(?! layer)('s)?": "Ultralytics",
    r"learns? sooner": "converges faster",
    r"search for duplicates": "non-maximum suppression",
    r"usual forms?": "reference implementation",
    r"measured in turns": "measured in interleaved rounds",
    r"go(es|ing)? on with": "resume with",
    r"ends with [12]\b": "exits with status",
}
CLEAN_ROOMS = sorted(path.name for path in (ROOT / "src/attngraft").iterdir() if (path / "__init__.py").is_file())
"""Packages whose messages are held to it: all."""


def files() -> list[Path]:
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


def wrong(text: str) -> list[str]:
    """Return the words of a text that should be others, code left aside."""
    plain = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [f"{found[0]!r}: say {instead}" for word, instead in AVOIDED.items() for found in
            re.finditer(rf"\b{word}\b", plain, re.IGNORECASE)]  # fmt: skip


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_pages(file: Path) -> None:
    assert wrong(file.read_text(encoding="utf-8")) == []


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{before} {name}".strip(), command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")


def test_help_of_every_command() -> None:
    texts = {path: [command.help, *(getattr(option, "help", "") for option in command.params)]
             for path, command in commands(main)}  # fmt: skip
    assert {path: wrong("\n".join(filter(None, found))) for path, found in texts.items()} == {
        path: [] for path in texts
    }


def said(file: Path) -> str:
    """Return every string of a source file that is no key or name: what has a blank in it, docstrings too."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return "\n".join(
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and " " in n.value
    )


@pytest.mark.parametrize("room", CLEAN_ROOMS)
def test_messages_and_docstrings_of_a_room(room: str) -> None:
    found = {str(file): wrong(said(file)) for file in (ROOT / "src/attngraft" / room).rglob("*.py")}
    assert {file: words for file, words in found.items() if words} == {}


def test_a_word_to_avoid_is_seen() -> None:
    """Were the search blind, the tests above would always pass."""
    assert wrong("Two pictures of the host's trainings.") == [
        "'pictures': say image (or figure, where it is drawn)",
        "'trainings': say training runs",
        '"the host\'s": say Ultralytics',
    ]
    assert wrong("the host layer `pictures=4` recommends") == []


def rows(page: str) -> list[list[str]]:
    """Return the cells of the tables of a page, without heads."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split(" | ") for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells if not {"term", "术语"} & {cell.strip() for cell in row}]


def test_both_glossaries_explain_the_same_terms() -> None:
    english, chinese = rows("glossary.md"), rows("glossary.zh-CN.md")
    assert [(term, name) for term, _, name in english] == [(term, name) for name, term, _ in chinese]
    needed = {"recipe", "place", "graft", "arm", "verdict", "baseline", "control", "seed", "run", "record", "SESOI"}
    assert needed <= {term for term, _, _ in english}
