"""The simulation in small, and what its committed results promise."""

from __future__ import annotations

import importlib.util
import json
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "studies" / "simulation"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attngraft_simulation", FOLDER / "simulate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads((FOLDER / "results.json").read_text())["parts"]


def margin(share: float, studies: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * float(np.sqrt(share * (1 - share) / studies))


def test_false_verdicts_under_the_null(simulation: ModuleType) -> None:
    for row in islice(simulation.family_wise_error(1000), 12, 18):
        assert 0.01 < row["false verdicts"] <= 0.05 + margin(0.05, 1000), row


def test_coverage_at_three_seeds(simulation: ModuleType) -> None:
    rows = [*simulation.coverage(300, resamples=100, images=100, counts=(3,))]
    for row in rows:
        assert 0.93 - margin(0.95, 300) <= row["ours"] <= 0.97 + margin(0.95, 300), row
    assert rows[0]["percentile bootstrap"] < 0.8


def test_coverage_after_looks(simulation: ModuleType) -> None:
    for row in simulation.coverage_after_looks(50, effects=(0.3,)):
        assert row["ours"] >= 0.95 - margin(0.95, 50), row


def test_power_of_the_table(simulation: ModuleType) -> None:
    for row in simulation.power_table(2000):
        assert row["power with one fewer"] <= 0.8 + margin(0.8, 2000), row
        assert row["power"] >= 0.8 - margin(0.8, 2000), row


def test_looking_saves_runs(simulation: ModuleType) -> None:
    saved = {row["effects in SESOI"]: row["saved"] for row in islice(simulation.runs_saved(300), 4)}
    assert saved["0, 0, 2, 3"] >= 0.38
    assert saved["0, 0, 0, 0"] < saved["0, 0, 1, 2"] + 0.05 < saved["0, 0, 2, 3"] < saved["2, 2, 2, 2"]


def test_the_committed_results_keep_the_promises(results: dict) -> None:
    assert all(
        row["false verdicts"] <= 0.05 + margin(0.05, 20000) for row in results["family-wise error under the null"]
    )
    for row in results["false verdicts with true effects"]:
        assert row["false better or worse"] <= 0.05 + margin(0.05, 20000)
        assert row["false no difference, worst arm"] <= 0.05 + margin(0.05, 20000)
    for row in results["coverage of the 95 % interval"]:
        assert 0.93 - margin(0.95, 2000) <= row["ours"] <= 0.97 + margin(0.95, 2000), row
    for row in results["coverage after looks"]:
        assert 0.93 - margin(0.95, 1000) <= row["ours"] <= 0.97 + margin(0.95, 1000), row
    mixed = [row for row in results["runs saved by looking"] if row["effects in SESOI"] == "0, 0, 2, 3"]
    assert [row["saved"] >= 0.4 for row in mixed] == [True, True]


def test_the_committed_page_is_made_from_the_committed_results(simulation: ModuleType, results: dict) -> None:
    about = json.loads((FOLDER / "results.json").read_text())["about"]
    assert (FOLDER / "README.md").read_text() == simulation.markdown(results, about)
