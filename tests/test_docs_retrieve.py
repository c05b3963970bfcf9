"""What docs/retrieve.md says of evaluation: its figures are the stored ones, and its adapters run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from attngraft.retrieve import Index
from attngraft.retrieve.evaluation import METHODS, Results
from tests.retrieve.toy import Letters

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/retrieve.md"
PAGES = [PAGE, PAGE.with_name("retrieve.zh-CN.md")]
STATED = re.compile(r"([+-]?\d\.\d{3})<!-- (\w+); ([\w-]+(?: - [\w-]+)?); (\w+); ([\w>=-]+) -->")


def stored(model: str, what: str, which: str, group: str) -> float:
    """Return a stored figure: of a row (documents, categories), or of a difference (mean, low, high)."""
    results = Results.load(ROOT / f"benchmarks/retrieve/text-{model}.json")
    if " - " in what:
        return float(getattr(results.difference(*what.split(" - "), group), which))
    scores = results.row(what).on(group)
    found = scores.success if which == "documents" else scores.category
    assert found is not None
    return found.mean


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_are_the_stored_ones(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [match.groups() for match in STATED.finditer(text)]
    assert len(found) == len(re.findall(r"<!-- \w+; ", text)) > 30
    wrong = {(said, *mark) for said, *mark in found if f"{stored(*mark):.3f}" != said.lstrip("+")}
    assert wrong == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_is_explained(page: Path) -> None:
    named = set(re.findall(r"`([\w-]+)`", page.read_text(encoding="utf-8")))
    assert set(METHODS) <= named


def blocks(package: str) -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [block for block in found if f"from {package}" in block]


@pytest.fixture
def given() -> dict[str, Any]:
    texts = {f"d{n}": text for n, text in enumerate(["tides and harbours", "ropes", "winds", "charts", "sand", "sea"])}
    index = Index.build([{"_id": name, "text": text} for name, text in texts.items()], model=Letters(), preset=None)
    return {"index": index, "texts": texts}


def test_langchain_takes_the_retriever(given: dict[str, Any]) -> None:
    pytest.importorskip("langchain_core", reason="needs langchain-core")
    (block,) = blocks("langchain_core")
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    exec(compile(block, str(PAGE), "exec"), given)
    documents = given["documents"]
    assert documents[0].page_content == "tides and harbours"
    assert [one.id for one in documents] == [hit.id for hit in given["index"].search("tides and harbours", 5)]


@pytest.mark.filterwarnings("ignore")  # its dependencies announce the end of this and that
def test_llama_index_takes_the_retriever(given: dict[str, Any]) -> None:
    pytest.importorskip("llama_index.core", reason="needs llama-index-core")
    (block,) = blocks("llama_index")
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    exec(compile(block, str(PAGE), "exec"), given)
    nodes = given["nodes"]
    assert nodes[0].node.get_content() == "tides and harbours"
    assert [one.score for one in nodes] == [hit.votes for hit in given["index"].search("tides and harbours", 5)]
