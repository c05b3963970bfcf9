"""Modules broken in one way each, with the check that must catch it and what it must say."""

from __future__ import annotations

import re
import types

import pytest
import torch
from torch import Tensor, nn

from attngraft.doctor import MODULE_CHECKS, Check, Finding, Subject, examine, subject

CHECKS = {item.name: item for item in MODULE_CHECKS}


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


class ForOneSize(Plain):
    """As the pasted MHSA: a table for 14 x 14 cells."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.table = nn.Parameter(torch.zeros(channels, 14 * 14))

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x).flatten(2) + self.table).view(x.shape)


class HidesModules(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.heads = [nn.Conv2d(channels, channels, 1)]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.heads[0](x)


class MakesLayersInForward(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Conv2d(x.shape[1], x.shape[1], 1)
        return self.late(super().forward(x))


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


class CountsImages(Plain):
    """Gives the numbers of its input, and a gradient that grows with the batch."""

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x + (x - x.detach()) * x.shape[0]


class TokenMajor(Plain):
    """Attention as it is written most often: right, and misread by a batch norm before it where there is one image."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = super().forward(x).flatten(2).transpose(1, 2)
        mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return mixed.transpose(1, 2).reshape(x.shape)


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


class PooledNorm(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.norm(x.mean((2, 3), keepdim=True)).sigmoid()


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
    ("builds", ForOneSize, "^takes maps of 14x14 only, and none of 20x20: RuntimeError: The size of tensor"),
    ("builds", HidesModules, "^heads holds modules that PyTorch does not see$"),
    ("builds", MakesLayersInForward, "^makes parameters in forward, which no optimizer has: late.bias, late.weight$"),
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
    ("one image", CountsImages, "gradients are wrong with one image behind a batch norm, such as "),
    ("one image", TokenMajor, "PyTorch's batch norm misreads the layout at "),
    ("one image", PooledNorm, "^ValueError: Expected more than 1 value per channel when training"),
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


WARNINGS = {RefusesWidths, Coarse, TokenMajor}


def find(check: Check[Subject], cls: type[nn.Module], **circumstances: object) -> Finding:
    (finding,) = examine(subject(cls, **circumstances), [check])
    return finding


def rows_of(home: types.ModuleType) -> pytest.MarkDecorator:
    """Parametrize a test with the rows of `BROKEN` whose check a module of the doctor defines."""
    own = {value.name for value in vars(home).values() if isinstance(value, Check)}
    rows = [pytest.param(*row, id=f"{row[0]}-{row[1].__name__}") for row in BROKEN if row[0] in own]
    return pytest.mark.parametrize(("name", "cls", "detail"), rows)


def require_caught(name: str, cls: type[nn.Module], detail: str) -> None:
    """Require that a check fails or warns on a broken module with the right words and a way out."""
    if name in ("onnx", "openvino"):
        pytest.importorskip({"onnx": "onnxruntime"}.get(name, name), reason="needs the [export] extra")
    finding = find(CHECKS[name], cls)
    assert finding.status == ("warn" if cls in WARNINGS else "fail"), finding.detail
    assert re.search(detail, finding.detail), finding.detail
    assert finding.remedy
