"""BRA against BiFormer's equations 2-6 (arXiv 2303.08810), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attngraft.attention import BRA


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return module.eval()


def depthwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    H, W, _ = x.shape
    r = conv.kernel_size[0] // 2
    out = conv.bias.repeat(H, W, 1)
    for y in range(H):
        for x_ in range(W):
            for i in range(max(0, y - r), min(H, y + r + 1)):
                for j in range(max(0, x_ - r), min(W, x_ + r + 1)):
                    out[y, x_] += conv.weight[:, 0, i - y + r, j - x_ + r] * x[i, j]
    return out


def attend(module: BRA, tokens: Tensor) -> Tensor:
    """Route region by region, then attend cell by cell; S equal regions cover each side, the last partly."""
    H, W, C = tokens.shape
    S, d = module.regions, C // module.heads
    tall, wide = -(-H // S), -(-W // S)
    qkv = tokens @ module.qkv.weight.T + module.qkv.bias
    q, k, v = qkv[..., :C], qkv[..., C : 2 * C], qkv[..., 2 * C :]
    cells: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for y in range(H):
        for x in range(W):
            cells.setdefault((y // tall, x // wide), []).append((y, x))
    out = torch.zeros_like(tokens)
    for own in cells.values():
        query = sum(q[cell] for cell in own) / len(own)
        affinity = {
            region: (query @ sum(k[c] for c in theirs) / len(theirs)).item() for region, theirs in cells.items()
        }
        chosen = sorted(affinity, key=affinity.__getitem__, reverse=True)[: module.topk]
        keys = [cell for region in chosen for cell in cells[region]]
        for cell in own:
            for head in range(module.heads):
                at = slice(head * d, head * d + d)
                logits = [(q[cell][at] @ k[key][at]).item() * module.scale for key in keys]
                weights = [math.exp(logit - max(logits)) for logit in logits]
                out[cell][at] = sum(w / sum(weights) * v[key][at] for w, key in zip(weights, keys, strict=True))
    return (out + depthwise(v, module.side)) @ module.proj.weight.T + module.proj.bias


@torch.no_grad()
def reference(module: BRA, x: Tensor) -> Tensor:
    _, _, H, W = x.shape
    if module.border == "zero":
        x = F.pad(x, (0, -W % module.regions, 0, -H % module.regions))
    return torch.stack([attend(module, image.permute(1, 2, 0)).permute(2, 0, 1) for image in x])[:, :, :H, :W]


@pytest.mark.parametrize("size", [(7, 5), (6, 9), (1, 2)], ids=str)
@pytest.mark.parametrize("border", ["mask", "zero"])
def test_equals_the_paper(border: str, size: tuple[int, int]) -> None:
    module = randomised(BRA(6, heads=2, regions=3, topk=2, border=border)).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-11, rtol=0)


def test_a_scale_replaces_the_default() -> None:
    assert BRA(64).scale == 1 / 8
    module = randomised(BRA(6, heads=2, regions=2, topk=2, scale=0.9)).double()
    x = torch.randn(1, 6, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-11, rtol=0)


def test_choosing_every_region_is_global_attention() -> None:
    module = randomised(BRA(8, heads=2, regions=3, topk=9)).double()
    x = torch.randn(1, 8, 7, 5, dtype=torch.float64)
    one = BRA(8, heads=2, regions=1, topk=1).double()
    one.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(x), one(x), atol=1e-11, rtol=0)


def test_parameter_count_is_the_references() -> None:
    assert sum(p.numel() for p in BRA(256).parameters()) == 269_824
    assert sum(p.numel() for p in BRA(256, side_kernel_size=3).parameters()) == 265_728  # as the copies have it


def test_cost_with_a_zero_border_is_that_of_the_padded_map() -> None:
    module = BRA(16, regions=3, topk=2, border="zero")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.randn(1, 16, 7, 11))
    assert module.macs(7, 11) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 7}, "channels=64 and heads=7; heads could be 4 or 8"),
        ({"topk": 50}, "topk of at most regions\\*\\*2 = 49, got 50; use 49 or less"),
        ({"side_kernel_size": 4}, "odd side_kernel_size.*got 4; use 3 or 5"),
        ({"border": "reflect"}, "border to be one of 'mask', 'zero', got 'reflect'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BRA(64, **options)
