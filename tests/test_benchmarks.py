"""Stored results have the form that they claim."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
