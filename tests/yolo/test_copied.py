"""Checkpoints trained with copied classes, from whatever module they were pasted into, give their numbers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import conv

import attngraft
from attngraft._core.errors import CheckpointError
from attngraft.doctor.one_image import compare
from attngraft.yolo.copied import _is_called, require_called, stand_ins

C = 256


class MHSA(nn.Module):
    """As posts have it: the position term transposed and cut to the map, no scale."""

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
            logits = logits + (place.transpose(2, 3) @ q)[:, :, : logits.shape[2]]
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
        n = x.shape[2] * x.shape[3] - 1
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


class ChannelAttention(nn.Module):
    def __init__(self, in_planes: int, ratio: int = 16) -> None:
        super().__init__()
        self.avg_pool, self.max_pool = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.fc1 = nn.Conv2d(in_planes, in_planes // ratio, 1, bias=False)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Conv2d(in_planes // ratio, in_planes, 1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        average, largest = (self.fc2(self.relu1(self.fc1(pool(x)))) for pool in (self.avg_pool, self.max_pool))
        return self.sigmoid(average + largest)


class SpatialAttention(nn.Module):
    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        planes = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.sigmoid(self.conv1(planes))


class CBAMBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ca, self.sa = ChannelAttention(channels), SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = self.ca(x) * x
        return self.sa(x) * x


class ChannelAttentionModule(nn.Module):
    def __init__(self, c1: int, reduction: int = 16) -> None:
        super().__init__()
        self.avg_pool, self.max_pool = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.shared_MLP = nn.Sequential(
            nn.Linear(c1, c1 // reduction), nn.LeakyReLU(0.1, inplace=True), nn.Linear(c1 // reduction, c1)
        )
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        average, largest = (self.shared_MLP(pool(x).flatten(1)) for pool in (self.avg_pool, self.max_pool))
        return self.act(average + largest)[:, :, None, None]


class SpatialAttentionModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(2, 1, 7, padding=3)
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2d(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)))


class MyCBAM(nn.Module):
    def __init__(self, c1: int) -> None:
        super().__init__()
        self.channel_attention, self.spatial_attention = ChannelAttentionModule(c1), SpatialAttentionModule()

    def forward(self, x: Tensor) -> Tensor:
        out = self.channel_attention(x) * x
        return self.spatial_attention(out) * out


class Flatten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class ChannelGate(nn.Module):
    def __init__(self, gate_channels: int, reduction_ratio: int = 16) -> None:
        super().__init__()
        hidden = gate_channels // reduction_ratio
        self.mlp = nn.Sequential(
            Flatten(), nn.Linear(gate_channels, hidden), nn.ReLU(), nn.Linear(hidden, gate_channels)
        )
        self.pool_types = ["avg", "max"]

    def forward(self, x: Tensor) -> Tensor:
        pools = (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        return x * sum(self.mlp(pool) for pool in pools).sigmoid()[:, :, None, None]


class BasicConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)
        self.bn.running_mean.normal_()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ChannelPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.max(1)[0], x.mean(1)], 1)


class SpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.compress, self.spatial = ChannelPool(), BasicConv()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.spatial(self.compress(x)).sigmoid()


class OriginalCBAM(nn.Module):
    def __init__(self, gate_channels: int) -> None:
        super().__init__()
        self.ChannelGate, self.SpatialGate = ChannelGate(gate_channels), SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class GAM_Attention(nn.Module):  # noqa: N801  # as it is copied
    def __init__(self, in_channels: int, rate: int = 4) -> None:
        super().__init__()
        hidden = in_channels // rate
        self.channel_attention = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, in_channels)
        )
        self.spatial_attention = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 7, padding=3), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 7, padding=3), nn.BatchNorm2d(in_channels),
        )  # fmt: skip
        self.spatial_attention[1].running_mean.normal_()

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.channel_attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x * self.spatial_attention(x).sigmoid()


class LSKblock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
        self.conv1, self.conv2 = nn.Conv2d(dim, dim // 2, 1), nn.Conv2d(dim, dim // 2, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(dim // 2, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = self.conv0(x)
        near, far = self.conv1(near), self.conv2(self.conv_spatial(near))
        both = torch.cat([near, far], 1)
        choice = self.conv_squeeze(torch.stack([both.mean(1), both.max(1)[0]], 1)).sigmoid()
        return x * self.conv(near * choice[:, :1] + far * choice[:, 1:])


PARTS = (
    h_swish, ChannelAttention, SpatialAttention, ChannelAttentionModule, SpatialAttentionModule, Flatten, ChannelGate,
    BasicConv, ChannelPool, SpatialGate,
)  # fmt: skip

COPIED = {
    "MHSA": "MHSA", "SEAttention": "SE", "ECAAttention": "ECA", "SimAM": "SimAM", "EMA": "EMA",
    "CoordAtt": "CoordAttention", "ShuffleAttention": "ShuffleAttention",
    "CBAMBlock": "CBAM", "MyCBAM": "CBAM", "OriginalCBAM": "CBAM", "GAM_Attention": "GAM", "LSKblock": "LSK",
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
        for cls in (*PARTS, h_sigmoid, WithHardSwish, type(attention)):
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
    assert type(model.model[9]) is attngraft.info(COPIED[name]).cls
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


def test_the_copied_mhsa_gives_its_numbers_on_maps_with_fewer_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rectangular validation gives them: the class takes the first cells of its table, and not its centre."""
    copied = MHSA(C, 5, 6).double()
    written(copied.float(), "their.blocks", torch.rand(1, 3, 160, 192), monkeypatch)
    ours: Any = attngraft.YOLO("blog.pt").model.model[9].double()
    copied.double()
    for size in ((5, 6), (4, 6), (5, 4), (2, 3), (6, 5), (10, 3), (1, 1)):
        x = torch.randn(2, C, *size, dtype=torch.float64, requires_grad=True)
        mine, theirs = (torch.autograd.grad(layer(x).sin().sum(), x)[0] for layer in (ours, copied))
        torch.testing.assert_close(ours(x), copied(x), atol=1e-9, rtol=0)
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=0)
        rows = ours.attention_rows(x.detach()) @ ours.attention_values(x.detach())
        torch.testing.assert_close(rows.transpose(2, 3).reshape(x.shape), ours(x).detach(), atol=1e-9, rtol=0)
    assert ours(torch.randn(1, C, 7, 6, dtype=torch.float64)).isfinite().all()
    behind = nn.Sequential(nn.Conv2d(C, C, 1), nn.BatchNorm2d(C), ours)
    for size in ((5, 6), (5, 4), (7, 6)):  # one image gives the gradients of the image twice
        assert compare(behind, torch.randn(1, C, *size), batch=1).status == "pass"


