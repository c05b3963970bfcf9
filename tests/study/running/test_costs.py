"""What arms cost: they are run on images of as many channels as the data have."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest

from attngraft.study import Study
from attngraft.study.existing.records import judge_records
from attngraft.study.running import costs
from attngraft.study.running.records import Run


def test_arms_of_grayscale_data_are_measured(gray_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SimpleNamespace(data="gray.yaml", train={"imgsz": 64, "device": "cpu"}, first_seed=0)
    arms = [SimpleNamespace(name=name, model=f"attngraft-micro.yaml+{name}@P3") for name in ("eca", "mhsa")]
    frozen = SimpleNamespace(plan=plan, arms=arms)
    kept = {"eca": tmp_path / "none", "mhsa": gray_model.parents[1]}  # the checkpoint of one arm alone is here
    store = SimpleNamespace(training=lambda run: kept[run.arm.name])
    monkeypatch.setattr(costs.FrozenPlan, "read", lambda folder: frozen)
    monkeypatch.setattr(costs, "Store", lambda folder: store)
    monkeypatch.setattr(costs, "ROUNDS", 2)
    costs.main(tmp_path)
    rows = json.loads((tmp_path / "costs.json").read_text())["measurements"]
    assert [row["name"] for row in rows] == ["eca", "mhsa"]
    assert all(row["flops"] > 0 for row in rows)


def test_why_costs_are_missing_is_reported_and_they_are_measured_the_next_time(
    made_study: Callable[..., Study],
) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=3, controls="stock")
    store = study.store
    (store.folder / "costs.json").unlink()
    last = store.training(Run(study.frozen_plan().arm("eca@P3"), 0)) / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"half a checkpoint")
    assert costs.measure_costs(store)["measurements"] == []
    note = study.results.costs_note
    assert note.startswith("costs could not be measured: ")
    assert "last.pt" in note
    study.report()
    assert "Costs could not be measured: " in (store.folder / "report.md").read_text()
    assert f"C{note[1:]}" in unescape((store.folder / "report.html").read_text())
    assert judge_records(store.folder).costs_note == note

    last.unlink()
    costs.measure_costs(store)
    assert study.results.costs_note == ""
    assert study.results.arm("eca@P3").cost.latency is not None
