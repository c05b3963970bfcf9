"""Checkpoints of the authors: what their networks compute is written slowly, from names and numbers alone.

A state is drawn with the names and shapes that the authors' code saves, at reduced widths; ``read`` of it is what their
networks mean by those names. Ours, loaded with the converted state, has to give the same to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.errors import CheckpointError
from attngraft.models import (
    DilateFormer,
    FLattenPVT,
    FLattenPVTv2,
    FLattenSwin,
    create,
    dilateformer,
    flatten_pvt,
    flatten_swin,
    load_shared,
    names,
)

State = dict[str, Tensor]
CLASSES, SIZE = 5, 64
DEPTHS, MLP = (1, 2, 2, 1), 2


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Draw every number; variances are positive and gains near 1, so that nothing grows without bound."""
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, dtype=torch.float64)
        if name.endswith("running_var"):
            values = 0.5 + values.abs()
        elif name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) or ("norm" in name and "weight" in name):
            values = 1 + 0.2 * values
        elif len(shape) > 1 and name.endswith("weight"):
            values = values / math.sqrt(math.prod(shape[1:]))
        state[name] = values
    return state


class Shapes(dict[str, tuple[int, ...]]):
    """The shapes of a state, layer by layer."""

    def layer(self, name: str, *weight: int, bias: bool = True) -> None:
        self[f"{name}.weight"] = weight
        if bias:
            self[f"{name}.bias"] = weight[:1]

    def batch_norm(self, name: str, channels: int) -> None:
        self.layer(name, channels)
        self[f"{name}.running_mean"] = self[f"{name}.running_var"] = (channels,)


# -- what the names mean -----------------------------------------------------------------------------------------------


def conv(state: State, name: str, x: Tensor, **how: int) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **how)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def layer_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    """Normalise the last axis."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{kind}"][:, None, None] for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def cells(x: Tensor) -> Tensor:
    """Turn a map ``(B, C, H, W)`` to cells ``(B, H, W, C)``."""
    return x.permute(0, 2, 3, 1)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attend in every head; ``(..., h, N, d)``."""
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + bias).softmax(-1) @ v


