"""SCSA against the paper's equations (arXiv 2407.05128), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import SCSA
from tests.attention.slow import conv1d, counted_macs, group_norm, parameters, randomise, sigmoid


def spatial_gate(strip: Tensor, module: SCSA, norm: torch.nn.GroupNorm) -> Tensor:
    part = strip.shape[1] // 4
    mixed = [conv1d(strip[:, n * part : (n + 1) * part], conv.weight, conv.bias) for n, conv in enumerate(module.convs)]
    return sigmoid(group_norm(torch.cat(mixed, 1), 4, norm.weight, norm.bias))


def pool(x: Tensor, size: int) -> Tensor:
    """Average each whole window; a side shorter than the window is one window."""
    H, W = x.shape[2:]
    rows = [x[:, :, i * size : (i + 1) * size] for i in range(max(1, H // size))]
    cells = [[row[..., j * size : (j + 1) * size].mean((2, 3)) for j in range(max(1, W // size))] for row in rows]
    return torch.stack([torch.stack(row, 2) for row in cells], 2)


def reference(x: Tensor, module: SCSA) -> Tensor:
    B, C, H, W = x.shape
    rows = spatial_gate(torch.stack([x[:, :, i].sum(2) / W for i in range(H)], 2), module, module.norm_rows)
    columns = spatial_gate(torch.stack([x[:, :, :, j].sum(2) / H for j in range(W)], 2), module, module.norm_columns)
    x = x * rows[:, :, :, None] * columns[:, :, None]
    pooled = group_norm(pool(x, module.window_size), 1, module.norm_pooled.weight, module.norm_pooled.bias)
    tokens = pooled.flatten(2)  # (B, C, windows)
    q, k, v = (tokens * layer.weight[:, 0, 0] for layer in (module.query, module.key, module.value))
    out = torch.empty_like(x)
    d = C // module.heads
    for b in range(B):
        for c in range(C):
            head = range(c // d * d, (c // d + 1) * d)
            exponentials = [(q[b, c] @ k[b, other] / d**0.5).exp() for other in head]
            attended = sum(e * v[b, other] for e, other in zip(exponentials, head, strict=True)) / sum(exponentials)
            out[b, c] = x[b, c] * sigmoid(attended.sum() / len(attended))
    return out


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("size", [(7, 5), (15, 7), (3, 16), (1, 1)], ids=str)
def test_equals_the_paper(heads: int, size: tuple[int, int]) -> None:
    module = randomise(SCSA(12, heads=heads))
    x = torch.randn(2, 12, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


@pytest.mark.parametrize("heads", [1, 8])
def test_parameter_count_is_the_authors(heads: int) -> None:
    C = 256
    assert parameters(SCSA(C, heads=heads)) == C // 4 * (3 + 5 + 7 + 9 + 4) + 3 * 2 * C + 3 * C == 4096


@pytest.mark.parametrize("size", [(3, 20), (14, 15)], ids=str)
def test_the_cost_is_its_closed_form_on_both_sides_of_the_window(size: tuple[int, int]) -> None:
    module = SCSA(16, heads=4)
    assert module.macs(*size) == counted_macs(module, *size)


def test_widths_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="SCSA needs channels to be a multiple of 4, got 18; use 16 or 20"):
        SCSA(18)
    with pytest.raises(ValueError, match="channels=12 and heads=8; heads could be 6 or 12"):
        SCSA(12, heads=8)
