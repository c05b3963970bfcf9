"""Polarized self-attention against the paper's equations 4-8 (arXiv 2107.00782) and its code, written slowly."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attngraft.attention import PolarizedSelfAttention
from tests.attention.slow import traced

FORMS = list(itertools.product(("parallel", "sequential"), ("paper", "official")))


def at_every_cell(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution to one image, cell by cell."""
    out = torch.empty(layer.out_features, *x.shape[1:], dtype=x.dtype)
    for i, j in itertools.product(range(x.shape[1]), range(x.shape[2])):
        out[:, i, j] = layer.weight @ x[:, i, j] + (0 if layer.bias is None else layer.bias)
    return out


def softmax(x: Tensor, dim: int) -> Tensor:
    powers = x.exp()
    return powers / powers.sum(dim, keepdim=True)


def channel_gate(module: PolarizedSelfAttention, x: Tensor) -> Tensor:
    weight = softmax(at_every_cell(module.channel_q, x).flatten(), 0)
    pooled = at_every_cell(module.channel_v, x).flatten(1) @ weight
    return 1 / (1 + (-module.channel_z(pooled[None])[0]).exp())


def spatial_gate(module: PolarizedSelfAttention, x: Tensor) -> Tensor:
    query = at_every_cell(module.spatial_q, x).flatten(1).mean(1)
    values = at_every_cell(module.spatial_v, x).flatten(1)
    if module.form == "paper":
        logits = softmax(query, 0) @ values
    elif module.order == "parallel":
        logits = softmax(query @ values, 0)
    else:
        logits = query @ softmax(values, 1)
    return 1 / (1 + (-logits.view(x.shape[1:])).exp())


def reference(module: PolarizedSelfAttention, x: Tensor) -> Tensor:
    out = []
    for image in x:
        gated = image * channel_gate(module, image)[:, None, None]
        if module.order == "parallel":
            out.append(gated + image * spatial_gate(module, image))
        else:
            out.append(gated * spatial_gate(module, gated))
    return torch.stack(out)


@pytest.mark.parametrize(("order", "form"), FORMS)
def test_equals_the_equations(order: str, form: str) -> None:
    module = PolarizedSelfAttention(10, order=order, form=form).double().requires_grad_(False)
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter))
    x = torch.randn(2, 10, 5, 3, dtype=torch.float64)
    expected = reference(module, x)
    torch.testing.assert_close(module(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(traced(module, x), expected, atol=1e-12, rtol=0)


def test_the_channel_gate_does_not_see_places() -> None:
    module = PolarizedSelfAttention(10).double()
    x = torch.randn(1, 10, 5, 3, dtype=torch.float64)
    shuffled = x.flatten(2)[..., torch.randperm(15)].view_as(x)
    torch.testing.assert_close(module.channel_gate(shuffled), module.channel_gate(x), atol=1e-14, rtol=0)


def test_the_official_parallel_spatial_gate_is_nearly_constant() -> None:
    gate = PolarizedSelfAttention(64, form="official").spatial_gate(torch.randn(1, 64, 20, 20))
    assert gate.min() > 0.5
    assert gate.max() < 0.7311  # sigmoid of at most 1


def test_the_bias_that_cancels_never_learns() -> None:
    module = PolarizedSelfAttention(8).double()
    module(torch.randn(2, 8, 5, 3, dtype=torch.float64)).square().sum().backward()
    assert module.channel_q.bias.grad is not None
    assert module.channel_q.bias.grad.abs() < 1e-12
    assert module.channel_q.weight.grad is not None
    assert module.channel_q.weight.grad.abs().max() > 1e-6


@pytest.mark.parametrize(
    ("order", "form", "count"),
    [
        ("parallel", "paper", 132_481),
        ("sequential", "paper", 132_481),
        ("parallel", "official", 131_328),
        ("sequential", "official", 111_200),
    ],
)
def test_parameter_count_is_the_closed_form(order: str, form: str, count: int) -> None:
    C = 256
    module = PolarizedSelfAttention(C, order=order, form=form)
    closed = {("official", "parallel"): 2 * C**2 + C, ("official", "sequential"): 27 * C**2 // 16 + 19 * C // 8}
    assert sum(p.numel() for p in module.parameters()) == count
    assert count == closed.get((form, order), 2 * C**2 + 11 * C // 2 + 1)


@pytest.mark.parametrize(("order", "form"), FORMS)
def test_cost_formula_is_what_runs(order: str, form: str) -> None:
    module = PolarizedSelfAttention(20, order=order, form=form)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.randn(1, 20, 7, 5))
    assert module.macs(7, 5) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (7, {}, "even number of channels, got 7; use 8"),
        (6, {"form": "official", "order": "sequential"}, "8 channels or more.*got 6; use form='paper'"),
        (8, {"order": "both"}, "order to be one of 'parallel', 'sequential', got 'both'"),
        (8, {"form": "mine"}, "form to be one of 'paper', 'official', got 'mine'"),
    ],
)
def test_options_that_cannot_work_are_refused(channels: int, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolarizedSelfAttention(channels, **options)
