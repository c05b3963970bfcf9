"""What does not survive a copy, a reload or an export is caught by its check."""

from __future__ import annotations

import re
import sys
import types

import pytest
from torch import Tensor, nn

from attngraft.doctor.mechanism import survival
from tests.doctor.mechanism.broken import CHECKS, Plain, find, require_caught, rows_of


@rows_of(survival)
def test_every_check_catches_what_it_is_for(name: str, cls: type[nn.Module], detail: str) -> None:
    require_caught(name, cls, detail)


def test_a_class_that_a_new_process_cannot_find_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_in_this_process")
    cls = type("Lost", (Plain,), {"__module__": module.__name__})
    module.Lost = cls
    monkeypatch.setitem(sys.modules, module.__name__, module)
    finding = find(CHECKS["reload"], cls)
    assert finding.status == "fail"
    assert "ModuleNotFoundError: No module named 'only_in_this_process'" in finding.detail


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_of_an_export_is_skipped_with_the_pip_line(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    finding = find(CHECKS["onnx"], Plain)
    assert finding.status == "skip"
    assert "pip install 'attngraft[export]'" in finding.detail


class Branches(Plain):
    """Decides by the values of a map: one way for the one that is traced, the other for the larger one."""

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().sum() > 8000:
            return 2 * super().forward(x)
        return super().forward(x)


def test_a_branch_that_an_export_keeps_is_named_by_its_line() -> None:
    finding = find(CHECKS["torchscript"], Branches)
    assert finding.status == "fail"
    assert re.match(r"look at test_survival.py, line \d+: if x.abs\(\).sum\(\) > 8000: \(an export", finding.remedy)
