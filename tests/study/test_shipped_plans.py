"""The plans that are shipped can be read, and their arms differ in what they say they do."""

from __future__ import annotations

from pathlib import Path

import pytest
from ultralytics.nn import tasks

import attngraft
from attngraft.study import Plan

ROOT = Path(__file__).parents[2]


def test_botnet_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = Plan.read("examples/plans/botnet_positions.yaml")
    stock, *arms = [tasks.yaml_model_load(attngraft.Recipe.parse(arm.model).base) for arm in plan.recipes()]
    positions = [arm["backbone"][0][3][2].pop("position") for arm in arms]
    assert positions == ["relative", "absolute", "none"]
    assert stock["backbone"][0][3][1] == "resnet50"
    for arm in arms:
        assert arm["backbone"][0][3] == ["ch", "botnet50", {"image_size": 320}]
        assert (arm["head"], arm["scale"]) == (stock["head"], stock["scale"])
