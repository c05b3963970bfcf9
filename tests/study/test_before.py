"""A study that the version before wrote, 0.1.0: two seeds of a tiny model, trained by the host."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from attngraft.study.existing.records import read_records
from attngraft.study.study import Study

BEFORE = Path(__file__).parent / "data" / "before"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.open(shutil.copytree(BEFORE, tmp_path / "before"))


def test_its_plan_and_records_load(study: Study) -> None:
    records = study.records()
    assert [(record.arm, record.seed) for record in records] == [
        (arm, seed) for seed in (0, 1) for arm in ("stock", "noop", "eca@P3", "conv for eca@P3")
    ]
    assert study.plan.train["epochs"] == 1
    assert study.frozen_plan().hash == "0eaa74427601b8d4"


def test_its_report_is_written(study: Study) -> None:
    assert "eca@P3" in study.report().read_text()


def test_its_records_are_written_as_strict_json_and_read_back(study: Study) -> None:
    study.report()
    file = study.store.folder / "records.jsonl"
    lines = [json.loads(line, parse_constant=pytest.fail) for line in file.read_text(encoding="utf-8").splitlines()]
    assert any(line["numbers"]["APl"] is None for line in lines)  # no object is large
    for own, again in zip(study.records(), read_records(file)[0], strict=True):
        assert math.isnan(own.numbers["APl"])  # the version before wrote NaN
        assert repr(again.numbers) == repr(own.numbers)
        assert repr(again.per_class) == repr(own.per_class)
        assert again.curve == own.curve
