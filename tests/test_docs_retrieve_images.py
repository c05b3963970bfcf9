"""What docs/retrieve.md says of images is what the benchmarks stored, and the stored files have their form."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks/retrieve/images"
PAGES = [ROOT / "docs/retrieve.md", ROOT / "docs/retrieve.zh-CN.md"]
STATED = re.compile(r"([+-]?\d\.\d{3})<!--@ ([^;]+); ([^;]+); ([^;]+); ([^;]+); (\w+) -->")
RESULTS = sorted(file for file in FOLDER.glob("*.json") if file.name != "schema.json")


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def stored(script: str, case: str, measure: str, row: str, which: str) -> float:
    """Return the stored figure that a mark on the page names."""
    if script == "probe":
        (found,) = (one for one in load("factors")["probes"] if (one["rule"], one["seed"]) == (case, int(measure)))
        what, number = row.split()
        return float(found[what][int(number)][found["factors"].index(which)])
    (of_case,) = (one for one in load(script)["cases"] if one["name"] == case)
    values = of_case["measures"][measure]
    if " - " not in row:
        return float(values["rows"][row][which])
    (found,) = (one for one in values["differences"] if [one["row"], one["less"]] == row.split(" - "))
    return float(found[which])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_are_the_stored_ones(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [match.groups() for match in STATED.finditer(text)]
    assert len(found) == text.count("<!--@ ") > 80
    wrong = [(said, *mark) for said, *mark in found if f"{stored(*mark):.3f}" != said.lstrip("+")]
    assert wrong == []


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_result_satisfies_its_schema(file: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(file.read_text(encoding="utf-8")), schema)
    for case in load(file.stem)["cases"]:
        for values in case["measures"].values():
            for row in [*values["rows"].values(), *values["differences"]]:
                assert row["low"] <= row["mean"] <= row["high"]
                assert row["mean"] == pytest.approx(np.mean(row["by_seed"]), abs=1e-3)


def test_every_script_is_listed_and_in_make_bench() -> None:
    scripts = {file.name for file in FOLDER.glob("[a-z]*.py")} - {"nets.py", "detectors.py"}
    assert scripts == {f"{file.stem}.py" for file in RESULTS}
    for name in scripts:
        assert f"`{name}`" in (FOLDER / "README.md").read_text()
        assert f"benchmarks/retrieve/images/{name} --quick" in (ROOT / "Makefile").read_text()


def test_information_is_none_of_independent_values_and_all_of_equal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ir_measures")
    monkeypatch.syspath_prepend(FOLDER)
    information = importlib.import_module("factors").information
    values = np.arange(400) % 4
    same = np.repeat(values[:, None], 5, 1)
    assert information(values, same, 4) == pytest.approx(1)
    assert information(values, np.broadcast_to(np.arange(4), (400, 4)), 4) == pytest.approx(0, abs=1e-12)
    assert information(values, same // 2, 4) == pytest.approx(0.5)  # one of two bits


def test_chance_of_a_class_is_the_share_of_draws_that_meet_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    met_by_chance = importlib.import_module("_rows").met_by_chance
    rng = np.random.default_rng(0)
    drawn = [(rng.permutation(30)[:6] < 4).any() for _ in range(4000)]
    assert met_by_chance([4], 30, 6) == pytest.approx(np.mean(drawn), abs=0.03)
