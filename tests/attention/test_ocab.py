"""OCAB against the description in HAT (arXiv 2205.04437, section 3.2), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import OCAB
from attngraft.attention._windows import relative_bias


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return module.eval()


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def overlapping_attention(module: OCAB, u: Tensor) -> Tensor:
    """Attend from each cell to the window that reaches ``margin`` cells beyond its own, key by key."""
    H, W, C = u.shape
    M, h, d = module.window, module.heads, C // module.heads
    margin = round(module.overlap * M) // 2
    qkv = u @ module.qkv.weight.T + module.qkv.bias
    q, k, v = (qkv[..., i * C : (i + 1) * C].reshape(H, W, h, d) for i in range(3))
    out = torch.zeros(H, W, h, d, dtype=u.dtype)
    for y in range(H):
        for x in range(W):
            top, left = y // M * M, x // M * M
            for head in range(h):
                logits, values = [], []
                for i in range(top - margin, top + M + margin):
                    for j in range(left - margin, left + M + margin):
                        inside = 0 <= i < H and 0 <= j < W
                        if not inside and module.border == "mask":
                            continue
                        content = (q[y, x, head] @ k[i, j, head]).item() / math.sqrt(d) if inside else 0.0
                        row, column = (i - top + margin) - (y - top) + M - 1, (j - left + margin) - (x - left) + M - 1
                        logits.append(content + module.table[head, row, column].item())
                        values.append(v[i, j, head] if inside else torch.zeros(d, dtype=u.dtype))
                weights = [math.exp(logit - max(logits)) for logit in logits]
                out[y, x, head] = sum(w / sum(weights) * value for w, value in zip(weights, values, strict=True))
    return out.reshape(H, W, C) @ module.proj.weight.T + module.proj.bias


@torch.no_grad()
def reference(module: OCAB, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        tokens = image.permute(1, 2, 0)
        y = tokens + overlapping_attention(module, layer_norm(tokens, module.norm1))
        hidden = layer_norm(y, module.norm2) @ module.mlp.fc1.weight.T + module.mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        out[b] = (y + hidden @ module.mlp.fc2.weight.T + module.mlp.fc2.bias).permute(2, 0, 1)
    return out


@pytest.mark.parametrize("size", [(7, 5), (8, 4), (1, 2)], ids=str)
@pytest.mark.parametrize("border", ["mask", "zero"])
@pytest.mark.parametrize("training", [False, True], ids=["fused", "with_gradient"])
def test_equals_the_paper(border: str, size: tuple[int, int], training: bool) -> None:
    module = randomised(OCAB(6, heads=2, window=4, border=border, mlp_ratio=1.5)).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(module(x), reference(module, x), atol=1e-11, rtol=0)


@pytest.mark.parametrize("overlap", [0.0, 2.5])
def test_any_overlap_works(overlap: float) -> None:
    module = randomised(OCAB(4, heads=1, window=4, overlap=overlap)).double()
    x = torch.randn(1, 4, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-11, rtol=0)


def test_a_table_of_the_reference_comes_over_by_a_roll() -> None:
    """The reference counts key - query + M - K + 1, from -880 to 640, and negative indices wrap around the table."""
    M, K = 16, 24
    queries = torch.stack(torch.meshgrid(torch.arange(M), torch.arange(M), indexing="ij")).flatten(1)
    keys = torch.stack(torch.meshgrid(torch.arange(K), torch.arange(K), indexing="ij")).flatten(1)
    offset = keys[:, None] - queries[:, :, None] + M - K + 1
    index = offset[0] * (M + K - 1) + offset[1]
    assert (index.min(), index.max()) == (-880, 640)
    assert len(index.unique() % 1521) == len((index % 1521).unique()) == 1521  # a bijection
    rows = torch.arange(1521.0)[:, None]
    table = rows.roll((K - 2) * (M + K), 0).T.reshape(1, M + K - 1, M + K - 1)
    torch.testing.assert_close(relative_bias(table, M, K)[0], (index % 1521).float(), atol=0, rtol=0)


def test_parameter_count_is_the_references() -> None:
    assert sum(p.numel() for p in OCAB(180).parameters()) == 270_306


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "channels=64 and heads=5; heads could be 4 or 8"),
        ({"window": 6}, "even number of cells for equal margins, got 0.5 \\* 6; use overlap=0.666667"),
        ({"overlap": -0.5}, "even number of cells.*use overlap=0$"),
        ({"border": "reflect"}, "border to be one of 'mask', 'zero', got 'reflect'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OCAB(64, **{"heads": 4, **options})
