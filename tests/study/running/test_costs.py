"""What arms cost: they are run on images of as many channels as the data have."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from attngraft.study.running import costs


def test_arms_of_grayscale_data_are_measured(gray_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SimpleNamespace(train={"imgsz": 64, "device": "cpu"}, first_seed=0)
    fixed = SimpleNamespace(plan=plan, arms=[SimpleNamespace(name="mhsa", model="attngraft-micro.yaml+mhsa@P3")])
    store = SimpleNamespace(training=lambda run: gray_model.parents[1])
    monkeypatch.setattr(costs.Fixed, "read", lambda folder: fixed)
    monkeypatch.setattr(costs, "Store", lambda folder: store)
    monkeypatch.setattr(costs, "ROUNDS", 2)
    costs.main(tmp_path)
    (row,) = json.loads((tmp_path / "costs.json").read_text())["measurements"]
    assert row["name"] == "mhsa"
    assert row["flops"] > 0
