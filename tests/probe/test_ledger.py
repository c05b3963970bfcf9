"""Records are there whole or not at all, and never counted with those of another instrument."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from attngraft._core.errors import DataError, OutputError, PlanError
from attngraft.probe.instrument import Instrument
from attngraft.probe.ledger import Ledger, ProbeRunStatus, status_schema
from tests.probe.conftest import Make


def ledger(folder: Path) -> Ledger:
    made = Ledger(folder)
    made.open(Instrument())
    return made


def test_records_come_back_as_they_were(tmp_path: Path, made: Make) -> None:
    kept = ledger(tmp_path)
    records = [made(seed=seed, steps=None if seed else 250) for seed in range(3)]
    for record in records:
        kept.add(record)
    assert list(kept.records().values()) == records
    assert Ledger(tmp_path).records().keys() == {record.run for record in records}


def test_half_a_line_is_cut_off_before_the_next_record(tmp_path: Path, made: Make) -> None:
    kept = ledger(tmp_path)
    kept.add(made(seed=0))
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"instrument": "64a0')  # a kill in the middle of a write
    assert [run.seed for run in kept.records()] == [0]
    kept.add(made(seed=1))
    assert [run.seed for run in kept.records()] == [0, 1]


def test_a_line_that_is_no_record_is_named(tmp_path: Path, made: Make) -> None:
    kept = ledger(tmp_path)
    kept.add(made())
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match=r"line 2 of .*records.jsonl is no record of a probe; take it out"):
        kept.records()


def test_a_line_that_is_no_text_is_named(tmp_path: Path, made: Make) -> None:
    kept = ledger(tmp_path)
    kept.add(made())
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"line 2 of .*records.jsonl is no record of a probe; take it out"):
        kept.records()


def test_a_record_of_an_unknown_probe_is_not_passed_over(tmp_path: Path, made: Make) -> None:
    kept = ledger(tmp_path)
    kept.add(made(probe="twin"))
    with pytest.raises(DataError, match="line 1 of .* is of a probe 'twin', which this release does not have"):
        kept.records()


def test_a_record_of_another_instrument_is_refused(tmp_path: Path, made: Make) -> None:
    kept = ledger(tmp_path)
    kept.add(made(instrument="01234567"))
    with pytest.raises(DataError, match="line 1 of .* was taken with the instrument 01234567"):
        kept.records()


def test_a_folder_is_of_one_instrument(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    kept.open(Instrument())
    with pytest.raises(PlanError, match=r"epochs was 16, now 3.*name another folder"):
        kept.open(replace(Instrument(), epochs=3))
    (tmp_path / "instrument.json").write_text("[]")
    with pytest.raises(PlanError, match="is not what probes wrote"):
        kept.instrument()
    with pytest.raises(PlanError, match="holds no probes; begin with"):
        Ledger(tmp_path / "none").instrument()


@pytest.mark.parametrize("name", ["records.jsonl", "report.md", "figure.png"])
def test_a_folder_with_files_of_the_users_is_not_filled(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"holds {name}, which is of no probes"):
        ledger(tmp_path).open(Instrument())
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_status_keeps_to_its_schema(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    kept.tell("running", 12.5, [ProbeRunStatus("mhsa", "reach", False, 0, "running", 2, 0.75)])
    status = json.loads((tmp_path / "status.json").read_text())
    jsonschema.validate(status, status_schema())
    assert status["runs"][0]["accuracy"] == 0.75
