"""Focused linear attention against the paper's equations 4-8 and its code (arXiv 2308.00442), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attngraft.attention import FocusedLinearAttention


def phi(x: Tensor, scale: Tensor, p: int, spans: list[slice]) -> Tensor:
    """Sharpen one token's features; their length is kept within each span of channels."""
    x = (x.clamp_min(0) + 1e-6) / scale.exp().add(1).log()
    return torch.cat([x[s].norm() / (x[s] ** p).norm() * x[s] ** p for s in spans])


def reference(module: FocusedLinearAttention, x: Tensor, positions: Tensor | None) -> Tensor:
    B, C, H, W = x.shape
    d, p, reach = C // module.heads, module.focusing_factor, module.kernel_size // 2
    heads = [slice(h * d, (h + 1) * d) for h in range(module.heads)]
    spans = heads if module.norm == "head" else [slice(0, C)]
    cells = [(i, j) for i in range(H) for j in range(W)]
    out = torch.empty_like(x)
    for b in range(B):
        q, k, v = {}, {}, {}
        for i, j in cells:
            vector = module.qkv.weight[:, :, 0, 0] @ x[b, :, i, j]
            q[i, j], k[i, j], v[i, j] = (vector if module.qkv.bias is None else vector + module.qkv.bias).split(C)
            if positions is not None:
                k[i, j] = k[i, j] + positions[:, i, j]
            q[i, j], k[i, j] = phi(q[i, j], module.scale, p, spans), phi(k[i, j], module.scale, p, spans)
        for i, j in cells:
            mixed = torch.zeros(C, dtype=x.dtype)
            for own in heads:
                weights = [q[i, j][own] @ k[cell][own] / len(cells) for cell in cells]
                total = sum(weights) + 1e-6
                mixed[own] = sum(w / total * v[cell][own] for w, cell in zip(weights, cells, strict=True))
                mixed[own] += module.dwc.bias
                for y, z in cells:
                    tap = y - i + reach, z - j + reach
                    if all(0 <= t <= 2 * reach for t in tap):
                        mixed[own] += module.dwc.weight[:, 0, tap[0], tap[1]] * v[y, z][own]
            out[b, :, i, j] = module.proj.weight[:, :, 0, 0] @ mixed + module.proj.bias
    return out


def randomised(**options: object) -> FocusedLinearAttention:
    module = FocusedLinearAttention(12, **options).double().requires_grad_(False)  # type: ignore[arg-type]
    for parameter in (module.scale, module.positions):
        if parameter is not None:
            parameter.normal_()
    return module


@pytest.mark.parametrize(
    "options",
    [
        {"heads": 3, "map_size": (5, 3)},
        {"heads": 2, "map_size": (5, 3), "norm": "head"},
        {"heads": 1, "map_size": None, "focusing_factor": 4, "kernel_size": 3, "qkv_bias": False},
    ],
    ids=["code", "paper", "bare"],
)
def test_equals_the_equations(options: dict[str, object]) -> None:
    module = randomised(**options)
    x = torch.randn(2, 12, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x, module.positions), atol=1e-11, rtol=0)


def test_the_position_table_is_resized_to_the_map() -> None:
    module = randomised(heads=3, map_size=(3, 4))
    x = torch.randn(1, 12, 2, 5, dtype=torch.float64)
    positions = F.interpolate(module.positions[None], size=(2, 5), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(module(x), reference(module, x, positions), atol=1e-11, rtol=0)


def test_rows_of_the_attention_sum_to_one_but_for_epsilon() -> None:
    """With values of one everywhere, each output is the sum of its row, and no row may take away."""
    module = randomised(heads=2, map_size=None)
    q, k = torch.randn(2, 1, 12, 30, dtype=torch.float64)
    rows = module._attend(q, k, torch.ones_like(q))
    q_factors, k_factors = (module._focus(t) for t in (q, k))
    means = [features * factor for features, factor in (q_factors, k_factors)]
    products = (means[0].transpose(2, 3) @ means[1].mean(3, keepdim=True))[..., 0]  # (B, h, N)
    expected = (products / (products + 1e-6)).repeat_interleave(6, 1)
    torch.testing.assert_close(rows, expected, atol=1e-12, rtol=0)
    assert (module._attend(q, k, torch.rand_like(q)) >= 0).all()


def test_without_places_the_cells_are_a_set() -> None:
    module = randomised(heads=3, map_size=None)
    module.dwc.weight.zero_()
    x = torch.randn(1, 12, 5, 3, dtype=torch.float64)
    order = torch.randperm(15)
    shuffled = x.flatten(2)[..., order].view_as(x)
    expected = module(x).flatten(2)[..., order].view_as(x)
    torch.testing.assert_close(module(shuffled), expected, atol=1e-12, rtol=0)


def test_eval_returns_the_module_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    module = FocusedLinearAttention(16)
    assert module.eval() is module
    assert module.train() is module
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("autocast", [False, True], ids=["weights", "autocast"])
def test_float16_learns_what_float32_learns(autocast: bool) -> None:
    """Narrow heads have denominators near epsilon, where float16 itself gives infinite gradients."""
    module = FocusedLinearAttention(16)
    x = torch.randn(1, 16, 6, 5) * 8
    expected = gradients(module, x)
    found = gradients(module, x, autocast=True) if autocast else gradients(module.half(), x.half())
    for name, gradient in expected.items():
        error = (found[name].float() - gradient).norm() / gradient.norm()
        assert error < 0.3, name


def gradients(module: FocusedLinearAttention, x: Tensor, autocast: bool = False) -> dict[str, Tensor]:
    module.zero_grad()
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        y = module(x)
    y.float().square().mean().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters()}


def test_high_powers_do_not_overflow() -> None:
    module = FocusedLinearAttention(16, focusing_factor=32)
    x = (torch.randn(1, 16, 6, 5) * 1000).requires_grad_()
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_map_without_one_positive_feature_stays_finite() -> None:
    module = FocusedLinearAttention(16).half()
    negative = torch.full((1, 16, 30), -1.0).half()
    assert module._attend(negative, negative, torch.randn(1, 16, 30).half()).isfinite().all()


def test_parameter_count_is_the_closed_form() -> None:
    C, N, d = 256, 20 * 20, 256 // 8
    count = sum(p.numel() for p in FocusedLinearAttention(C).parameters())
    assert count == 366_656 == 4 * C**2 + 5 * C + N * C + 26 * d


def test_cost_at_detector_size_is_the_closed_form() -> None:
    assert math.isclose(FocusedLinearAttention(256).macs(20, 20), 0.114e9, rel_tol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "channels=64 and heads=5; heads could be 4 or 8"),
        ({"map_size": (20,)}, r"map_size to be a height and a width, got \(20,\)"),
        ({"map_size": 20}, "map_size to be a list of integers, or None, got 20"),
        ({"map_size": (20, 0)}, "map_width to be a positive integer, got 0"),
        ({"norm": "all"}, "norm to be one of 'channels', 'head', got 'all'"),
        ({"kernel_size": 2}, "odd kernel_size"),
        ({"focusing_factor": 0}, "focusing_factor to be a positive integer"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FocusedLinearAttention(64, **options)  # type: ignore[arg-type]


def test_fit_keeps_heads_of_32_channels_or_more() -> None:
    assert FocusedLinearAttention.fit(256) == {}
    assert FocusedLinearAttention.fit(96) == {"heads": 3}
    assert FocusedLinearAttention.fit(13) == {"heads": 1}
