"""MHA against the paper's section 3.2 (arXiv 1706.03762), written slowly, and against PyTorch's own module."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import MHA


def reference(x: Tensor, module: MHA) -> Tensor:
    """Compute, cell by cell, the projection of each head's mean of values weighted by exp(q·k / sqrt(d))."""
    B, C, H, W = x.shape
    d = C // module.heads
    w_in, b_in, w_out, b_out = (p.detach() for p in (*module.qkv.parameters(), *module.proj.parameters()))
    out = torch.empty_like(x)
    for b in range(B):
        cells = [x[b, :, i, j] for i in range(H) for j in range(W)]
        qkv = [w_in @ cell + b_in for cell in cells]
        for n, token in enumerate(qkv):
            gathered = torch.zeros(C, dtype=x.dtype)
            for head in range(module.heads):
                part = slice(head * d, (head + 1) * d)
                q = token[:C][part]
                weights = [math.exp((q @ other[C : 2 * C][part]).item() / math.sqrt(d)) for other in qkv]
                for weight, other in zip(weights, qkv, strict=True):
                    gathered[part] += weight / sum(weights) * other[2 * C :][part]
            out[b, :, n // W, n % W] = w_out @ gathered + b_out
    return out


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_equals_the_paper(heads: int) -> None:
    module = MHA(6, heads=heads).double()
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_equals_pytorchs_module_with_its_weights() -> None:
    module = MHA(24, heads=3).double()
    oracle = nn.MultiheadAttention(24, 3, batch_first=True, dtype=torch.float64)
    nn.init.normal_(oracle.in_proj_bias)
    nn.init.normal_(oracle.out_proj.bias)
    module.qkv.weight, module.qkv.bias = oracle.in_proj_weight, oracle.in_proj_bias
    module.proj.weight, module.proj.bias = oracle.out_proj.weight, oracle.out_proj.bias
    x = torch.randn(2, 24, 7, 5, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    expected = oracle(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(module(x), expected, atol=1e-12, rtol=0)


def test_to_permute_the_cells_is_to_permute_the_output() -> None:
    module = MHA(16).double()
    x = torch.randn(1, 16, 7, 5, dtype=torch.float64)
    order = torch.randperm(35)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(module(shuffled), module(x).flatten(2)[:, :, order].view_as(x), atol=1e-12, rtol=0)


def test_a_query_of_zeros_looks_everywhere_alike() -> None:
    module = MHA(8, heads=2, bias=False).double()
    nn.init.zeros_(module.qkv.weight[:8])
    x = torch.randn(1, 8, 5, 3, dtype=torch.float64)
    mean = module.proj(module.qkv(x.mean((2, 3)))[:, 16:])  # (1, C)
    torch.testing.assert_close(module(x), mean[:, :, None, None].expand_as(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("bias", "count"), [(True, 263_168), (False, 262_144)])
def test_parameter_count_is_the_closed_form(bias: bool, count: int) -> None:
    assert sum(p.numel() for p in MHA(256, bias=bias).parameters()) == 4 * 256**2 + bias * 4 * 256 == count


def test_heads_that_do_not_divide_are_refused_with_the_nearest_that_do() -> None:
    with pytest.raises(ValueError, match=r"channels=64 and heads=6; heads could be 4 or 8"):
        MHA(64, heads=6)


@pytest.mark.parametrize(("channels", "heads"), [(64, 8), (4, 4), (42, 7), (13, 1)])
def test_fit_takes_the_most_heads_up_to_the_default(channels: int, heads: int) -> None:
    assert MHA(channels, **MHA.fit(channels)).heads == heads
