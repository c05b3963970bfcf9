"""PolaFormer's attention against the paper's equations (arXiv 2501.15061) on a state of the authors' module."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attngraft._core.errors import CheckpointError
from attngraft.attention import PolaLinearAttention
from attngraft.attention.pola import from_official
from tests.attention.slow import assert_same, conv2d, official, parameters

C, HEADS, D, H, W = 8, 2, 4, 3, 2
SHAPES = {
    "qg.weight": (2 * C, C), "qg.bias": (2 * C,), "kv.weight": (2 * C, C), "kv.bias": (2 * C,), "proj.weight": (C, C),
    "proj.bias": (C,), "dwc.weight": (D, 1, 3, 3), "dwc.bias": (D,), "power": (1, HEADS, 1, D), "scale": (1, 1, C),
    "positional_encoding": (1, H * W, C),
}  # fmt: skip


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return from_official(state, (H, W))


def reference(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Equations 4 to 8: the four products of signs, each weighted by its sum over the keys."""
    positions = state["positional_encoding"][0]
    scale = (1 + state["scale"][0, 0].exp()).log()
    out = []
    for image in x.flatten(2):
        q, g = (state["qg.weight"] @ image + state["qg.bias"][:, None]).split(C)
        k, v = (state["kv.weight"] @ image + state["kv.bias"][:, None]).split(C)
        mixed = torch.zeros(H * W, C, dtype=x.dtype)
        for h in range(HEADS):
            own, half = slice(h * D, (h + 1) * D), h * D + D // 2
            power = 1 + 4 / (1 + (-state["power"][0, h, 0]).exp())
            queries = [q[own, n] / scale[own] for n in range(H * W)]
            keys = [(k[:, n] + positions[n])[own] / scale[own] for n in range(H * W)]

            def part(vector: Tensor, sign: int, power: Tensor = power) -> Tensor:
                return (sign * vector).clamp(min=0) ** power

            for n, query in enumerate(queries):
                for signs, values in ((1, slice(h * D, half)), (-1, slice(half, (h + 1) * D))):
                    weights = [sum(part(query, s) @ part(key, s * signs) for s in (1, -1)) / len(keys) for key in keys]
                    total = sum(weights) + 1e-6
                    row = torch.zeros(H * W, C, dtype=x.dtype)
                    row[n, values] = sum(w / total * v[values, m] for m, w in enumerate(weights))
                    mixed = mixed + row
        weight, bias = state["dwc.weight"].repeat(HEADS, 1, 1, 1), state["dwc.bias"].repeat(HEADS)
        local = conv2d(v.view(1, C, H, W), weight, bias)[0].flatten(1)
        out.append(state["proj.weight"] @ ((mixed.T + local) * g) + state["proj.bias"][:, None])
    return torch.stack(out).view(x.shape)


@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_paper(batch: int) -> None:
    module = PolaLinearAttention(C, heads=HEADS, kernel_size=3, map_size=(H, W), qkv_bias=True)
    assert_same(module, reference, official(SHAPES), torch.randn(batch, C, H, W, dtype=torch.float64), convert)


def test_the_position_table_is_resized_to_the_map() -> None:
    small = PolaLinearAttention(C, heads=HEADS, map_size=(3, 4)).double()
    torch.nn.init.normal_(small.positions)
    large = PolaLinearAttention(C, heads=HEADS, map_size=(2, 5)).double()
    positions = F.interpolate(small.positions[None], size=(2, 5), mode="bilinear", align_corners=False)[0]
    large.load_state_dict({**small.state_dict(), "positions": positions})
    x = torch.randn(1, C, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(small(x), large(x), atol=1e-12, rtol=0)


def test_large_features_keep_their_gradient() -> None:
    """The square of such a denominator's reciprocal is zero in float32: a quotient keeps the gradient."""
    single = PolaLinearAttention(C, heads=HEADS, map_size=None)
    double = PolaLinearAttention(C, heads=HEADS, map_size=None).double()
    double.load_state_dict(single.state_dict())
    x = torch.randn(1, C, 4, 5) * 1e5
    found = []
    for module, image in ((single, x), (double, x.double())):
        module(image).square().mean().backward()
        found.append(module.qgkv.weight.grad[:C].double())
    torch.testing.assert_close(*found, atol=float(found[1].abs().max()) * 1e-3, rtol=1e-3)


def test_parameter_count_is_the_authors() -> None:
    C, d = 256, 32
    table = 20 * 20 * C
    assert parameters(PolaLinearAttention(C)) == 5 * C**2 + C + 2 * C + 26 * d + table == 431_680


def test_options_and_states_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"an even number of channels, got 3 .* heads could be 6 or 12"):
        PolaLinearAttention(24)
    with pytest.raises(ValueError, match="alpha of at least 0, got -1"):
        PolaLinearAttention(64, alpha=-1)
    with pytest.raises(CheckpointError, match=r"has 6 cells, and 2 x 2 have 4; give map_size"):
        from_official(official(SHAPES))
