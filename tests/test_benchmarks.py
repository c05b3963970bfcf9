"""Stored results have the form that they claim."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from attngraft import bench

FOLDER = Path(__file__).parents[1] / "benchmarks"
RESULTS = sorted((FOLDER / "results").glob("*.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_result_satisfies_its_schema(file: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    stored = json.loads(file.read_text(encoding="utf-8"))
    described = [bench.schema(), *(json.loads(own.read_text(encoding="utf-8")) for own in FOLDER.glob("schema*.json"))]
    (schema,) = (one for one in described if one["properties"]["schema"]["const"] == stored["schema"])
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(stored, schema)


def test_every_script_is_in_the_list_and_in_make_bench() -> None:
    scripts = {file.name for file in FOLDER.glob("[a-z]*.py")}
    listed, made = (FOLDER / "README.md").read_text(), (FOLDER.parent / "Makefile").read_text()
    assert all(f"`{name}`" in listed and f"benchmarks/{name}" in made for name in scripts), scripts


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")
def test_what_is_timed_on_accelerators_only_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    mhsa = importlib.import_module("mhsa")
    H, W, d = 3, 5, 8
    q, k, v = (torch.randn(2, 2, H * W, d) for _ in range(3))
    tables = torch.randn(2 * H - 1, d), torch.randn(2 * W - 1, d)
    expected = mhsa.Textbook(H, W)(q, k, v, *tables)
    torch.testing.assert_close(mhsa.Flex(H, W, compiled=False)(q, k, v, *tables), expected)
