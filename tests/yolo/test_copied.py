"""Checkpoints trained with copied classes, from whatever module they were pasted into, give their numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

import attngraft
from attngraft._core.errors import CheckpointError
from attngraft.yolo.copied import stand_ins

C = 256


class MHSA(nn.Module):
    """As posts have it: one map size, the position term transposed, no scale."""

    def __init__(self, n_dims: int, width: int = 4, height: int = 6, heads: int = 4, pos_emb: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Conv2d(n_dims, n_dims, 1) for _ in range(3))
        self.pos = pos_emb
        if pos_emb:
            self.rel_h_weight = nn.Parameter(torch.randn(1, heads, n_dims // heads, 1, height))
            self.rel_w_weight = nn.Parameter(torch.randn(1, heads, n_dims // heads, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, _, _ = x.shape
        q, k, v = (conv(x).view(B, self.heads, C // self.heads, -1) for conv in (self.query, self.key, self.value))
        logits = q.transpose(2, 3) @ k
        if self.pos:
            place = (self.rel_h_weight + self.rel_w_weight).view(1, self.heads, C // self.heads, -1)
            logits = logits + place.transpose(2, 3) @ q
        return (v @ logits.softmax(-1).transpose(2, 3)).view(x.shape)


class SEAttention(nn.Module):
    def __init__(self, channel: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = channel // reduction
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channel, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channel, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(self.avg_pool(x).flatten(1))[:, :, None, None]


class ECAAttention(nn.Module):
    def __init__(self, _channels: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        return x * y.transpose(1, 2).unsqueeze(3)


class SimAM(nn.Module):
    def __init__(self, _channels: int, e_lambda: float = 0.01) -> None:
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        squares = (x - x.mean((2, 3), keepdim=True)).square()
        n = x.shape[2] * x.shape[3]
        return x * (squares / (4 * (squares.sum((2, 3), keepdim=True) / n + self.e_lambda)) + 0.5).sigmoid()


class EMA(nn.Module):
    def __init__(self, channels: int, factor: int = 32) -> None:
        super().__init__()
        self.groups = factor
        n = channels // factor
        self.conv1x1, self.conv3x3 = nn.Conv2d(n, n, 1), nn.Conv2d(n, n, 3, padding=1)
        self.gn = nn.GroupNorm(n, n)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        g = x.reshape(b * self.groups, -1, h, w)
        strips = self.conv1x1(torch.cat([g.mean(3, keepdim=True), g.mean(2, keepdim=True).transpose(2, 3)], 2))
        rows, columns = strips.split([h, w], 2)
        first = self.gn(g * rows.sigmoid() * columns.transpose(2, 3).sigmoid())
        second = self.conv3x3(g)
        one, two = (y.mean((2, 3)).softmax(-1).unsqueeze(1) for y in (first, second))
        weights = (one @ second.flatten(2) + two @ first.flatten(2)).reshape(b * self.groups, 1, h, w)
        return (g * weights.sigmoid()).reshape(b, c, h, w)


class h_swish(nn.Module):  # noqa: N801  # as it is copied
    def forward(self, x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6


class CoordAtt(nn.Module):
    def __init__(self, inp: int, reduction: int = 32) -> None:
        super().__init__()
        hidden = max(8, inp // reduction)
        self.conv1, self.bn1, self.act = nn.Conv2d(inp, hidden, 1), nn.BatchNorm2d(hidden), h_swish()
        self.conv_h, self.conv_w = nn.Conv2d(hidden, inp, 1), nn.Conv2d(hidden, inp, 1)
        self.bn1.running_mean.normal_()

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        strips = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = self.act(self.bn1(self.conv1(strips))).split([h, w], 2)
        return x * self.conv_h(rows).sigmoid() * self.conv_w(columns.transpose(2, 3)).sigmoid()


class ShuffleAttention(nn.Module):
    def __init__(self, channel: int, G: int = 8) -> None:
        super().__init__()
        self.G = G
        half = channel // (2 * G)
        self.gn = nn.GroupNorm(half, half)
        for name in ("cweight", "cbias", "sweight", "sbias"):
            setattr(self, name, nn.Parameter(torch.randn(1, half, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        u, v = x.view(b * self.G, -1, h, w).chunk(2, 1)
        u = u * (self.cweight * u.mean((2, 3), keepdim=True) + self.cbias).sigmoid()
        v = v * (self.sweight * self.gn(v) + self.sbias).sigmoid()
        y = torch.cat([u, v], 1).reshape(b, 2, -1, h, w)
        return y.transpose(1, 2).reshape(b, c, h, w)


COPIED = {
    "MHSA": "MHSA", "SEAttention": "SE", "ECAAttention": "ECA", "SimAM": "SimAM", "EMA": "EMA",
    "CoordAtt": "CoordAttention", "ShuffleAttention": "ShuffleAttention",
}  # fmt: skip


def written(attention: nn.Module, home: str, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Write blog.pt as the pasted class's owner has it, forget the class, and return the model's answer."""
    model = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    host = model.model[9]
    attention.i, attention.f, attention.type, attention.np = host.i, -1, f"{home}.{type(attention).__name__}", 0  # type: ignore[assignment]
    model.model[9] = attention
    with monkeypatch.context() as patch:
        for end in [i for i, char in enumerate(f"{home}.") if char == "."]:
            if home[:end] not in sys.modules:
                patch.setitem(sys.modules, home[:end], ModuleType(home[:end]))
        for cls in (type(attention), h_swish):
            patch.setattr(cls, "__module__", home)
            patch.setattr(sys.modules[home], cls.__name__, cls, raising=False)
        torch.save({"model": model, "train_args": {"task": "detect"}, "epoch": -1}, "blog.pt")
    with torch.no_grad():
        return [model.eval()(image)[0]]


