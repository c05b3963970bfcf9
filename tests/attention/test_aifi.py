"""AIFIEncoder against its equations (RT-DETR, arXiv 2304.08069), written slowly, and against the host's AIFI."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import AIFIEncoder


def randomise(module: nn.Module) -> nn.Module:
    """Move weights and norms away from their neutral start."""
    for tensor in module.state_dict().values():
        tensor.normal_(0, 0.5)
    return module.double()


def position(i: int, j: int, channels: int) -> Tensor:
    """Return sin then cos of the row, then of the column, at C / 4 wavelengths from 2 pi up."""
    waves = [10000 ** (-m / (channels // 4)) for m in range(channels // 4)]
    return torch.tensor(
        [f(offset * wave) for offset in (i, j) for f in (math.sin, math.cos) for wave in waves], dtype=torch.float64
    )


def layer_norm(token: Tensor, norm: nn.LayerNorm) -> Tensor:
    variance = sum((value - token.mean()) ** 2 for value in token) / len(token)
    return (token - token.mean()) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def linear(token: Tensor, layer: nn.Linear) -> Tensor:
    return layer.weight @ token + layer.bias


def reference(x: Tensor, module: AIFIEncoder) -> Tensor:
    B, C, H, W = x.shape
    d = C // module.heads
    out = torch.empty_like(x)
    for b in range(B):
        cells = [(i, j) for i in range(H) for j in range(W)]
        qk = {(i, j): linear(x[b, :, i, j] + position(i, j, C), module.query_key) for i, j in cells}
        v = {(i, j): linear(x[b, :, i, j], module.value) for i, j in cells}
        for i, j in cells:
            gathered = torch.zeros(C, dtype=x.dtype)
            for head in range(module.heads):
                part = slice(head * d, (head + 1) * d)
                logits = [(qk[i, j][:C][part] @ qk[other][C:][part]).item() / math.sqrt(d) for other in cells]
                total = sum(math.exp(logit) for logit in logits)
                for logit, other in zip(logits, cells, strict=True):
                    gathered[part] += math.exp(logit) / total * v[other][part]
            token = layer_norm(x[b, :, i, j] + linear(gathered, module.proj), module.norm1)
            hidden = linear(token, module.mlp[0])
            hidden = torch.stack([u / 2 * (1 + math.erf(u / math.sqrt(2))) for u in hidden])
            out[b, :, i, j] = layer_norm(token + linear(hidden, module.mlp[2]), module.norm2)
    return out


@pytest.mark.parametrize("heads", [1, 4])
@torch.no_grad()
def test_equals_the_paper(heads: int) -> None:
    module = randomise(AIFIEncoder(8, heads=heads, hidden=5))
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("size", [(7, 7), (7, 5), (3, 20)], ids=str)
@torch.no_grad()
def test_equals_the_hosts_with_its_weights(size: tuple[int, int]) -> None:
    transformer = pytest.importorskip("ultralytics.nn.modules.transformer")
    module = randomise(AIFIEncoder(64, hidden=32))
    oracle = transformer.AIFI(64, 32, 8).double().eval()
    oracle.ma.in_proj_weight.copy_(torch.cat((module.query_key.weight, module.value.weight)))
    oracle.ma.in_proj_bias.copy_(torch.cat((module.query_key.bias, module.value.bias)))
    pairs = ((module.proj, oracle.ma.out_proj), (module.mlp[0], oracle.fc1), (module.mlp[2], oracle.fc2))
    for ours, theirs in (*pairs, (module.norm1, oracle.norm1), (module.norm2, oracle.norm2)):
        theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 64, *size, dtype=torch.float64)
    # The host computes its positions in single precision.
    torch.testing.assert_close(module(x), oracle(x), atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_and_columns_are_told_apart() -> None:
    module = AIFIEncoder(16).eval()
    x = torch.randn(1, 16, 4, 4)
    turned = module(x.transpose(2, 3)).transpose(2, 3)
    assert (turned - module(x)).abs().max() > 1e-3


def test_positions_stay_exact_in_half_precision() -> None:
    module = AIFIEncoder(8)
    exact = module._positions(torch.empty(1, 8, 3, 300))
    half = module._positions(torch.empty(1, 8, 3, 300, dtype=torch.bfloat16))
    torch.testing.assert_close(half, exact.bfloat16(), atol=0, rtol=0)


@pytest.mark.parametrize(("hidden", "count"), [(None, 789_760), (1024, 789_760), (2048, 1_315_072)])
def test_parameter_count_is_the_hosts(hidden: int | None, count: int) -> None:
    assert sum(p.numel() for p in AIFIEncoder(256, hidden=hidden).parameters()) == count


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (30, {}, r"divisible by 4 for its positions, got 30; use 28 or 32"),
        (3, {}, r"got 3; use 4$"),
        (64, {"heads": 6}, r"channels=64 and heads=6; heads could be 4 or 8"),
        (64, {"hidden": 0}, r"hidden to be a positive integer, got 0"),
        (64, {"temperature": 0}, r"temperature to be above 0, got 0"),
        (64, {"temperature": -1.0}, r"temperature to be above 0, got -1.0"),
    ],
)
def test_options_that_cannot_work_are_refused(channels: int, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AIFIEncoder(channels, **options)
