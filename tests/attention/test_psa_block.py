"""PositionSensitiveBlock against its equations (YOLOv10, arXiv 2405.14458), and against the host's C2PSA."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft.attention import PositionSensitiveBlock


def randomise(module: nn.Module) -> nn.Module:
    """Move weights, norms and their statistics away from their neutral start."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2) if name.endswith("running_var") else tensor.normal_(0, 0.3)
    return module.double().eval()


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Compute a 1x1 convolution and its norm, channel by channel."""
    out = [sum(w * x[:, c] for c, w in enumerate(row[:, 0, 0])) for row in conv.weight]
    columns = zip(out, norm.running_mean, norm.running_var, norm.weight, norm.bias, strict=True)
    return torch.stack([(y - mean) / (var + norm.eps).sqrt() * w + b for y, mean, var, w, b in columns], 1)


def reference(x: Tensor, module: PositionSensitiveBlock) -> Tensor:
    """Write the block out; the attention inside has a parity test of its own."""
    spread = F.silu(conv_norm(x, *module.spread[:2]))
    passed, attended = spread[:, : module.hidden], spread[:, module.hidden :]
    for layer in module.layers:
        attended = attended + layer.attention(attended)
        hidden = F.silu(conv_norm(attended, *layer.mlp[:2]))
        attended = attended + conv_norm(hidden, *layer.mlp[3:])
    return F.silu(conv_norm(torch.cat((passed, attended), 1), *module.merge[:2]))


@pytest.mark.parametrize(("blocks", "expansion"), [(1, 0.5), (2, 0.5), (1, 0.3), (1, 1.0)])
@torch.no_grad()
def test_equals_the_paper(blocks: int, expansion: float) -> None:
    module = randomise(PositionSensitiveBlock(11, blocks=blocks, expansion=expansion))
    x = torch.randn(2, 11, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_equals_the_hosts_with_its_weights() -> None:
    block = pytest.importorskip("ultralytics.nn.modules.block")
    module = randomise(PositionSensitiveBlock(256, blocks=2))
    oracle = block.C2PSA(256, 256, n=2).double().eval()
    pairs = [(module.spread, oracle.cv1), (module.merge, oracle.cv2)]
    for ours, theirs in zip(module.layers, oracle.m, strict=True):
        inner = ours.attention
        pairs += [(inner.qkv, theirs.attn.qkv), (inner.position, theirs.attn.pe), (inner.proj, theirs.attn.proj)]
        pairs += [(ours.mlp[:2], theirs.ffn[0]), (ours.mlp[3:], theirs.ffn[1])]
    for ours, theirs in pairs:
        theirs.conv.load_state_dict(ours[0].state_dict())
        theirs.bn.load_state_dict(ours[1].state_dict())
    x = torch.randn(1, 256, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), oracle(x), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("blocks", "count"), [(1, 249_728), (2, 367_360)])
def test_parameter_count_is_the_hosts(blocks: int, count: int) -> None:
    assert sum(p.numel() for p in PositionSensitiveBlock(256, blocks=blocks).parameters()) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 0}, r"blocks to be a positive integer, got 0"),
        ({"expansion": 0.01}, r"attends to 1 to 64 channels, got 0\.01, which is 0 of 64"),
        ({"expansion": 2}, r"attends to 1 to 64 channels, got 2, which is 128 of 64"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PositionSensitiveBlock(64, **options)
