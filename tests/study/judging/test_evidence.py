"""Which runs are pairs, and in which order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from attngraft.study.judging.evidence import Evidence
from attngraft.study.study import Study

Make = Callable[..., Study]


def change(study: Study, name: str, **facts: Any) -> None:
    """Change what a record says of how its run was made."""
    file = study.store.records / f"{name}.json"
    record = json.loads(file.read_text())
    record["watch"] |= facts
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "facts", [{"batch": 4}, {"pictures": ["ffff", 1]}, {"weights": ["ffff", 83]}, {"batches": ["x"] * 6}]
)
def test_a_run_that_is_no_pair_is_left_out(made_study: Make, facts: dict[str, Any]) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1, "se@P3": 0.1}, seeds=4, controls="stock")
    change(study, "eca@P3-s2", **facts)
    evidence = Evidence.of(study.store, study.fixed())
    assert evidence.seeds("eca@P3") == [0, 1, 3]
    assert evidence.seeds("se@P3") == [0, 1, 2, 3]
    assert study.results.arm("eca@P3").estimate.seeds == 3
    assert "eca@P3 at seed 2, left out of the comparison" in study.report().read_text()


def test_a_baseline_that_differs_leaves_its_seed_to_nobody(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1, "se@P3": 0.1}, seeds=3, controls="stock")
    change(study, "stock-s1", batch=4)
    evidence = Evidence.of(study.store, study.fixed())
    assert evidence.seeds("eca@P3") == evidence.seeds("se@P3") == [0, 2]


def test_runs_of_a_program_that_notes_nothing_are_pairs(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=3, controls="stock")
    for file in study.store.records.glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"watch": {}}))
    assert Evidence.of(study.store, study.fixed()).seeds("eca@P3") == [0, 1, 2]
