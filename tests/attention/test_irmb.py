"""iRMB against the description in EMO (arXiv 2301.01146, section 2.3), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import IRMB


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.8)
    return module.eval()


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    scale = norm.weight / (norm.running_var + 1e-6).sqrt()
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def grid_attention(module: IRMB, u: Tensor) -> Tensor:
    """Attend from each cell to every ny-th row and nx-th column, where ny and nx are the numbers of grids."""
    C, H, W = u.shape
    ny, nx = -(-H // module.window), -(-W // module.window)
    wq, wk, wv = module.qkv.weight.split([C, C, module.hidden])
    q, k, v = (torch.einsum("oc,chw->hwo", weight, u) for weight in (wq, wk, wv))
    v = v.clamp(min=0)
    d, e = C // module.heads, module.hidden // module.heads
    out = torch.zeros(H, W, module.hidden, dtype=u.dtype)
    for y in range(H):
        for x in range(W):
            for head in range(module.heads):
                logits, values = [], []
                for i in range(y % ny, ny * module.window, ny):
                    for j in range(x % nx, nx * module.window, nx):
                        if i < H and j < W:
                            at = slice(head * d, head * d + d)
                            logits.append((q[y, x, at] @ k[i, j, at]).item() / math.sqrt(d))
                            values.append(v[i, j, head * e : head * e + e])
                        elif module.border == "zero":
                            logits.append(0.0)
                            values.append(torch.zeros(e, dtype=u.dtype))
                weights = [math.exp(logit - max(logits)) for logit in logits]
                mixed = sum(w / sum(weights) * value for w, value in zip(weights, values, strict=True))
                out[y, x, head * e : head * e + e] = mixed
    return out.permute(2, 0, 1)


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    C, H, W = x.shape
    r = weight.shape[-1] // 2
    out = torch.zeros_like(x)
    for c in range(C):
        for y in range(H):
            for x_ in range(W):
                for i in range(max(0, y - r), min(H, y + r + 1)):
                    for j in range(max(0, x_ - r), min(W, x_ + r + 1)):
                        out[c, y, x_] += weight[c, 0, i - y + r, j - x_ + r] * x[c, i, j]
    return out


@torch.no_grad()
def reference(module: IRMB, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        mixed = grid_attention(module, batch_norm(image, module.norm))
        local = batch_norm(depthwise(mixed, module.local.weight), module.local_norm)
        mixed = mixed + local / (1 + (-local).exp())
        out[b] = image + torch.einsum("oc,chw->ohw", module.proj.weight[:, :, 0, 0], mixed)
    return out


@pytest.mark.parametrize("size", [(7, 5), (6, 3), (1, 2)], ids=str)
@pytest.mark.parametrize("border", ["mask", "zero"])
def test_equals_the_paper(border: str, size: tuple[int, int]) -> None:
    module = randomised(IRMB(6, head_dim=3, window=3, expansion=4 / 3, border=border)).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-11, rtol=0)


def test_a_cell_sees_its_grid_and_no_neighbour() -> None:
    module = randomised(IRMB(4, head_dim=4, window=2, kernel_size=1)).double()
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    module(x)[0, :, 1, 2].sum().backward()
    seen = {tuple(cell) for cell in x.grad[0].abs().sum(0).nonzero().tolist()}
    assert seen == {(1, 2), (1, 5), (4, 2), (4, 5)}


def test_parameter_count_is_the_closed_form() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(IRMB(256)) == 4 * 256**2 + (2 + 2 + 9) * 256 == 265_472
    assert count(IRMB(64, expansion=2.5, kernel_size=5)) == 2 * 64**2 + 2 * 64 * 160 + 2 * 64 + (2 + 25) * 160


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 24}, "channels=64 and head_dim=24; head_dim could be 16 or 32"),
        ({"head_dim": 16, "expansion": 1.1}, "hidden width.*channels=70 and heads=4; heads could be 2 or 5"),
        ({"kernel_size": 4}, "odd kernel_size.*got 4; use 3 or 5"),
        ({"border": "reflect"}, "border to be one of 'mask', 'zero', got 'reflect'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IRMB(64, **options)
