"""One broken module for every check, which it must catch, and a healthy one that all must pass."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attngraft._core.registry import register, unregister
from attngraft.attention import Attention
from attngraft.doctor import MODULE_CHECKS, Check, Finding, Subject, diagnose, examine, subject
from attngraft.doctor.mechanism.resources import growth

CHECKS = {item.name: item for item in MODULE_CHECKS}

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


class Plain(nn.Module):
    """What the broken ones have in common: one weight for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Halves(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, ::2]


class DoubleInside(Plain):
    """Half precision converts the buffer and hides it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("scale", torch.ones(channels, 1, 1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class NoVarianceOfOne(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * _variance(x).sigmoid()


def _variance(x: Tensor) -> Tensor:
    """Return `x.var((2, 3), keepdim=True)`, which warns besides."""
    off = x - x.mean((2, 3), keepdim=True)
    return off.square().sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)


class FixedTable(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.table = nn.Parameter(torch.zeros(channels, 20, 20))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.table


class RefusesWidths(Plain):
    def __init__(self, channels: int) -> None:
        if channels % 128 and channels != 64:
            raise ValueError("channels must be a multiple of 128")
        super().__init__(channels)


class OneWidth(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(64)


class RankFive(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("table", torch.zeros(1, 4, channels, 1, 7), persistent=False)


class ChildCalledType(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.type = nn.Identity()


class Detached(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.detach()


class CutsTheGraph(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach() * self.weight


class UnitLength(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / x.norm(dim=1, keepdim=True))


class RootOfZero(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (x * x).sum(1, keepdim=True).sqrt()  # finite at zero, its gradient is not


class Explodes(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x * (10 * self.weight) ** 4


class StandsStill(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * self.weight


class FloatInside(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.ones(1, 1, 1, 1)


class Overflows(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 1e5) * 1e-5


class Coarse(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (x + 1e4) - (x + 1e4).float().to(x.dtype).relu().sub(x * 0.5)


class Noisy(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3 * torch.rand_like(x)


class MixesBatch(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x.softmax(0)


class InPlace(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        x += 1
        return super().forward(x)


class WritesToInput(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return super().forward(x)


class FailsInTraining(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("no training here")
        return super().forward(x)


class KeepsItsOutput(Plain):
    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        return self.last


class CachesBySize(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.cache: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        size = (int(x.shape[2]), int(x.shape[3]))
        if size not in self.cache:
            self.cache[size] = torch.rand(size)
        return super().forward(x) * self.cache[size]


class ViewsMaps(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).view(x.shape[0], -1).view(x.shape)


class StateOutside(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.scale = torch.rand(1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class HoldsALambda(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.activation = lambda x: x


class Frozen(Plain):
    """Works in Python at every size; a trace keeps the first one."""

    def forward(self, x: Tensor) -> Tensor:
        H, W = int(x.shape[2]), int(x.shape[3])
        return super().forward(x) + torch.linspace(0, 1, H * W).view(H, W)


class Quadratic(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, 2)  # (B, N, C)
        y = (q @ k.transpose(1, 2)).softmax(-1) @ v  # (B, N, C)
        return y.transpose(1, 2).reshape(x.shape)


BROKEN = [
    ("builds", Halves, r"returns \(2, 64, 10, 20\) for \(2, 64, 20, 20\)"),
    ("builds", DoubleInside, r"^returns torch.float64 for torch.float32$"),
    ("sizes", NoVarianceOfOne, r"^1x1: values are not finite$"),
    ("sizes", FixedTable, r"^1x1: returns \(1, 64, 20, 20\) for .*; 2x3, .*, 40x40: RuntimeError[^;]*$"),
    ("widths", OneWidth, "^128, .*, 768 channels: RuntimeError[^;]*$"),
    ("widths", RefusesWidths, r"does not build at 192, 320, 576 \(ValueError: channels must be a multiple of 128\)$"),
    ("host", RankFive, "table has rank 5"),
    ("host", ChildCalledType, "a child is called 'type'"),
    ("gradient", Detached, "none reaches weight$"),
    ("gradient", CutsTheGraph, "none reaches the input$"),
    ("dead maps", UnitLength, "the output at 0"),
    ("dead maps", RootOfZero, "not finite: its gradient at 0$"),
    ("training", Explodes, "the loss is (inf|nan) at step [1-9]"),
    ("training", StandsStill, "no parameter moved in 20 steps"),
    ("half precision", FloatInside, "^bfloat16, float16: returns torch.float32$"),
    ("half precision", Overflows, "^float16: values or gradients are not finite$"),
    ("half precision", Coarse, "bfloat16 .*% off"),
    ("repeats", Noisy, "two calls differ by .*e-04"),
    ("batch", MixesBatch, "changes by .* with its neighbours"),
    ("input kept", InPlace, "modified in inference mode"),
    ("deepcopy", KeepsItsOutput, "RuntimeError: Only Tensors created explicitly"),
    ("training after validation", CachesBySize, "RuntimeError: Inference tensors cannot be saved for backward"),
    ("channels last", ViewsMaps, "RuntimeError: view size is not compatible"),
    ("reload", StateOutside, "a fresh module with its state dict gives other numbers"),
    ("reload", HoldsALambda, "Error: Can't"),
    ("torchscript", Frozen, "^fails at .*15, 7"),
    ("onnx", Frozen, "^fails at .*15, 7"),
    ("openvino", Frozen, r"gives {'y0': \(1, 64, 10, 12\)} at"),
]
WARNINGS = {RefusesWidths, Coarse}


def find(check: Check[Subject], cls: type[nn.Module], **circumstances: object) -> Finding:
    (finding,) = examine(subject(cls, **circumstances), [check])
    return finding


@pytest.mark.parametrize(("name", "cls", "detail"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_every_check_catches_what_it_is_for(name: str, cls: type[nn.Module], detail: str) -> None:
    if name in ("onnx", "openvino"):
        pytest.importorskip({"onnx": "onnxruntime"}.get(name, name), reason="needs the [export] extra")
    finding = find(CHECKS[name], cls)
    assert finding.status == ("warn" if cls in WARNINGS else "fail"), finding.detail
    assert re.search(detail, finding.detail), finding.detail
    assert finding.remedy


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


def test_an_error_that_no_check_expects_names_the_line_that_raises() -> None:
    finding = find(CHECKS["gradient"], FailsInTraining)
    assert (finding.status, finding.detail) == ("fail", "RuntimeError: no training here")
    assert re.match(r'look at test_checks.py, line \d+: raise RuntimeError\("no training here"\)$', finding.remedy)


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


def test_a_class_that_a_new_process_cannot_find_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_in_this_process")
    cls = type("Lost", (Plain,), {"__module__": module.__name__})
    module.Lost = cls
    monkeypatch.setitem(sys.modules, module.__name__, module)
    finding = find(CHECKS["reload"], cls)
    assert finding.status == "fail"
    assert "ModuleNotFoundError: No module named 'only_in_this_process'" in finding.detail


@contextmanager
def registered(cls: type[Attention], **fields: str) -> Iterator[type[Attention]]:
    try:
        yield register(name="made_for_a_test", **fields)(cls)
    finally:
        unregister("made_for_a_test")


class OneConvolution(Attention):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(("cost", "status"), [("N * C**2", "pass"), ("N * C", "fail")])
def test_a_cost_formula_is_held_against_the_count(cost: str, status: str) -> None:
    with registered(OneConvolution, cost=cost):
        finding = find(CHECKS["true flops"], OneConvolution)
    assert finding.status == status
    assert "3.277 MFLOPs at 20x20" in finding.detail
    assert (finding.status == "pass") or "claims 0.0512" in finding.detail


def test_memory_that_does_not_fit_is_refused_with_the_number() -> None:
    finding = find(CHECKS["memory growth"], Quadratic, channels=8, largest=(2000, 2000), batch=4)
    assert finding.status == "fail"
    side = int(finding.detail.rpartition("x")[2])
    assert "GiB at 2000x2000, batch 4; grows quadratically" in finding.detail
    assert "GiB are free, enough for" in finding.detail
    assert 20 < side < 1000


def test_quadratic_memory_is_a_warning_where_it_fits() -> None:
    finding = find(CHECKS["memory growth"], Quadratic, channels=8, largest=(20, 20), batch=1)
    assert finding.status == "warn"
    assert "grows quadratically" in finding.detail


def test_a_record_that_claims_linear_memory_is_held_to_it() -> None:
    class Claims(Quadratic, Attention):
        def __init__(self, channels: int) -> None:
            Attention.__init__(self, channels)
            self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    with registered(Claims, growth="N"):
        finding = find(CHECKS["memory growth"], Claims, channels=8, largest=(20, 20), batch=1)
    assert (finding.status, finding.remedy) == ("fail", "correct the record, or the kernel")
    assert "its record claims linear memory" in finding.detail


@pytest.mark.parametrize(
    ("peaks", "at_100", "quadratic"),
    [
        ({10: 1030, 20: 1060, 30: 1090}, 1300, False),
        ({10: 5230, 20: 5860, 30: 6890}, 25300, True),
        ({10: 400, 20: 500, 30: 520}, 660, False),  # tiles that fill up: the last slope goes on
    ],
    ids=["linear", "quadratic", "saturating"],
)
def test_growth_is_fitted_and_extended(peaks: dict[int, int], at_100: float, quadratic: bool) -> None:
    bytes_at, found = growth(peaks)
    assert (bytes_at(100), found) == (at_100, quadratic)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_of_an_export_is_skipped_with_the_pip_line(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    finding = find(CHECKS["onnx"], Plain)
    assert finding.status == "skip"
    assert "pip install 'attngraft[export]'" in finding.detail
