"""Commands and error texts on the pages are those that exist, and pages in two languages give the same ones."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import pytest
import torch
from torch import nn

from attngraft import Recipe
from attngraft._core.errors import RecipeError
from attngraft.attention import EMA
from attngraft.cli import main

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs/troubleshooting.md"
TWINS = [
    (english, chinese)
    for chinese in sorted([*ROOT.glob("*.zh-CN.md"), *ROOT.glob("docs/*.zh-CN.md")])
    if (english := chinese.with_name(chinese.name.replace(".zh-CN", ""))).exists()
]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("studies/*.md")])
RECIPE = re.compile(r"[a-z_0-9]+\([a-z_]+=[^()]*\)@[A-Za-z0-9,.]+[A-Za-z0-9]")
PLACEHOLDERS = re.compile(r"[A-Z_]+\b")


def code(page: Path) -> list[str]:
    """Return the lines of the code blocks of a page and its code spans, a span on one line."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line] + [" ".join(span.split()) for span in spans]


def unknown(line: str) -> str:
    """Return the word of a line that stands where a command has to and is none, or an empty text."""
    words = line.partition("attngraft ")[2].split()
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] == "--plugin" else words[1:]
    group: click.Command = main
    while words and isinstance(group, click.Group):
        word = words.pop(0)
        if word not in group.commands:
            is_free = group is not main and (word.startswith("-") or "=" in word or "." in word or "/" in word)
            return "" if is_free or PLACEHOLDERS.match(word) else word
        group = group.commands[word]
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page(page: Path) -> None:
    asked = [line for line in code(page) if re.match(r"attngraft [\w-]", line)]
    assert {line: unknown(line) for line in asked if unknown(line)} == {}


def test_a_command_that_is_not_there_is_seen() -> None:
    """Were the search blind, the test above would always pass."""
    assert unknown("attngraft glance best.pt") == "glance"
    assert unknown("attngraft --plugin a.py study judgement runs.csv") == "judgement"
    assert unknown("attngraft study plan.yaml parallel=2") == unknown("attngraft study judge runs.csv") == ""


def misread(lines: Iterable[str]) -> str:
    """Return what a shell says of command lines that it cannot read, or an empty text."""
    return subprocess.run(["bash", "-n"], input="\n".join(lines), capture_output=True, text=True, check=False).stderr


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_shell_reads_the_commands_of_a_page(page: Path) -> None:
    """Parentheses of a recipe, unquoted, are a syntax error there."""
    assert misread(line for line in code(page) if re.match(r"(attngraft|yolo|pip|make|python) [\w-]", line)) == ""


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_shell_reads_the_commands_in_the_help() -> None:
    texts = [command.help or "" for command in commands(main)]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip().startswith("attngraft ")]
    assert len(lines) > 30
    assert misread(lines) == ""
    assert [line for line in lines if re.search(r"=[^\s\"']*\*", line)] == [], "zsh stops at a pattern without quotes"


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_command_that_a_shell_cannot_read_is_seen() -> None:
    assert "syntax error" in misread(["attngraft train model=yolo11n+mhsa(heads=4)@P5"])
    assert misread(["attngraft train 'model=yolo11n+mhsa(heads=4)@P5' data=my.yaml"]) == ""


def test_recipes_of_pages_and_examples_have_the_options_they_name() -> None:
    sources = [*PAGES, *ROOT.glob("examples/**/*.py"), *ROOT.glob("examples/**/*.yaml")]
    written = {
        (path.name, found)
        for path in sources
        for found in re.findall(
            r"[a-z_0-9]+\([a-z_]+=[^()]*\)@[A-Za-z0-9,.]+[A-Za-z0-9]", path.read_text(encoding="utf-8")
        )
    }
    assert len(written) > 8
    refused = {}
    for path, recipe in sorted(written):
        try:
            Recipe.parse(f"yolo11n+{recipe}")
        except RecipeError as error:
            refused[path, recipe] = str(error)
    assert refused == {}


@pytest.mark.parametrize(("english", "chinese"), TWINS, ids=lambda page: page.name)
def test_both_languages_have_the_same_sections_and_commands(english: Path, chinese: Path) -> None:
    assert len(headings(english)) == len(headings(chinese))
    assert [re.findall(r"`[^`]+`", heading) for heading in headings(english)] == [
        re.findall(r"`[^`]+`", heading) for heading in headings(chinese)
    ]
    asked = [{line for line in code(page) if re.match(r"attngraft |make |pip ", line)} for page in (english, chinese)]
    asked = [
        {re.sub(r"[^\x00-\x7f]+.*|(RECIPE_OR_CHECKPOINT|FOLDER).*", "", line) for line in lines} for lines in asked
    ]
    assert asked[0] == asked[1]


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


def headings(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.*)", text, re.MULTILINE)


class _Pooled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 5)


CAUSES: list[Callable[[], object]] = [
    lambda: nn.Conv2d(64, 64, 1)(torch.rand(1, 128, 20, 20)),
    lambda: torch.cat([torch.rand(1, 4, 40, 40), torch.rand(1, 4, 20, 20)], 1),
    lambda: nn.Conv2d(10, 10, 3, groups=4),
    lambda: nn.GroupNorm(16, 40),
    lambda: nn.MultiheadAttention(60, 8),
    lambda: torch.rand(1, 4, 400, 400) + torch.rand(1, 4, 196, 400),
    lambda: EMA(128, groups=7),
    lambda: torch.onnx.export(_Pooled(), (torch.rand(1, 2, 8, 8),), io.BytesIO(), opset_version=17, dynamo=False),
]


@pytest.mark.filterwarnings("ignore")  # the exporter announces its end
@pytest.mark.parametrize("cause", CAUSES, ids=range(len(CAUSES)))
def test_an_error_is_found_by_its_text(cause: Callable[[], object]) -> None:
    with pytest.raises(Exception) as found:  # noqa: PT011 (each cause raises its own)
        cause()
    said = " ".join(str(found.value).split())
    assert [line for line in code(GUIDE) if len(line) > 30 and line in said], said
