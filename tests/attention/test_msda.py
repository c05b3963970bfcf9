"""MSDA against the paper's equations 1-4 (arXiv 2302.01791), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attngraft.attention import MSDA


def reference(module: MSDA, x: Tensor) -> Tensor:
    """Attend cell by cell; cells outside the map are left out, or are zero vectors, as `border` says."""
    B, C, H, W = x.shape
    d = C // module.heads
    reach = module.kernel_size // 2
    weight, bias = module.qkv.weight[:, :, 0, 0], module.qkv.bias
    out = torch.empty_like(x)
    for b in range(B):
        qkv = {}
        for i in range(H):
            for j in range(W):
                vector = weight @ x[b, :, i, j]
                qkv[i, j] = (vector if bias is None else vector + bias).split(C)
        zero = torch.zeros(C, dtype=x.dtype)
        for i, j in list(qkv):
            mixed = torch.zeros(C, dtype=x.dtype)
            for head in range(module.heads):
                r = module.dilations[head * len(module.dilations) // module.heads]
                own = slice(head * d, (head + 1) * d)
                cells = [(i + p * r, j + q * r) for p in range(-reach, reach + 1) for q in range(-reach, reach + 1)]
                if module.border == "mask":
                    cells = [cell for cell in cells if cell in qkv]
                window = [qkv.get(cell, (zero, zero, zero)) for cell in cells]
                logits = [float(qkv[i, j][0][own] @ key[own]) / math.sqrt(d) for _, key, _ in window]
                total = sum(math.exp(logit) for logit in logits)
                for logit, (_, _, value) in zip(logits, window, strict=True):
                    mixed[own] += math.exp(logit) / total * value[own]
            out[b, :, i, j] = module.proj.weight[:, :, 0, 0] @ mixed + module.proj.bias
    return out


@pytest.mark.parametrize("border", ["mask", "zero"])
@pytest.mark.parametrize(
    ("heads", "kernel_size", "dilations", "qkv_bias"),
    [(6, 3, (1, 2, 3), True), (4, 3, (2, 1), False), (1, 5, (1,), True), (3, 1, (4, 4, 4), True)],
)
def test_equals_the_paper(
    heads: int, kernel_size: int, dilations: tuple[int, ...], qkv_bias: bool, border: str
) -> None:
    module = MSDA(12, heads=heads, kernel_size=kernel_size, dilations=dilations, qkv_bias=qkv_bias, border=border)
    module.double().requires_grad_(False)
    module.qkv.weight.mul_(4)  # sharp attention
    x = torch.randn(2, 12, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-12, rtol=0)


def test_the_borders_differ_only_where_a_window_leaves_the_map() -> None:
    mask = MSDA(12)
    zero = MSDA(12, border="zero")
    zero.load_state_dict(mask.state_dict())
    differs = (mask(x := torch.randn(1, 12, 9, 11)) - zero(x)).abs().amax((0, 1)) > 1e-6
    assert not differs[3:-3, 3:-3].any()
    assert differs[0].all()
    assert differs[:, -3].all()


def test_a_constant_map_stays_constant_up_to_its_border() -> None:
    module = MSDA(12).double()
    y = module(torch.randn(1, 12, 1, 1, dtype=torch.float64).expand(1, 12, 7, 5))
    torch.testing.assert_close(y, y[..., :1, :1].expand_as(y), atol=1e-12, rtol=0)


def test_a_cell_looks_at_exactly_25_cells() -> None:
    module = MSDA(12)
    x = torch.randn(1, 12, 11, 13, requires_grad=True)
    module(x)[0, :, 5, 6].sum().backward()
    assert x.grad is not None
    seen = {(i - 5, j - 6) for i, j in x.grad[0].abs().sum(0).nonzero().tolist()}
    expected = {(r * p, r * q) for r in (1, 2, 3) for p in (-1, 0, 1) for q in (-1, 0, 1)}
    assert seen == expected
    assert len(seen) == 25


def test_leaves_its_input_alone_and_trains_in_float32() -> None:
    """The authors' code writes into its input, which stops the backward pass in float32."""
    module = MSDA(12)
    x = torch.randn(2, 12, 6, 7, requires_grad=True)
    before = x.detach().clone()
    (x + module(x)).square().sum().backward()
    assert torch.equal(x, before)
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("qkv_bias", "count"), [(True, 263_168), (False, 262_400)])
def test_parameter_count_is_the_closed_form(qkv_bias: bool, count: int) -> None:
    module = MSDA(256, heads=8, dilations=(1, 2), qkv_bias=qkv_bias)
    assert sum(p.numel() for p in module.parameters()) == count == 4 * 256**2 + 256 + 3 * 256 * qkv_bias


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (48, {"heads": 3}),
        (192, {"heads": 6}),
        (64, {"heads": 2, "dilations": (1, 2)}),
        (256, {"heads": 8, "dilations": (1, 2)}),
        (13, {"heads": 1, "dilations": (1,)}),
    ],
)
def test_fit_keeps_the_papers_dilations_where_it_can(channels: int, options: dict[str, object]) -> None:
    assert MSDA.fit(channels) == options
    MSDA(channels, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 8}, r"got heads=8 and dilations=\(1, 2, 3\); heads could be 3, 6, 12, 24, 48"),
        ({"heads": 8, "dilations": (1, 2, 3, 4, 5)}, "got heads=8.*change the number of dilations"),
        ({"dilations": 2}, "dilations to be a list of integers, got 2"),
        ({"dilations": ()}, "change the number of dilations"),
        ({"dilations": (0, 1, 2)}, "dilation to be a positive integer, got 0"),
        ({"kernel_size": 4}, "odd kernel_size.*use 3 or 5"),
        ({"border": "wrap"}, "border to be one of 'mask', 'zero', got 'wrap'"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MSDA(48, **options)  # type: ignore[arg-type]
