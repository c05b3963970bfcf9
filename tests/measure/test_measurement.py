"""The report and its schema say the same."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from attngraft import measure
from attngraft.measure import Environment, Measurement, Report, Timing


@pytest.fixture(scope="module")
def report() -> Report:
    modules = {"conv": nn.Conv2d(8, 8, 1), "batch norm": nn.BatchNorm2d(8)}
    return measure.measure(modules, torch.randn(2, 8, 6, 5, requires_grad=True), rounds=4, warmup=1)


def test_the_report_satisfies_its_schema(report: Report) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(measure.schema())
    stored = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    jsonschema.validate(stored, measure.schema())
    stored["measurements"][0]["flops"] = 1.5
    with pytest.raises(jsonschema.ValidationError, match=r"1\.5 is not"):
        jsonschema.validate(stored, measure.schema())


@pytest.mark.parametrize(
    ("record", "name"), [(Environment, "Environment"), (Measurement, "Measurement"), (Timing, "Timing")]
)
def test_the_schema_names_every_field(record: type, name: str) -> None:
    described = measure.schema()["$defs"][name]
    fields = [field.name for field in dataclasses.fields(record)]
    assert list(described["properties"]) == described["required"] == fields


def test_figures_are_each_modules_own(report: Report) -> None:
    conv, norm = report.measurements
    assert (conv.parameters, conv.weight_bytes, conv.flops) == (72, 288, 2 * 2 * 30 * 64)
    assert conv.train_flops == 3 * conv.flops
    assert (norm.parameters, norm.flops) == (16, 0)
    assert conv.inputs == ((2, 8, 6, 5),)
    assert conv.peak_bytes == 2 * 8 * 30 * 4
    assert conv.train_peak_bytes > conv.peak_bytes
    assert conv.latency.ratio == conv.train_latency.ratio == 1
    assert norm.latency.ratio != 1


def test_measuring_leaves_running_statistics_alone() -> None:
    norm = nn.BatchNorm2d(8)
    measure.measure({"norm": norm}, torch.randn(2, 8, 4, 4) + 5, rounds=2, warmup=1)
    assert norm.running_mean.abs().sum() == 0
    assert norm.num_batches_tracked == 0