@pytest.mark.parametrize("name", [name for name in COPIED if name != "MHSA"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_it_goes_on_learning_as_the_class_would(
    name: str, batch: int, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = globals()[name](C)
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    written(theirs.eval(), "their.blocks", torch.rand(1, 3, 64, 64), monkeypatch)
    ours = attngraft.YOLO("blog.pt").model.model[9].train(training)
    theirs.train(training)
    x = torch.randn(batch, C, 7, 5)
    answers = []
    for module in (theirs, ours):
        entering = x.clone().requires_grad_()
        y = module(entering)
        y.square().sum().backward()
        lengths = sorted(p.grad.norm().item() for p in module.parameters() if p.requires_grad)
        answers.append((y.detach(), entering.grad, torch.tensor([0.0, *lengths])))
    for their, our in zip(*answers, strict=True):
        torch.testing.assert_close(our, their, atol=1e-3 * their.abs().max().item(), rtol=1e-3)


def test_what_the_tensors_of_a_copied_gam_do_not_tell_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written(GAM_Attention(C), "their.blocks", torch.rand(1, 3, 64, 64), monkeypatch)
    monkeypatch.setattr(logging.getLogger("ultralytics"), "propagate", True)
    model = attngraft.YOLO("blog.pt").model
    assert "blog.pt: the copied GAM class at model.9 is read without a sigmoid" in caplog.text
    model.model[9].channel_gate = "sigmoid"
    x = torch.rand(1, C, 3, 3)
    assert (model.eval().model[9](x).abs() <= x).all()


class XiaoCBAM(nn.Module):
    """Copies of this form add the input again, or do not: their tensors are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.ca, self.sa = ChannelAttention(C), SpatialAttention()
        self.ca.se = nn.Sequential(self.ca.fc1, nn.ReLU(), self.ca.fc2)
        del self.ca.fc1, self.ca.fc2, self.ca.relu1

    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.sa(x)


class GroupedGAM(GAM_Attention):
    def __init__(self) -> None:
        super().__init__(C)
        self.spatial_attention[0] = nn.Conv2d(C, C // 4, 7, padding=3, groups=4)


class ReplicatedGAM(GAM_Attention):
    def __init__(self) -> None:
        super().__init__(C)
        self.spatial_attention[0] = nn.Conv2d(C, C // 4, 7, padding=3, padding_mode="replicate")


class OneSidedCBAM(MyCBAM):
    """Each pooled vector has a sigmoid of its own."""

    def __init__(self) -> None:
        super().__init__(C)
        self.channel_attention.shared_MLP.append(nn.Sigmoid())


class NarrowLSK(LSKblock):
    def __init__(self) -> None:
        super().__init__(C)
        self.conv_spatial = nn.Conv2d(C, C, 7, padding=6, groups=C, dilation=2)


def with_parts(cls: type[nn.Module], **parts: nn.Module) -> Callable[[], nn.Module]:
    """Return what builds a copied class of other modules, each under its name with ``__`` for a dot."""

    def build() -> nn.Module:
        module = cls(C)
        for name, part in parts.items():
            home, _, last = name.replace("__", ".").rpartition(".")
            setattr(module.get_submodule(home), last, part)
        return module

    return build


def with_buffer(cls: type[nn.Module], where: str = "", *, persistent: bool = True) -> Callable[[], nn.Module]:
    """Return what builds a copied class with a buffer of its own in one of its modules."""

    def build() -> nn.Module:
        module = cls(C)
        module.get_submodule(where).register_buffer("temperature", torch.tensor(0.5), persistent=persistent)
        return module

    return build


def se_mlp(activation: nn.Module, *gate: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(C, C // 8), activation, nn.Linear(C // 8, C), *gate)


class SparseMLP(nn.Module):
    """Has the tensors of an SE, and ``se`` in its name."""

    def __init__(self, channels: int, act: nn.Module | None = None) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Conv2d(channels, 16, 1), act or nn.GELU(), nn.Conv2d(16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.act(self.fc1(x)))


class h_sigmoid(nn.Module):  # noqa: N801  # as it is copied
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + 3) / 6


OTHERS = {
    "CBAM of Xiao": XiaoCBAM,
    "CBAM with two gates": OneSidedCBAM,
    "CBAM dilated": with_parts(
        CBAMBlock, sa__conv1=nn.Conv2d(2, 1, 7, padding=9, dilation=3, bias=False)
    ),
    "CBAM of hard gates": with_parts(CBAMBlock, ca__sigmoid=nn.Hardsigmoid()),
    "CBAM of tanh": with_parts(CBAMBlock, sa__sigmoid=nn.Tanh()),
    "CBAM with SiLU": with_parts(CBAMBlock, ca__relu1=nn.SiLU()),
    "CBAM of maxima alone": with_parts(CBAMBlock, ca__avg_pool=nn.AdaptiveMaxPool2d(1)),
    "CBAM with ReLU behind its norm": with_parts(OriginalCBAM, SpatialGate__spatial__relu=nn.ReLU()),
    "GAM grouped": GroupedGAM,
    "GAM replicated": ReplicatedGAM,
    "GAM with SiLU": with_parts(GAM_Attention, spatial_attention__2=nn.SiLU()),
    "GAM with an activation behind": with_parts(GAM_Attention, act=nn.ReLU()),
    "LSK narrow": NarrowLSK,
    "SE of a copied hard sigmoid": with_parts(SEAttention, fc__3=h_sigmoid()),
    "SE of a hard sigmoid": with_parts(SEAttention, fc__3=nn.Hardsigmoid()),
    "SE with SiLU": with_parts(SEAttention, fc__1=nn.SiLU()),
    "SE with LeakyReLU": with_parts(SEAttention, fc__1=nn.LeakyReLU(0.1)),
    "SE with GELU": with_parts(SEAttention, fc__1=nn.GELU()),
    "SE of a ReLU": with_parts(SEAttention, fc=se_mlp(nn.Sigmoid(), nn.ReLU())),
    "SE of two sigmoids": with_parts(SEAttention, sigmoid=nn.Sigmoid()),
    "SE of maxima": with_parts(SEAttention, avg_pool=nn.AdaptiveMaxPool2d(1)),
    "SE of four cells": with_parts(SEAttention, avg_pool=nn.AdaptiveAvgPool2d(2)),
    "an MLP": lambda: SparseMLP(C),
    "an MLP with ReLU": lambda: SparseMLP(C, nn.ReLU()),
    "CoordAtt with SiLU": with_parts(CoordAtt, act=nn.SiLU()),
    "CoordAtt with ReLU": with_parts(CoordAtt, act=nn.ReLU()),
    "CoordAtt without activation": with_parts(CoordAtt, act=nn.Identity()),
    "CoordAtt with padding": with_parts(CoordAtt, conv1=nn.Conv2d(C, 8, 1, padding=1)),
    "ECA of a hard sigmoid": with_parts(ECAAttention, sigmoid=nn.Hardsigmoid()),
    "ECA with maxima": with_parts(ECAAttention, avg_pool=nn.AdaptiveAvgPool2d(1), max_pool=nn.AdaptiveMaxPool2d(1)),
    "ECA dilated": with_parts(ECAAttention, conv=nn.Conv1d(1, 1, 5, padding=4, dilation=2, bias=False)),
    "SimAM of a hard sigmoid": with_parts(SimAM, activaton=nn.Hardsigmoid()),
    "EMA dilated": with_parts(EMA, conv3x3=nn.Conv2d(8, 8, 3, padding=2, dilation=2)),
    "EMA of one norm": with_parts(EMA, gn=nn.GroupNorm(1, 8)),
    "EMA with maxima": with_parts(EMA, agp=nn.AdaptiveMaxPool2d(1)),
    "EMA of softmax over channels": with_parts(EMA, softmax=nn.Softmax(1)),
    "ShuffleAttention of one norm": with_parts(ShuffleAttention, gn=nn.GroupNorm(1, 16)),
    "ShuffleAttention of a hard sigmoid": with_parts(ShuffleAttention, sigmoid=nn.Hardsigmoid()),
    "MHSA with projection": with_parts(MHSA, proj=nn.Conv2d(C, C, 1)),
    "MHSA with dropout": with_parts(MHSA, drop=nn.Dropout(0.1)),
    "MHSA with strided keys": with_parts(MHSA, key=nn.Conv2d(C, C, 1, stride=2)),
    "MHSA with a temperature": with_buffer(MHSA),
    "SE with a temperature": with_buffer(SEAttention),
    "CBAM with a table of its gate": with_buffer(CBAMBlock, "ca", persistent=False),
    "MHSA with a scale": lambda: with_attribute(MHSA(C), "scale", 0.125),
    "MHSA that adds its input": lambda: with_attribute(MHSA(C), "residual", True),
    "MHSA with a tensor": lambda: with_attribute(MHSA(C), "temperature", torch.tensor(2.0)),
    "MHSA with a function": lambda: with_attribute(MHSA(C), "act", torch.relu),
    "SE that adds its input": lambda: with_attribute(SEAttention(C), "residual", True),
    "SE with a factor": lambda: with_attribute(SEAttention(C), "scale", 2.0),
    "EMA that adds its input": lambda: with_attribute(EMA(C), "shortcut", True),
    "CBAM whose channel gate adds its input": lambda: with_attribute(CBAMBlock(C), "residual", True, of="ca"),
}  # fmt: skip


def with_attribute(attention: nn.Module, name: str, value: Any, of: str = "") -> nn.Module:
    setattr(attention.get_submodule(of), name, value)
    return attention


@pytest.mark.parametrize("other", OTHERS)
def test_forms_that_compute_something_else_are_named(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = OTHERS[other]()
    monkeypatch.setattr(type(model), "forward", lambda _, x: x)  # what it computes does not matter here
    written(model, "their.blocks", torch.rand(1, 3, 64, 64), monkeypatch)
    named = rf"blog.pt holds .*their\.blocks\.({type(model).__name__}\b|.* and more).*, which is not installed here"
    with pytest.raises(CheckpointError, match=named):
        attngraft.YOLO("blog.pt")


class SEBlockOfConvolutions(nn.Module):
    """Calls its activations as functions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class WithHardSwish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = h_sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(x)


WithHardSwish.__name__ = WithHardSwish.__qualname__ = "Hswish"

SAME = {
    "SE of functions": (lambda: SEBlockOfConvolutions(C), "SE"),
    "SE with its sigmoid apart": (with_parts(SEAttention, fc=se_mlp(nn.ReLU()), sigmoid=nn.Sigmoid()), "SE"),
    "ECA of modules": (with_parts(ECAAttention, avg_pool=nn.AdaptiveAvgPool2d(1), sigmoid=nn.Sigmoid()), "ECA"),
    "ECA padded in a word": (with_parts(ECAAttention, conv=nn.Conv1d(1, 1, 5, padding="same", bias=False)), "ECA"),
    "CoordAtt of modules": (
        with_parts(
            CoordAtt, pool_h=nn.AdaptiveAvgPool2d((None, 1)), pool_w=nn.AdaptiveAvgPool2d((1, None)),
            act=WithHardSwish(), sigmoid=nn.Sigmoid(),
        ), "CoordAttention",
    ),
    "CoordAtt of PyTorch's hard swish": (with_parts(CoordAtt, act=nn.Hardswish()), "CoordAttention"),
    "SimAM of a module": (with_parts(SimAM, activaton=nn.Sigmoid()), "SimAM"),
    "EMA of modules": (
        with_parts(
            EMA, softmax=nn.Softmax(-1), agp=nn.AdaptiveAvgPool2d((1, 1)), pool_h=nn.AdaptiveAvgPool2d((None, 1)),
            pool_w=nn.AdaptiveAvgPool2d((1, None)),
        ), "EMA",
    ),
    "ShuffleAttention of modules": (
        with_parts(ShuffleAttention, avg_pool=nn.AdaptiveAvgPool2d(1), sigmoid=nn.Sigmoid()), "ShuffleAttention",
    ),
    "MHSA of modules": (with_parts(MHSA, softmax=nn.Softmax(dim=-1), cut=nn.Identity()), "MHSA"),
    "MHSA that need not add its input": (lambda: with_attribute(MHSA(C), "residual", False), "MHSA"),
    "MHSA that keeps its sizes": (lambda: with_attribute(MHSA(C), "n_dims", C), "MHSA"),
    "SE that keeps its ratio": (lambda: with_attribute(SEAttention(C), "ratio", 0.0625), "SE"),
    "CBAM in place": (lambda: with_attribute(CBAMBlock(C), "inplace", True, of="sa"), "CBAM"),
}  # fmt: skip


@pytest.mark.parametrize("same", SAME)
def test_modules_for_what_others_call_as_functions_change_nothing(same: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, ours = SAME[same]
    theirs = build().eval()
    if isinstance(theirs, SEAttention) and hasattr(theirs, "sigmoid"):
        mlp, sigmoid = theirs.fc, theirs.sigmoid
        monkeypatch.setattr(type(theirs), "forward", lambda _, x: x * sigmoid(mlp(x.mean((2, 3))))[:, :, None, None])
    written(theirs, "their.blocks", torch.rand(1, 3, 128, 192), monkeypatch)
    found = attngraft.YOLO("blog.pt").model.model[9].eval()
    assert type(found) is attngraft.info(ours).cls
    x = torch.randn(2, C, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(found(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_a_mechanism_is_known_by_a_whole_word_of_a_name() -> None:
    for name in ("SE", "SELayer", "SEblock", "SENet", "my_se", "C3SE", "MySEAttentionV2", "seblock"):
        assert _is_called(name, "SE", "SEBlock"), name
    for name in ("SparseMLP", "Dense", "MSELoss", "House", "Inverse"):
        assert not _is_called(name, "SE", "SEBlock"), name


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


CONV = "ultralytics.nn.modules.conv"


@pytest.mark.parametrize("cls", [CBAMBlock, MyCBAM, OriginalCBAM])
def test_a_class_pasted_over_the_hosts_cbam_gives_its_numbers(
    cls: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It unpickles as Ultralytics' class, which has other parts and another ``forward``."""
    image = torch.rand(2, 3, 128, 192)
    (answer,) = written(type("CBAM", (cls,), {})(C).eval(), CONV, image, monkeypatch)
    model = attngraft.YOLO("blog.pt").model
    assert type(model.model[9]) is attngraft.info("CBAM").cls
    assert (model.model[9].i, model.model[9].f) == (9, -1)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image)[0], answer, atol=1e-3, rtol=1e-4)


def test_a_form_that_is_not_known_is_named_where_it_was_pasted_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for pasted in (type("CBAM", (XiaoCBAM,), {})(), type("ChannelAttention", (ChannelGate,), {})(C)):
        written(pasted, CONV, torch.rand(1, 3, 64, 64), monkeypatch)
        over = f"{CONV}.{type(pasted).__name__}"
        with pytest.raises(CheckpointError, match=rf"blog.pt has at model.9 a class .* over {over}, and here"):
            attngraft.YOLO("blog.pt")


def test_the_hosts_own_cbam_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    own = conv.CBAM(C)
    model = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    own.i, own.f, own.type, own.np = 9, -1, f"{CONV}.CBAM", 0  # type: ignore[assignment]
    model.model[9] = own
    torch.save({"model": model, "train_args": {"task": "detect"}, "epoch": -1}, "blog.pt")
    assert type(attngraft.YOLO("blog.pt").model.model[9]) is conv.CBAM


def test_what_an_edited_class_of_the_host_called_is_not_left_idle(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Pasted into C2f, Bottleneck or SPPF itself, the attention was opened and never called: 400 of 495 off."""
    for at, cls in ((("model", "2"), "C2f"), (("model", "2", "m", "0"), "Bottleneck"), (("model", "9"), "SPPF")):
        model = tasks.DetectionModel("yolov8n.yaml", verbose=False)
        layer = model.get_submodule(".".join(at))
        layer.se = SEAttention(32)
        with monkeypatch.context() as patch:
            patch.setattr(SEAttention, "__module__", CONV)
            patch.setattr(conv, "SEAttention", SEAttention, raising=False)
            torch.save({"model": model, "train_args": {"task": "detect"}, "epoch": -1}, "blog.pt")
        said = rf"blog.pt has SE at {'.'.join(at)}.se, inside {cls}, a class of Ultralytics that does not call it here"
        with pytest.raises(CheckpointError, match=said):
            attngraft.YOLO("blog.pt")
    layer.se = nn.Sequential(nn.Conv2d(4, 4, 1))
    torch.save({"model": model, "train_args": {"task": "detect"}, "epoch": -1}, "blog.pt")
    attngraft.YOLO("blog.pt")
    (warned,) = [record for record in caplog.records if "does not call" in record.message]
    assert "blog.pt: 1 part(s) have weights that Ultralytics" in warned.message
    assert "first Sequential at model.9.se inside SPPF" in warned.message


def test_what_a_hook_or_a_weight_calls_is_not_idle(caplog: pytest.LogCaptureFixture) -> None:
    model = attngraft.YOLO("yolov8n.yaml+se@P3").model
    torch.nn.utils.parametrizations.weight_norm(model.model[0].conv)
    caplog.clear()
    assert any("grafts" in name for name, _ in model.named_modules())
    require_called(Path("mine.pt"), {"model": model})
    assert not caplog.records


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
