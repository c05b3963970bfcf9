"""PSAAttention against its equations (YOLOv10, arXiv 2405.14458), written slowly, and against the host's Attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import PSAAttention


def randomise(module: nn.Module) -> nn.Module:
    """Move weights, norms and their statistics away from their neutral start."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2) if name.endswith("running_var") else tensor.normal_(0, 0.5)
    return module.double().eval()


def normalise(values: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Normalise the channels of one cell with the running statistics."""
    return (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def reference(x: Tensor, module: PSAAttention) -> Tensor:
    B, C, H, W = x.shape
    h, d, d_k = module.heads, C // module.heads, int(C // module.heads * module.key_ratio)
    (w_in, norm_in), (w_pos, norm_pos), (w_out, norm_out) = (
        (conv.weight, norm) for conv, norm in (module.qkv, module.position, module.proj)
    )
    out = torch.empty_like(x)
    for b in range(B):
        cells = [(i, j) for i in range(H) for j in range(W)]
        tokens = {(i, j): normalise(w_in[:, :, 0, 0] @ x[b, :, i, j], norm_in).view(h, 2 * d_k + d) for i, j in cells}
        for i, j in cells:
            gathered, position = torch.zeros(h, d, dtype=x.dtype), torch.zeros(h, d, dtype=x.dtype)
            for head in range(h):
                q = tokens[i, j][head, :d_k]
                logits = [(q @ tokens[other][head, d_k : 2 * d_k]).item() / math.sqrt(d_k) for other in cells]
                total = sum(math.exp(logit) for logit in logits)
                for logit, other in zip(logits, cells, strict=True):
                    gathered[head] += math.exp(logit) / total * tokens[other][head, 2 * d_k :]
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    if (i + di, j + dj) in tokens:
                        position += w_pos[:, 0, di + 1, dj + 1].view(h, d) * tokens[i + di, j + dj][:, 2 * d_k :]
            mixed = gathered.flatten() + normalise(position.flatten(), norm_pos)
            out[b, :, i, j] = normalise(w_out[:, :, 0, 0] @ mixed, norm_out)
    return out


@pytest.mark.parametrize(("heads", "key_ratio"), [(1, 0.5), (3, 0.5), (2, 0.34), (2, 1.0)])
@torch.no_grad()
def test_equals_the_paper(heads: int, key_ratio: float) -> None:
    module = randomise(PSAAttention(12, heads=heads, key_ratio=key_ratio))
    x = torch.randn(2, 12, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_equals_the_hosts_with_its_weights() -> None:
    block = pytest.importorskip("ultralytics.nn.modules.block")
    module = randomise(PSAAttention(128))
    oracle = block.Attention(128, num_heads=2).double().eval()
    for ours, theirs in ((module.qkv, oracle.qkv), (module.position, oracle.pe), (module.proj, oracle.proj)):
        theirs.conv.load_state_dict(ours[0].state_dict())
        theirs.bn.load_state_dict(ours[1].state_dict())
    x = torch.randn(2, 128, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), oracle(x), atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_a_query_of_zeros_looks_everywhere_alike() -> None:
    module = randomise(PSAAttention(16, heads=1))
    module.qkv[0].weight[:8] = module.qkv[1].running_mean[:8] = module.qkv[1].bias[:8] = 0
    x = torch.randn(1, 16, 5, 3, dtype=torch.float64)
    v = module.qkv(x)[:, 16:]
    torch.testing.assert_close(module(x), module.proj(v.mean((2, 3), keepdim=True) + module.position(v)))


def test_parameter_count_is_the_closed_form() -> None:
    C = 256
    count = sum(p.numel() for p in PSAAttention(C).parameters())
    assert count == 2 * C * C + 2 * 2 * C + 9 * C + 2 * C + C * C + 2 * C == 200_960


@pytest.mark.parametrize(("channels", "heads"), [(256, 4), (64, 1), (24, 1), (200, 2), (320, 5)])
def test_heads_are_the_hosts_rule_made_to_divide(channels: int, heads: int) -> None:
    assert PSAAttention(channels).heads == heads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 7}, r"channels=64 and heads=7; heads could be 4 or 8"),
        ({"key_ratio": 0}, r"key_ratio above 0 and at most 1, got 0"),
        ({"key_ratio": 1.5}, r"key_ratio above 0 and at most 1, got 1\.5"),
        ({"heads": 64}, r"key_ratio=0\.5 of 1 channels a head; use a key_ratio of 1 or more, or fewer heads"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PSAAttention(64, **options)
