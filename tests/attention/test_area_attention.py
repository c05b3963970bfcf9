"""AreaAttention against its equations (YOLOv12, arXiv 2502.12524), written slowly, and against the host's AAttn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import AreaAttention


def randomise(module: nn.Module) -> nn.Module:
    """Move weights, norms and their statistics away from their neutral start."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2) if name.endswith("running_var") else tensor.normal_(0, 0.5)
    return module.double().eval()


def normalise(values: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Normalise the channels of one cell with the running statistics."""
    return (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def reference(x: Tensor, module: AreaAttention) -> Tensor:
    B, C, H, W = x.shape
    h, d, k = module.heads, C // module.heads, module.kernel_size
    (w_in, norm_in), (w_pos, norm_pos), (w_out, norm_out) = (
        (conv.weight, norm) for conv, norm in (module.qkv, module.position, module.proj)
    )
    length = math.ceil(H * W / module.area)
    out = torch.empty_like(x)
    for b in range(B):
        cells = [(i, j) for i in range(H) for j in range(W)]
        tokens = {(i, j): normalise(w_in[:, :, 0, 0] @ x[b, :, i, j], norm_in).view(h, 3, d) for i, j in cells}
        for n, (i, j) in enumerate(cells):
            strip = [cell for m, cell in enumerate(cells) if m // length == n // length]
            gathered, position = torch.zeros(h, d, dtype=x.dtype), torch.zeros(h, d, dtype=x.dtype)
            for head in range(h):
                logits = [(tokens[i, j][head, 0] @ tokens[c][head, 1]).item() / math.sqrt(d) for c in strip]
                total = sum(math.exp(logit) for logit in logits)
                for logit, cell in zip(logits, strip, strict=True):
                    gathered[head] += math.exp(logit) / total * tokens[cell][head, 2]
            for di in range(k):
                for dj in range(k):
                    near = (i + di - k // 2, j + dj - k // 2)
                    if near in tokens:
                        position += w_pos[:, 0, di, dj].view(h, d) * tokens[near][:, 2]
            mixed = gathered.flatten() + normalise(position.flatten(), norm_pos)
            out[b, :, i, j] = normalise(w_out[:, :, 0, 0] @ mixed, norm_out)
    return out


# 5x3 in 4 strips is 4, 4, 4, 3 cells; 2x3 in 4 is 2, 2, 2, 0; 1x3 in 5 is 1, 1, 1, 0, 0.
@pytest.mark.parametrize(
    ("area", "size"), [(1, (5, 3)), (3, (3, 5)), (4, (5, 3)), (4, (2, 3)), (5, (1, 3)), (4, (1, 1))], ids=str
)
@pytest.mark.parametrize("kernel_size", [3, 7])
@torch.no_grad()
def test_equals_the_paper(area: int, size: tuple[int, int], kernel_size: int) -> None:
    module = randomise(AreaAttention(6, area=area, heads=2, kernel_size=kernel_size))
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("area", "size"), [(1, (7, 5)), (4, (8, 6)), (4, (6, 6))], ids=str)
@torch.no_grad()
def test_equals_the_hosts_with_its_weights(area: int, size: tuple[int, int]) -> None:
    block = pytest.importorskip("ultralytics.nn.modules.block")
    module = randomise(AreaAttention(64, area=area))
    oracle = block.AAttn(64, 2, area).double().eval()
    for ours, theirs in ((module.qkv, oracle.qkv), (module.position, oracle.pe), (module.proj, oracle.proj)):
        theirs.conv.load_state_dict(ours[0].state_dict())
        theirs.bn.load_state_dict(ours[1].state_dict())
    x = torch.randn(2, 64, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), oracle(x), atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_without_the_convolution_no_strip_sees_another() -> None:
    module = randomise(AreaAttention(8, area=4))
    module.position[0].weight.zero_()
    x = torch.randn(1, 8, 5, 3, dtype=torch.float64)
    touched = x.clone()
    touched.flatten(2)[:, :, 4:8] += 1  # the second strip of ceil(15 / 4) cells
    changed = (module(touched) - module(x)).abs().sum((0, 1)).flatten() > 0
    assert changed.nonzero().flatten().tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 3)], ids=str)
def test_ragged_strips_have_finite_gradients(size: tuple[int, int]) -> None:
    module = AreaAttention(8, area=4)
    x = torch.randn(2, 8, *size, requires_grad=True)
    module(x).square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in (x, *module.parameters()))


def test_parameter_count_is_the_closed_form() -> None:
    C = 256
    count = sum(p.numel() for p in AreaAttention(C).parameters())
    assert count == 4 * C * C + 2 * 4 * C + 49 * C + 2 * C == 277_248


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 7}, r"channels=64 and heads=7; heads could be 4 or 8"),
        ({"area": 0}, r"area to be a positive integer, got 0"),
        ({"kernel_size": 6}, r"odd kernel_size.*got 6; use 5 or 7"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AreaAttention(64, **options)
