"""The whole table: a healthy module passes it, one cause is one failure, and no check is without a break."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from attngraft.doctor import MODULE_CHECKS, Finding, diagnose, examine, subject
from tests.doctor.mechanism.broken import BROKEN, CHECKS, FixedTable, InPlace, Noisy, WritesToInput

HEALTHY = '''
from torch import nn

class Healthy(nn.Module):
    """Attention over the channels, so that memory stays linear, with a gate that starts at zero."""

    def __init__(self, channels):
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.gamma = nn.Parameter(self.qkv.weight.new_zeros(1))

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).chunk(3, 1)  # (B, C, N)
        mixed = (q.softmax(-1) @ k.softmax(1).transpose(1, 2)) @ v  # (B, C, N)
        return x + self.gamma * mixed.reshape(x.shape)
'''


def examined(cls: type[nn.Module]) -> dict[str, Finding]:
    """Run every check that needs no other process and no exporter."""
    slow = ("torchscript", "onnx", "openvino", "reload")
    return {f.name: f for f in examine(subject(cls), [item for item in MODULE_CHECKS if item.name not in slow])}


def test_one_cause_is_one_failure() -> None:
    found = examined(FixedTable)
    assert [f.name for f in found.values() if f.status == "fail"] == ["sizes"]
    same = [f for f in found.values() if f.status == "skip"]
    assert {f.detail for f in same} == {"same as 'sizes': fix that first"}
    assert {"widths", "gradient", "dead maps", "true flops", "memory growth"} <= {f.name for f in same}


@pytest.mark.parametrize(("cls", "cause"), [(InPlace, "input kept"), (WritesToInput, "input kept"), (Noisy, "repeats")])
def test_what_cannot_be_trusted_is_not_looked_at(cls: type[nn.Module], cause: str) -> None:
    found = examined(cls)
    assert [f.name for f in found.values() if f.status == "fail"] == [cause]
    left_out = {f.name for f in found.values() if f.status == "skip"}
    assert {"batch", "half precision", "deepcopy", "channels last"} <= left_out
    assert {found[name].detail for name in left_out} == {f"needs {cause!r}, which failed"}
    assert found["gradient"].status == "pass"


def test_every_check_has_something_it_catches() -> None:
    elsewhere = {"true flops", "memory growth"}
    assert {name for name, *_ in BROKEN} | elsewhere == set(CHECKS)


@pytest.fixture
def healthy_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "healthy_mechanism.py"
    path.write_text(HEALTHY)
    yield path
    sys.modules.pop(path.stem, None)


def test_a_healthy_module_passes_all(healthy_file: Path) -> None:
    pytest.importorskip("openvino", reason="needs the [export] extra")
    target = f"{healthy_file}:Healthy"
    diagnosis = diagnose(target, subject(target), MODULE_CHECKS)
    assert diagnosis.healthy
    assert [f.name for f in diagnosis.findings if f.status != "pass"] == ["reload"], str(diagnosis)
    (reload,) = [f for f in diagnosis.findings if f.name == "reload"]
    assert (reload.status, str(healthy_file.parent) in reload.detail) == ("warn", True)
    assert "PYTHONPATH" in reload.remedy
