"""HAB against HAT's description (arXiv 2205.04437, section 3.2), written slowly, and against the reference's form."""

from __future__ import annotations

import io
import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft.attention import HAB, OCAB
from attngraft.attention.hab import WindowAttention


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return module.eval()


def window_attention(module: WindowAttention, u: Tensor) -> Tensor:
    """Attend from each cell to those of its window; the grid starts at (shift, shift) and goes on to both sides."""
    H, W, C = u.shape
    M, s, h, d = module.window, module.shift, module.heads, C // module.heads
    qkv = u @ module.qkv.weight.T + module.qkv.bias
    q, k, v = (qkv[..., i * C : (i + 1) * C].reshape(H, W, h, d) for i in range(3))
    out = torch.empty(H, W, h, d, dtype=u.dtype)
    for y in range(H):
        for x in range(W):
            rows = [i for i in range(H) if (i - s) // M == (y - s) // M]
            columns = [j for j in range(W) if (j - s) // M == (x - s) // M]
            keys = [(i, j) for i in rows for j in columns]
            for head in range(h):
                bias = [module.table[head, i - y + M - 1, j - x + M - 1].item() for i, j in keys]
                logits = [
                    (q[y, x, head] @ k[i, j, head]).item() / math.sqrt(d) + b
                    for (i, j), b in zip(keys, bias, strict=True)
                ]
                weights = [math.exp(logit - max(logits)) for logit in logits]
                out[y, x, head] = sum(w / sum(weights) * v[i, j, head] for w, (i, j) in zip(weights, keys, strict=True))
    return out.reshape(H, W, C) @ module.proj.weight.T + module.proj.bias


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


@torch.no_grad()
def reference(module: HAB, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        tokens = image.permute(1, 2, 0)
        u = layer_norm(tokens, module.norm1)
        convolved = module.cab(u.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        y = tokens + window_attention(module.attn, u) + module.conv_scale * convolved
        hidden = layer_norm(y, module.norm2) @ module.mlp.fc1.weight.T + module.mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        out[b] = (y + hidden @ module.mlp.fc2.weight.T + module.mlp.fc2.bias).permute(2, 0, 1)
    return out


@pytest.mark.parametrize("size", [(7, 5), (8, 4), (2, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("training", [False, True], ids=["fused", "with_gradient"])
def test_equals_the_paper(shift: int, size: tuple[int, int], training: bool) -> None:
    module = randomised(HAB(6, heads=2, window=4, shift=shift, squeeze=2, mlp_ratio=1.5, conv_scale=0.3)).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(module(x), reference(module, x), atol=1e-11, rtol=0)


def reference_form(module: WindowAttention, u: Tensor, table: Tensor) -> Tensor:
    """Roll, cut, add a table looked up by index and -100 between regions, on maps of whole windows."""
    B, H, W, C = u.shape
    M, s, h = module.window, module.shift, module.heads

    def windows(x: Tensor) -> Tensor:
        x = x.roll((-s, -s), (1, 2)).reshape(-1, H // M, M, W // M, M, x.shape[-1])
        return x.transpose(2, 3).reshape(-1, M * M, x.shape[-1])

    q, k, v = module.qkv(windows(u)).reshape(-1, M * M, 3, h, C // h).permute(2, 0, 3, 1, 4)
    cells = torch.stack(torch.meshgrid(torch.arange(M), torch.arange(M), indexing="ij")).flatten(1)
    offset = cells[:, :, None] - cells[:, None] + M - 1  # query minus key
    bias = table[offset[0] * (2 * M - 1) + offset[1]].permute(2, 0, 1)
    y, x = torch.arange(H)[:, None].expand(H, W) < s, torch.arange(W).expand(H, W) < s
    region = windows((2 * y + x)[None, :, :, None])[..., 0]
    mask = (region[:, :, None] != region[:, None]) * -100.0
    logits = q @ k.transpose(2, 3) / math.sqrt(C // h) + bias
    logits = logits.unflatten(0, (B, -1)) + mask[:, None]
    out = (logits.flatten(0, 1).softmax(-1) @ v).transpose(1, 2).reshape(B, H // M, W // M, M, M, C)
    return module.proj(out.transpose(2, 3).reshape(B, H, W, C).roll((s, s), (1, 2)))


@pytest.mark.parametrize("shift", [0, 2])
def test_equals_the_references_form_and_table_layout(shift: int) -> None:
    module = randomised(WindowAttention(6, heads=2, window=4, shift=shift)).double()
    table = torch.randn(49, 2, dtype=torch.float64)
    module.table.data = table.T.reshape(2, 7, 7).flip(1, 2)
    u = torch.randn(2, 12, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(module(u), reference_form(module, u, table), atol=1e-11, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(8, 8), (8, 7), (4, 8)], ids=str)
def test_cells_that_a_shift_brings_together_do_not_meet(dtype: torch.dtype, size: tuple[int, int]) -> None:
    attention = randomised(WindowAttention(8, heads=2, window=4, shift=2)).to(dtype)
    u = torch.randn(1, *size, 8, dtype=dtype)
    louder = u.clone()
    louder[:, :2, :, :] *= 30  # rolled next to the last two rows
    assert torch.equal(attention(u)[:, 2:], attention(louder)[:, 2:])
    with torch.no_grad():
        assert torch.equal(attention(u)[:, 2:], attention(louder)[:, 2:])


def test_parameter_counts_are_the_references() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(HAB(180)) == count(HAB(180, shift=8)) == 463_932
    group = nn.Sequential(
        *[HAB(180, shift=8 * (i % 2)) for i in range(6)], OCAB(180), nn.Conv2d(180, 180, 3, padding=1)
    )
    assert count(group) == 3_345_678


@pytest.mark.parametrize("size", [(11, 7), (10, 15), (5, 5)], ids=str)
@pytest.mark.parametrize("shift", [0, 2])
def test_cost_is_what_runs_with_a_shift(shift: int, size: tuple[int, int]) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    module = HAB(12, heads=2, window=5, shift=shift, squeeze=4)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.randn(1, 12, *size))
    assert module.macs(*size) == counter.get_total_flops() // 2


def test_a_shifted_block_exports_with_dynamic_sizes() -> None:
    ort = pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    module = randomised(HAB(12, heads=2, window=4, shift=2, squeeze=4))
    file = io.BytesIO()
    axes = {"x": {0: "B", 2: "H", 3: "W"}, "y": {0: "B", 2: "H", 3: "W"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.randn(1, 12, 8, 8),), file, input_names=["x"], output_names=["y"], dynamic_axes=axes,
            dynamo=False,
        )  # fmt: skip
    session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for size in ((8, 8), (7, 13), (3, 1)):
        x = torch.randn(2, 12, *size)
        (y,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), module(x), atol=1e-4, rtol=1e-3)


def test_drop_path_acts_on_both_branches_while_training() -> None:
    module = HAB(12, heads=2, window=4, squeeze=4, drop_path=0.999).train()
    x = torch.randn(1, 12, 4, 4)
    u = F.layer_norm(x.permute(0, 2, 3, 1), (12,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(module(x), x + 0.01 * module.cab(u))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "channels=64 and heads=5; heads could be 4 or 8"),
        ({"shift": 16}, "shift of 0 to window - 1 = 15, got 16; HAT takes 0 or 8"),
        ({"squeeze": 65}, "squeeze of at most channels=64"),
        ({"mlp_ratio": 0.0}, "hidden to be a positive integer, got 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HAB(64, **{"heads": 4, **options})
