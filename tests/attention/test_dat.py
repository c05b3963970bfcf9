"""DAT against its paper's equations 2-8 (arXiv 2201.00520), written slowly, with the reference code's position term."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import DAT


def randomised(module: nn.Module, scale: float = 0.5) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return module.eval()


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.einsum("oc,chw->ohw", weight[:, :, 0, 0], x) + bias[:, None, None]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    C, H, W = x.shape
    r = weight.shape[-1] // 2
    out = torch.zeros(C, -(-H // stride), -(-W // stride), dtype=x.dtype)
    for c in range(C):
        for a, y in enumerate(range(0, H, stride)):
            for b, x_ in enumerate(range(0, W, stride)):
                near = [(i, j) for i in range(y - r, y + r + 1) for j in range(x_ - r, x_ + r + 1)]
                out[c, a, b] = bias[c] + sum(
                    weight[c, 0, i - y + r, j - x_ + r] * x[c, i, j] for i, j in near if 0 <= i < H and 0 <= j < W
                )
    return out


def interpolate(x: Tensor, y: float, x_: float) -> Tensor:
    """Weigh the four cells around a place by nearness, cells outside the map counting as zero."""
    C, H, W = x.shape
    out = torch.zeros(C, dtype=x.dtype)
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x_), math.floor(x_) + 1):
            if 0 <= i < H and 0 <= j < W:
                out += (1 - abs(y - i)) * (1 - abs(x_ - j)) * x[:, i, j]
    return out


def place(module: DAT, index: int, samples: int, cells: int, offset: float) -> float:
    """Return the row or column, in cells, at which to sample."""
    last = max(samples - 1, 1)
    normal = (index + 0.5 * module.half_cell) / last * 2 - 1 + module.offset_range * math.tanh(offset) / last
    return (normal + 1) / 2 * (cells - 1)


def sample(module: DAT, x: Tensor, q: Tensor) -> Tensor:
    C, H, W = x.shape
    width = C // module.groups
    parts = []
    for x_group, q_group in zip(x.split(width), q.split(width), strict=True):
        hidden = depthwise(q_group, module.offset_conv.weight, module.offset_conv.bias, module.stride)
        Hs, Ws = hidden.shape[1:]
        out = torch.empty(width, Hs, Ws, dtype=x.dtype)
        for a in range(Hs):
            for b in range(Ws):
                h = hidden[:, a, b]
                h = (h - h.mean()) / ((h - h.mean()).square().mean() + 1e-5).sqrt()
                h = h * module.offset_norm.weight + module.offset_norm.bias
                h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
                dy, dx = (module.offset_proj.weight @ h).tolist()
                out[:, a, b] = interpolate(x_group, place(module, a, Hs, H, dy), place(module, b, Ws, W, dx))
        parts.append(out)
    return torch.cat(parts)


@torch.no_grad()
def reference(module: DAT, x: Tensor) -> Tensor:
    p = dict(module.named_parameters())
    _, C, H, W = x.shape
    d = C // module.heads
    out = torch.empty_like(x)
    for n, image in enumerate(x):
        q = pointwise(image, p["query.weight"], p["query.bias"])
        kv = pointwise(sample(module, image, q), p["key_value.weight"], p["key_value.bias"]).flatten(1)
        mixed = torch.empty_like(image)
        for head in range(module.heads):
            at = slice(head * d, head * d + d)
            k, v = kv[:C][at], kv[C:][at]
            for y in range(H):
                for x_ in range(W):
                    logits = [(q[at, y, x_] @ key).item() / math.sqrt(d) for key in k.T]
                    weights = [math.exp(logit - max(logits)) for logit in logits]
                    mixed[at, y, x_] = sum(w / sum(weights) * value for w, value in zip(weights, v.T, strict=True))
        mixed = mixed + depthwise(q, p["position.weight"], p["position.bias"])
        out[n] = pointwise(mixed, p["proj.weight"], p["proj.bias"])
    return out


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((5, 3), {}),
        ((5, 3), {"half_cell": True}),
        ((7, 4), {"stride": 3, "kernel_size": 5, "offset_range": 4.0}),
        ((1, 4), {}),
        ((1, 1), {"half_cell": True}),
    ],
    ids=str,
)
def test_equals_the_paper(size: tuple[int, int], options: dict[str, float]) -> None:
    module = randomised(DAT(8, heads=4, groups=2, **options)).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-10, rtol=0)


def test_without_offsets_it_attends_to_the_cells_themselves() -> None:
    module = randomised(DAT(8, heads=4, groups=2)).double()
    nn.init.zeros_(module.offset_proj.weight)
    x = torch.randn(1, 8, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module._sample(x, module._places(module.query(x))), x, atol=1e-12, rtol=0)
    module.half_cell = True
    assert not torch.allclose(module._sample(x, module._places(module.query(x))), x, atol=0.1)


def test_samples_move_by_offset_range_halves_of_their_distance_at_most() -> None:
    module = randomised(DAT(8, heads=4, groups=2, offset_range=2.0), scale=20.0)
    still = DAT(8, heads=4, groups=2)
    nn.init.zeros_(still.offset_proj.weight)
    x = torch.randn(1, 8, 9, 5)
    moved = (module._places(module.query(x)) - still._places(still.query(x))).abs().amax((0, 1, 2))
    torch.testing.assert_close(moved, torch.tensor([2 / 4, 2 / 8]), atol=1e-3, rtol=0)  # x, then y


def test_places_keep_their_digits_in_half_precision() -> None:
    module = DAT(8, heads=4, groups=2).half()
    assert module._places(torch.randn(1, 8, 9, 5, dtype=torch.float16)).dtype == torch.float32


def test_parameter_count_is_the_references() -> None:
    assert sum(p.numel() for p in DAT(256).parameters()) == 266_624


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 7}, "channels=64 and heads=7; heads could be 4 or 8"),
        ({"groups": 3}, "groups to divide heads, got heads=8 and groups=3; groups could be 2 or 4"),
        ({"kernel_size": 4}, "odd kernel_size.*got 4; use 3 or 5"),
        ({"stride": 0}, "stride to be a positive integer, got 0"),
        ({"offset_range": 0}, "offset_range to be above 0, got 0"),
        ({"offset_range": -2.0}, "offset_range to be above 0, got -2.0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DAT(64, **options)