def focused(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    """Apply the authors' focused linear attention to cells ``(B, H, W, C)``."""
    B, H, W, C = x.shape
    tokens = x.reshape(B, H * W, C)
    if f"{name}.qkv.weight" in state:
        q, k, v = linear(state, f"{name}.qkv", tokens).chunk(3, -1)
    else:
        q, (k, v) = linear(state, f"{name}.q", tokens), linear(state, f"{name}.kv", tokens).chunk(2, -1)
    scale = torch.log1p(state[f"{name}.scale"].exp())
    q, k = ((t.clamp(min=0) + 1e-6) / scale for t in (q, k + state[f"{name}.positional_encoding"]))
    q, k = (t**3 * (t.norm(dim=-1, keepdim=True) / (t**3).norm(dim=-1, keepdim=True)) for t in (q, k))
    q, k, heads_v = (t.reshape(B, H * W, heads, -1).transpose(1, 2) for t in (q, k, v))
    out = q @ (k.transpose(2, 3) @ heads_v) / H / W / (q @ k.mean(2, keepdim=True).transpose(2, 3) + 1e-6)
    maps = v.reshape(B, H, W, heads, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B h, d, H, W)
    local = conv(state, f"{name}.dwc", maps, padding=2, groups=C // heads).reshape(B, C, H, W)
    return linear(state, f"{name}.proj", out.transpose(1, 2).reshape(B, H, W, C) + cells(local))


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    hidden = linear(state, f"{name}.fc1", x)
    if f"{name}.dwconv.dwconv.weight" in state:
        local = conv(state, f"{name}.dwconv.dwconv", hidden.permute(0, 3, 1, 2), padding=1, groups=hidden.shape[-1])
        hidden = cells(local)
    return linear(state, f"{name}.fc2", gelu(hidden))


# -- DilateFormer ------------------------------------------------------------------------------------------------------

DILATE: dict[str, Any] = {"channels": (12, 24, 48, 96), "heads": (3, 6, 4, 8)}


def dilate_state() -> State:
    shapes = Shapes()
    for i, (before, after) in enumerate(((3, 16), (16, 32), (32, 64), (64, 12))):
        shapes.layer(f"patch_embed.proj.{3 * i}", after, before, 3, 3, bias=False)
        if i < 3:
            shapes.batch_norm(f"patch_embed.proj.{3 * i + 1}", after)
    for stage, (C, depth) in enumerate(zip(DILATE["channels"], DEPTHS, strict=True)):
        for i in range(depth):
            name = f"stages.{stage}.blocks.{i}"
            shapes.layer(f"{name}.pos_embed", C, 1, 3, 3)
            shapes.layer(f"{name}.norm1", C)
            shapes.layer(f"{name}.norm2", C)
            shapes.layer(f"{name}.attn.qkv", 3 * C, C, *((1, 1) if stage < 2 else ()))
            shapes.layer(f"{name}.attn.proj", C, C)
            shapes.layer(f"{name}.mlp.fc1", MLP * C, C)
            shapes.layer(f"{name}.mlp.fc2", C, MLP * C)
        if stage < 3:
            shapes.layer(f"stages.{stage}.downsample.proj.0", 2 * C, C, 3, 3)
            shapes.batch_norm(f"stages.{stage}.downsample.proj.1", 2 * C)
    shapes.layer("norm", 96)
    shapes.layer("head", CLASSES, 96)
    return drawn(shapes)


def dilated(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    """Attend from every cell to nine cells at one of three distances; outside the map keys and values are zero."""
    B, H, W, C = x.shape
    q, k, v = conv(state, f"{name}.qkv", x.permute(0, 3, 1, 2)).reshape(B, 3, heads, C // heads, H, W).unbind(1)
    out = torch.zeros_like(q)
    for h in range(heads):
        r = 3 * h // heads + 1
        padded_k, padded_v = (F.pad(t[:, h], (r,) * 4) for t in (k, v))
        places = [(i * r, j * r) for i in range(3) for j in range(3)]
        keys, values = (
            torch.stack([t[:, :, i : i + H, j : j + W] for i, j in places]) for t in (padded_k, padded_v)
        )  # (9, B, d, H, W)
        weights = ((q[:, h] * keys).sum(2) / math.sqrt(C // heads)).softmax(0)
        out[:, h] = (weights[:, :, None] * values).sum(0)
    return linear(state, f"{name}.proj", cells(out.reshape(B, C, H, W)))


def dense(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    B, H, W, C = x.shape
    qkv = linear(state, f"{name}.qkv", x.reshape(B, H * W, C)).reshape(B, H * W, 3, heads, C // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return linear(state, f"{name}.proj", softmax_attention(q, k, v).transpose(1, 2).reshape(B, H, W, C))


def read_dilate(state: State, x: Tensor) -> Tensor:
    for i, stride in enumerate((1, 2, 1, 2)):
        x = conv(state, f"patch_embed.proj.{3 * i}", x, stride=stride, padding=1)
        x = gelu(batch_norm(state, f"patch_embed.proj.{3 * i + 1}", x)) if i < 3 else x
    for stage, (heads, depth) in enumerate(zip(DILATE["heads"], DEPTHS, strict=True)):
        for i in range(depth):
            name = f"stages.{stage}.blocks.{i}"
            x = cells(x + conv(state, f"{name}.pos_embed", x, padding=1, groups=x.shape[1]))
            attend = dilated if stage < 2 else dense
            x = x + attend(state, f"{name}.attn", layer_norm(state, f"{name}.norm1", x, 1e-6), heads)
            x = x + mlp(state, f"{name}.mlp", layer_norm(state, f"{name}.norm2", x, 1e-6))
            x = x.permute(0, 3, 1, 2)
        if stage < 3:
            x = conv(state, f"stages.{stage}.downsample.proj.0", x, stride=2, padding=1)
            x = batch_norm(state, f"stages.{stage}.downsample.proj.1", x)
    return linear(state, "head", layer_norm(state, "norm", cells(x), 1e-6).mean((1, 2)))


# -- FLatten-PVT and FLatten-PVTv2 -------------------------------------------------------------------------------------

PVT: dict[str, Any] = {"channels": (8, 12, 20, 24), "heads": (1, 2, 5, 3)}


def pvt_state(version: int) -> State:
    shapes = Shapes()
    for stage, (C, depth) in enumerate(zip(PVT["channels"], DEPTHS, strict=True), 1):
        before, cells_of = (PVT["channels"][stage - 2] if stage > 1 else 3), (SIZE // 2 ** (stage + 1)) ** 2
        kernel = (3 if stage > 1 else 7) if version == 2 else (2 if stage > 1 else 4)
        shapes.layer(f"patch_embed{stage}.proj", C, before, kernel, kernel)
        shapes.layer(f"patch_embed{stage}.norm", C)
        if version == 1:
            shapes[f"pos_embed{stage}"] = (1, cells_of, C)
        else:
            shapes.layer(f"norm{stage}", C)
        for i in range(depth):
            name, d = f"block{stage}.{i}", C // PVT["heads"][stage - 1]
            shapes.layer(f"{name}.norm1", C)
            shapes.layer(f"{name}.norm2", C)
            shapes.layer(f"{name}.attn.q", C, C)
            shapes.layer(f"{name}.attn.kv", 2 * C, C)
            shapes.layer(f"{name}.attn.proj", C, C)
            shapes.layer(f"{name}.attn.dwc", d, 1, 5, 5)
            shapes[f"{name}.attn.scale"], shapes[f"{name}.attn.positional_encoding"] = (1, 1, C), (1, cells_of, C)
            shapes.layer(f"{name}.mlp.fc1", MLP * C, C)
            shapes.layer(f"{name}.mlp.fc2", C, MLP * C)
            if version == 2:
                shapes.layer(f"{name}.mlp.dwconv.dwconv", MLP * C, 1, 3, 3)
    if version == 1:
        shapes.layer("norm", 24)  # built, saved and never applied
    shapes.layer("head", CLASSES, 24)
    return drawn(shapes)


def read_pvt(state: State, x: Tensor) -> Tensor:
    first = "pos_embed1" in state
    for stage, (heads, depth) in enumerate(zip(PVT["heads"], DEPTHS, strict=True), 1):
        how = {"stride": (2 if stage > 1 else 4), "padding": 0 if first else (1 if stage > 1 else 3)}
        x = layer_norm(
            state, f"patch_embed{stage}.norm", cells(conv(state, f"patch_embed{stage}.proj", x, **how)), 1e-5
        )
        if first:
            x = x + state[f"pos_embed{stage}"].reshape(1, *x.shape[1:])
        for i in range(depth):
            name = f"block{stage}.{i}"
            x = x + focused(state, f"{name}.attn", layer_norm(state, f"{name}.norm1", x, 1e-6), heads)
            x = x + mlp(state, f"{name}.mlp", layer_norm(state, f"{name}.norm2", x, 1e-6))
        x = x if first else layer_norm(state, f"norm{stage}", x, 1e-6)
        x = x.permute(0, 3, 1, 2)
    return linear(state, "head", x.mean((2, 3)))


# -- FLatten-Swin ------------------------------------------------------------------------------------------------------

SWIN: dict[str, Any] = {"channels": (6, 12, 24, 48), "heads": (3, 2, 4, 6)}
WINDOW = 2


def swin_state() -> State:
    shapes = Shapes()
    shapes.layer("patch_embed.proj", 6, 3, 4, 4)
    shapes.layer("patch_embed.norm", 6)
    for stage, (C, heads, depth) in enumerate(zip(SWIN["channels"], SWIN["heads"], DEPTHS, strict=True)):
        for i in range(depth):
            name, d = f"layers.{stage}.blocks.{i}", C // heads
            shapes.layer(f"{name}.norm1", C)
            shapes.layer(f"{name}.norm2", C)
            shapes.layer(f"{name}.attn.qkv", 3 * C, C)
            shapes.layer(f"{name}.attn.proj", C, C)
            shapes.layer(f"{name}.mlp.fc1", MLP * C, C)
            shapes.layer(f"{name}.mlp.fc2", C, MLP * C)
            if stage < 2:
                shapes.layer(f"{name}.attn.dwc", d, 1, 5, 5)
                shapes[f"{name}.attn.scale"] = (1, 1, C)
                shapes[f"{name}.attn.positional_encoding"] = (1, (SIZE // 4 // 2**stage) ** 2, C)
            else:
                shapes[f"{name}.attn.relative_position_bias_table"] = ((2 * WINDOW - 1) ** 2, heads)
        if stage < 3:
            shapes.layer(f"layers.{stage}.downsample.norm", 4 * C)
            shapes.layer(f"layers.{stage}.downsample.reduction", 2 * C, 4 * C, bias=False)
    shapes.layer("norm", 48)
    shapes.layer("head", CLASSES, 48)
    state = drawn(shapes)
    state["layers.2.blocks.0.attn.relative_position_index"] = torch.zeros(WINDOW**2, WINDOW**2, dtype=torch.long)
    state["layers.2.blocks.1.attn_mask"] = torch.zeros(4, WINDOW**2, WINDOW**2)
    return state


def shifted(state: State, name: str, x: Tensor, heads: int, shift: int) -> Tensor:
    """Attend in windows whose grid is moved by the shift; a window does not look around the end of the map."""
    B, H, W, C = x.shape
    table = state[f"{name}.relative_position_bias_table"].reshape(2 * WINDOW - 1, 2 * WINDOW - 1, heads)
    q, k, v = linear(state, f"{name}.qkv", x).reshape(B, H, W, 3, heads, C // heads).unbind(3)
    out = torch.zeros_like(q)
    for y in range(H):
        for column in range(W):
            rows = [i for i in range(H) if (i - shift) // WINDOW == (y - shift) // WINDOW]
            columns = [j for j in range(W) if (j - shift) // WINDOW == (column - shift) // WINDOW]
            keys = [(i, j) for i in rows for j in columns]
            # The authors count from the key to the query: query minus key, moved to start from zero.
            bias = torch.stack([table[y - i + WINDOW - 1, column - j + WINDOW - 1] for i, j in keys])  # (keys, h)
            logits = torch.stack([(q[:, y, column] * k[:, i, j]).sum(-1) for i, j in keys]) / math.sqrt(C // heads)
            weights = (logits + bias[:, None]).softmax(0)  # (keys, B, h)
            out[:, y, column] = sum(w[..., None] * v[:, i, j] for w, (i, j) in zip(weights, keys, strict=True))
    return linear(state, f"{name}.proj", out.reshape(B, H, W, C))


def read_swin(state: State, x: Tensor) -> Tensor:
    x = layer_norm(state, "patch_embed.norm", cells(conv(state, "patch_embed.proj", x, stride=4)), 1e-5)
    for stage, (heads, depth) in enumerate(zip(SWIN["heads"], DEPTHS, strict=True)):
        for i in range(depth):
            name = f"layers.{stage}.blocks.{i}"
            normed = layer_norm(state, f"{name}.norm1", x, 1e-5)
            if stage < 2:
                x = x + focused(state, f"{name}.attn", normed, heads)
            else:
                shift = 0 if x.shape[1] <= WINDOW else WINDOW // 2 * (i % 2)
                x = x + shifted(state, f"{name}.attn", normed, heads, shift)
            x = x + mlp(state, f"{name}.mlp", layer_norm(state, f"{name}.norm2", x, 1e-5))
        if stage < 3:
            x = torch.cat([x[:, a::2, b::2] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))], -1)
            x = layer_norm(state, f"layers.{stage}.downsample.norm", x, 1e-5)
            x = linear(state, f"layers.{stage}.downsample.reduction", x)
    return linear(state, "head", layer_norm(state, "norm", x, 1e-5).mean((1, 2)))


# -- the same numbers --------------------------------------------------------------------------------------------------

COMMON: dict[str, Any] = {"depths": DEPTHS, "num_classes": CLASSES}
TABLES: dict[str, Any] = {**COMMON, "image_size": SIZE}
Case = tuple[Callable[[], State], Callable[[State, Tensor], Tensor], Callable[[], nn.Module], Callable[[State], State]]

CASES: dict[str, Case] = {
    "dilateformer": (
        dilate_state,
        read_dilate,
        lambda: DilateFormer(**DILATE, **COMMON, mlp_ratio=MLP),
        dilateformer.from_official,
    ),
    "flatten_pvt": (
        lambda: pvt_state(1),
        read_pvt,
        lambda: FLattenPVT(**PVT, **TABLES, mlp_ratios=(MLP,) * 4, final_norm=False),
        flatten_pvt.from_official,
    ),
    "flatten_pvt_v2": (
        lambda: pvt_state(2),
        read_pvt,
        lambda: FLattenPVTv2(**PVT, **TABLES, mlp_ratios=(MLP,) * 4),
        flatten_pvt.from_official,
    ),
    "flatten_swin": (
        swin_state,
        read_swin,
        lambda: FLattenSwin(**SWIN, **TABLES, mlp_ratio=MLP, window=WINDOW),
        flatten_swin.from_official,
    ),
}
EACH = pytest.mark.parametrize("name", CASES)


@EACH
@pytest.mark.parametrize("batch", [1, 2])
def test_an_official_state_gives_the_official_numbers(name: str, batch: int) -> None:
    draw, read, build, convert = CASES[name]
    state, model = draw(), build().double().eval()
    model.load_state_dict({key: value.double() for key, value in convert(state).items()}, strict=name != "dilateformer")
    x = torch.randn(batch, 3, SIZE, SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected = read(state, x)
        assert expected.std() > 0.01
        torch.testing.assert_close(model(x), expected, atol=1e-12, rtol=1e-12)


@EACH
def test_no_tensor_is_left_out_and_none_is_made_up(name: str) -> None:
    draw, _, build, convert = CASES[name]
    ours, own = convert(draw()), build().state_dict()
    assert ours.keys() == {key for key in own if not key.endswith("num_batches_tracked")}
    assert all(ours[key].shape == own[key].shape for key in ours)


@EACH
def test_containers_of_training_scripts_are_opened(name: str) -> None:
    draw, _, _, convert = CASES[name]
    state = draw()
    held = convert({"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 3, "optimizer": {}})
    plain = convert(state)
    assert held.keys() == plain.keys()
    assert all(torch.equal(held[key], plain[key]) for key in plain)


@EACH
def test_an_official_state_without_conversion_is_refused_and_changes_nothing(name: str) -> None:
    """Its norm and its head have our names, so that a trained head would sit on a random network."""
    draw, _, build, _ = CASES[name]
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"fills only \d.\d % of the model .* from_official of .*|has shape"):
        load_shared(model, draw())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@EACH
def test_states_of_others_are_refused_by_name(name: str) -> None:
    _, _, _, convert = CASES[name]
    for other in CASES:
        family = other.removesuffix("_v2"), name.removesuffix("_v2")
        if family[0] != family[1]:
            with pytest.raises(CheckpointError, match="a checkpoint of the authors' .* has .*, and this one lacks"):
                convert(CASES[other][0]())
    with pytest.raises(CheckpointError, match="it has no tensors"):
        convert({})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("flatten_pvt", {"block1.0.attn.sr.weight": torch.zeros(8, 8, 2, 2)}, "sr.weight: keys of reduced size"),
        (
            "flatten_pvt",
            {"pos_embed1": torch.zeros(1, 255, 8)},
            "pos_embed1 is for 255 cells, which are not those of a",
        ),
        ("flatten_swin", {"absolute_pos_embed": torch.zeros(1, 256, 6)}, "a table of absolute positions, which ours"),
    ],
)
def test_variants_that_ours_lack_are_named(name: str, change: State, message: str) -> None:
    draw, _, _, convert = CASES[name]
    with pytest.raises(CheckpointError, match=message):
        convert({**draw(), **change})


def test_softmax_stages_of_flatten_pvt_are_named() -> None:
    state = {key: value for key, value in pvt_state(1).items() if not key.startswith("block2.1.attn.dwc")}
    with pytest.raises(CheckpointError, match=r"block2.1 has softmax attention \(attn_type S\)"):
        flatten_pvt.from_official(state)


def test_every_classifier_refuses_a_state_of_which_only_the_head_fits() -> None:
    for name in names("classify"):
        with torch.device("meta"):
            model = create(name, num_classes=7)
        head = model.get_classifier()  # type: ignore[operator]
        path = next(path for path, module in model.named_modules() if module is head)
        state = {f"{path}.weight": torch.zeros(7, head.in_features), f"{path}.bias": torch.zeros(7)}
        with pytest.raises(CheckpointError, match=r"fills only 0.0 % of the model"):
            load_shared(model, state)