@pytest.mark.parametrize("name", COPIED)
def test_a_copied_class_gives_its_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(2, 3, 128, 192)
    (answer,) = written(globals()[name](C).eval(), "ultralytics.nn.Addmodules.attention", image, monkeypatch)
    model = attngraft.YOLO("blog.pt").model
    assert type(model.model[9]) is attngraft.info(name).cls
    assert type(model.model[9]).__name__ == COPIED[name]
    assert model.model[9].i == 9
    assert not any(home.startswith("ultralytics.nn.Addmodules") for home in sys.modules)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image)[0], answer, atol=1e-3, rtol=1e-4)
    if name != "MHSA":
        assert torch.isfinite(model(torch.rand(1, 3, 160, 96))[0]).all()


@pytest.mark.parametrize(
    "home",
    [
        "ultralytics.nn.modules.conv", "ultralytics.nn.modules.MHSA", "ultralytics.nn.tasks", "ultralytics.nn.modules",
        "__main__", "somewhere", "ultralytics.nn.extra_modules.attention",
    ],
)  # fmt: skip
@pytest.mark.parametrize("position", [True, False], ids=["positions", "none"])
def test_it_may_come_from_any_module(home: str, position: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(1, 3, 128, 192)
    (answer,) = written(MHSA(C, pos_emb=position), home, image, monkeypatch)
    for opened in (attngraft.YOLO("blog.pt"), tasks.load_checkpoint("blog.pt")):
        model: Any = opened.model if hasattr(opened, "model") else opened[0]
        with torch.no_grad():
            torch.testing.assert_close(model.eval()(image)[0], answer, atol=1e-3, rtol=1e-4)


def test_a_class_of_another_form_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class SEBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Conv2d(C, C, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.other(x)

    SEBlock.__qualname__ = "SEBlock"
    written(SEBlock(), "their.blocks", torch.rand(1, 3, 64, 64), monkeypatch)
    with pytest.raises(CheckpointError, match=r"holds their\.blocks\.SEBlock, which is not installed here"):
        attngraft.YOLO("blog.pt")


def test_stand_ins_leave_no_trace_even_after_an_error() -> None:
    before = set(sys.modules)
    with stand_ins(["a.b.MHSA", "ultralytics.nn.tasks.Nobody"]):
        assert sys.modules["a.b"].MHSA.__name__ == "MHSA"
        assert tasks.Nobody.__module__ == "ultralytics.nn.tasks"
    assert set(sys.modules) == before
    assert not hasattr(tasks, "Nobody")

    def fail() -> None:
        with stand_ins(["a.b.MHSA"]):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert set(sys.modules) == before


def test_safe_loading_is_the_hosts_own(fresh: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    written(MHSA(C), "their.blocks", torch.rand(1, 3, 128, 192), monkeypatch)
    code = "import attngraft, ultralytics; ultralytics.YOLO('blog.pt')"
    with pytest.raises(AssertionError, match=r"their\.blocks\.MHSA|not permitted|outside the supported"):
        fresh(code, ULTRALYTICS_SAFE_LOAD="1")
