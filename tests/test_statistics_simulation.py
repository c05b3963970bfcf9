"""The simulation of what is promised: in small, at broken rules, and what its published results say."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from attngraft.study.judging import decision as decision_module
from attngraft.study.judging import sequential

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "statistics"
STUDIES = 1200
QUICK = (
    "world: normal | arms: 3 | SESOI: 0.2 | seeds: looks 3-15",
    "world: normal | arms: 6 | SESOI: 0.5 | seeds: fixed 5",
    "world: normal, image sd 0.2 | arms: 3 | SESOI: 0.2 | seeds: fixed 8",
    "world: all fail half | arms: 3 | SESOI: 0.5 | seeds: looks 3-15",
    "world: fails 20 % by 45 AP | arms: 1 | seeds: looks 3-15",
    "false no difference | world: normal | seeds: looks 3-15",
    "extension | seeds: fixed 5, extended to 10 | image sd: 0.2 | arms: 1",
    "gatekeeping | arms: 3 | real: one | convolutions: as good | seeds: looks 3-15",
    "few images | images: 100 in 20 groups | seeds: fixed 5 | rule: shipped",
    "rounded numbers | step: 0.1 | sd: 0.1 | effect: 0.0 | seeds: fixed 2 | rule: shipped",
    "search | image sd: 0.8 | confirmed on: half",
    "power of a fixed plan | sd: 0.3 | effect: 0.5",
)
"""Rows that are tried at every change; the whole takes an hour."""


STATED = re.compile(r"(\d+\.\d+)<!-- (max|min); (.*?); (.*?); (.*?) -->")
"""A number in prose, and where it is from: the largest or least of a part's rows whose key has all of some words."""

PAGES = ("docs/method.md", "docs/method.zh-CN.md", "README.md", "README.zh-CN.md")


@pytest.fixture(scope="module")
def simulate() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("simulate")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in json.loads((FOLDER / "results.json").read_text())["rows"]}


def beyond(simulate: ModuleType, key: str, studies: int = STUDIES) -> float:
    """Return by how many Monte Carlo errors a row misses its promise; negative where it keeps it."""
    cells = [cell for cell in simulate.cells() if key in cell.key]
    assert cells, key
    found = cells[0].run(studies)
    value, error = found[cells[0].promised]
    missed = value - cells[0].most if cells[0].most is not None else cells[0].least - value
    return missed / max(error, 0.02 / np.sqrt(studies))


@pytest.mark.parametrize("key", QUICK)
def test_promises_are_kept(simulate: ModuleType, key: str) -> None:
    assert beyond(simulate, key) < 3.5


def test_without_holm_the_simulation_fails(simulate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_module, "holm", lambda p: p)
    assert beyond(simulate, "world: normal | arms: 6 | SESOI: 0.5 | seeds: fixed 5") > 5


def test_with_unadjusted_looks_the_simulation_fails(simulate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequential.Looks, "p_values", lambda self, p, freedom=None: np.minimum.accumulate(p, -1))
    assert beyond(simulate, "world: normal | arms: 1 | SESOI: 0.2 | seeds: looks 3-15") > 5


def test_with_extensions_at_full_alpha_the_simulation_fails(
    simulate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(stages: list[np.ndarray], planned: object, correlation: object = 0.0) -> np.ndarray:
        return np.minimum.reduce(list(np.broadcast_arrays(*stages)))

    monkeypatch.setattr("attngraft.study.judging.design.combine", careless)
    assert beyond(simulate, "extension | seeds: fixed 5, extended six times by 5 | image sd: 0.0 | arms: 1") > 5


def test_without_effective_images_the_simulation_fails(simulate: ModuleType) -> None:
    row = next(c for c in simulate.cells() if "images: 100 in 10 groups | seeds: fixed 5 | rule: normal" in c.key)
    assert row.run(STUDIES)["false better or worse"][0] > 0.1


def test_with_rounding_ignored_the_simulation_fails(simulate: ModuleType) -> None:
    key = "rounded numbers | step: 0.1 | sd: 0.1 | effect: 0.0 | seeds: fixed 2 | rule: rounding ignored"
    row = next(c for c in simulate.cells() if c.key == key)
    assert row.run(STUDIES)["false verdict"][0] > 0.08


def test_rows_are_kept_and_interrupted_runs_go_on(
    simulate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["simulate.py", "--out", str(tmp_path), "--scale", "0.001", "--only", "peeking"]
    monkeypatch.setattr(sys, "argv", words)
    simulate.main()
    assert capsys.readouterr().out.count("peeking") == 3
    first = (tmp_path / "results.json").read_text()
    simulate.main()
    assert capsys.readouterr().out == ""
    assert (tmp_path / "results.json").read_text() == first


def test_the_published_page_is_made_from_the_published_results(
    simulate: ModuleType, published: dict[str, dict[str, Any]]
) -> None:
    order = [published[cell.key] for cell in simulate.cells() if cell.key in published]
    assert len(order) == len(published)
    assert (FOLDER / "README.md").read_text() == simulate.page(order)
    for row in order:
        cell = next(cell for cell in simulate.cells() if cell.key == row["key"])
        assert row["kept"] == cell.kept(row["found"])


@pytest.mark.parametrize("page", PAGES)
def test_numbers_in_prose_are_those_of_the_results(page: str, published: dict[str, dict[str, Any]]) -> None:
    text = (FOLDER.parents[1] / page).read_text()
    stated = STATED.findall(text)
    assert stated
    wrong = []
    for number, extreme, part, words, measure in stated:
        wanted = [word.strip().replace("¦", "|") for word in words.split(" & ")]
        rows = [row for key, row in published.items() if row["part"] == part and all(word in key for word in wanted)]
        values = [row["found"][measure][0] for row in rows if measure in row["found"]]
        assert values, (number, part, words, measure)
        value = max(values) if extreme == "max" else min(values)
        decimals = len(number.partition(".")[2])
        if f"{value:.{decimals}f}" != number:
            wrong.append(f"{number} is {value:.{decimals}f}: {extreme} of {part}, {words}, {measure}")
    assert not wrong, "\n".join(wrong)
