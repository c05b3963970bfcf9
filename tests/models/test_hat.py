"""HAT against the equations of its paper (arXiv 2205.04437) and its authors' checkpoints, written slowly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft import models
from attngraft.measure import flops, parameters
from attngraft.models.hat import HAT, from_official, reflect_to

TINY: dict[str, Any] = {"channels": 12, "depths": (2, 1), "heads": 2, "window": 4, "compress": 3, "squeeze": 4}
MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).double().view(3, 1, 1)  # of the rounding that the network has


# -- a checkpoint as the authors' code saves it, and what it stands for -----------------------------------------------


def official(
    *, scale: int, channels: int, depths: tuple[int, ...], heads: int, window: int, compress: int, squeeze: int
) -> dict[str, Tensor]:
    """Draw a checkpoint; MLPs are twice as wide as the channels, overlapping windows 1.5 times as windows."""
    C, M, K = channels, window, window * 3 // 2
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    def attention(name: str, table_side: int) -> None:
        shapes[f"{name}.relative_position_bias_table"] = (table_side**2, heads)
        layer(f"{name}.qkv", 3 * C, C)
        layer(f"{name}.proj", C, C)

    def around(name: str) -> None:
        layer(f"{name}.norm1", C)
        layer(f"{name}.norm2", C)
        layer(f"{name}.mlp.fc1", 2 * C, C)
        layer(f"{name}.mlp.fc2", C, 2 * C)

    layer("conv_first", C, 3, 3, 3)
    layer("patch_embed.norm", C)
    for group, depth in enumerate(depths):
        for i in range(depth):
            name = f"layers.{group}.residual_group.blocks.{i}"
            around(name)
            attention(f"{name}.attn", 2 * M - 1)
            layer(f"{name}.conv_block.cab.0", C // compress, C, 3, 3)
            layer(f"{name}.conv_block.cab.2", C, C // compress, 3, 3)
            layer(f"{name}.conv_block.cab.3.attention.1", C // squeeze, C, 1, 1)
            layer(f"{name}.conv_block.cab.3.attention.3", C, C // squeeze, 1, 1)
        around(f"layers.{group}.residual_group.overlap_attn")
        attention(f"layers.{group}.residual_group.overlap_attn", M + K - 1)
        layer(f"layers.{group}.conv", C, C, 3, 3)
    layer("norm", C)
    layer("conv_after_body", C, C, 3, 3)
    layer("conv_before_upsample.0", 64, C, 3, 3)
    steps = {2: [2], 3: [3], 4: [2, 2]}[scale]
    for i, factor in enumerate(steps):
        layer(f"upsample.{2 * i}", 64 * factor**2, 64, 3, 3)
    layer("conv_last", 3, 64, 3, 3)
    return {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}


class Official:
    """The authors' network over such a checkpoint, on images of whole windows."""

    def __init__(self, state: dict[str, Tensor], *, heads: int, window: int, depths: tuple[int, ...]) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.heads, self.window, self.depths = heads, window, depths

    def __call__(self, x: Tensor) -> Tensor:
        shallow = self.conv("conv_first", x - MEAN)
        deep = self.norm("patch_embed.norm", shallow)
        for group, depth in enumerate(self.depths):
            inner = deep
            for i in range(depth):
                inner = self.hab(f"layers.{group}.residual_group.blocks.{i}", inner, self.window // 2 if i % 2 else 0)
            inner = self.ocab(f"layers.{group}.residual_group.overlap_attn", inner)
            deep = deep + self.conv(f"layers.{group}.conv", inner)
        shallow = shallow + self.conv("conv_after_body", self.norm("norm", deep))
        x = self.conv("conv_before_upsample.0", shallow)
        x = torch.where(x > 0, x, 0.01 * x)
        step = 0
        while f"upsample.{step}.weight" in self.state:
            x = self.shuffle(self.conv(f"upsample.{step}", x))
            step += 2
        return self.conv("conv_last", x) + MEAN

    def layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.layer(name)
        return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.layer(name)
        return torch.einsum("bchw,oc->bohw", x, weight) + bias[:, None, None]

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.layer(name)
        centred = x - x.mean(1, keepdim=True)
        deviation = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return centred / deviation * weight[:, None, None] + bias[:, None, None]

    @staticmethod
    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def shuffle(x: Tensor) -> Tensor:
        """Spread the channels of each cell over a square of cells, the channel of a square slowest."""
        B, channels, H, W = x.shape
        r = math.isqrt(channels // 64)
        out = x.new_zeros(B, 64, r * H, r * W)
        for i in range(r):
            for j in range(r):
                out[:, :, i::r, j::r] = x[:, i * r + j :: r * r]
        return out

    def hab(self, name: str, x: Tensor, shift: int) -> Tensor:
        u = self.norm(f"{name}.norm1", x)
        local = self.conv(f"{name}.conv_block.cab.2", self.gelu(self.conv(f"{name}.conv_block.cab.0", u)))
        gate = self.conv(f"{name}.conv_block.cab.3.attention.1", local.mean((2, 3), keepdim=True)).relu()
        local = local * self.conv(f"{name}.conv_block.cab.3.attention.3", gate).sigmoid()
        x = x + self.windows(f"{name}.attn", u, shift) + 0.01 * local
        return x + self.mlp(name, x)

    def ocab(self, name: str, x: Tensor) -> Tensor:
        x = x + self.overlapping(name, self.norm(f"{name}.norm1", x))
        return x + self.mlp(name, x)

    def mlp(self, name: str, x: Tensor) -> Tensor:
        hidden = self.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x)))
        return self.linear(f"{name}.mlp.fc2", hidden)

    def windows(self, name: str, u: Tensor, shift: int) -> Tensor:
        """Roll the map, attend in each window with -100 between cells that were not neighbours, and roll back."""
        M, table = self.window, self.state[f"{name}.relative_position_bias_table"]
        H, W = u.shape[2:]
        qkv = self.linear(f"{name}.qkv", u).roll((-shift, -shift), (2, 3))
        wrapped = torch.zeros(H, W, 2)
        wrapped[H - shift :, :, 0] = 1
        wrapped[:, W - shift :, 1] = 1
        bias = torch.empty(M, M, M, M, table.shape[1], dtype=table.dtype)
        for i, j, k, m in torch.cartesian_prod(*[torch.arange(M)] * 4).tolist():
            bias[i, j, k, m] = table[(i - k + M - 1) * (2 * M - 1) + j - m + M - 1]
        out = torch.empty_like(u)
        for y in range(0, H, M):
            for x in range(0, W, M):
                q, k, v = qkv[:, :, y : y + M, x : x + M].chunk(3, 1)
                regions = wrapped[y : y + M, x : x + M].reshape(M * M, 2)
                apart = -100.0 * (regions[:, None] != regions).any(2)
                window_bias = bias.reshape(M * M, M * M, -1).permute(2, 0, 1) + apart
                out[:, :, y : y + M, x : x + M] = self.attend(q, k, v, window_bias)
        return self.linear(f"{name}.proj", out.roll((shift, shift), (2, 3)))

    def overlapping(self, name: str, u: Tensor) -> Tensor:
        """Attend from each window to the larger one around it, of a map that is padded with zeros."""
        M, K, table = self.window, self.window * 3 // 2, self.state[f"{name}.relative_position_bias_table"]
        H, W = u.shape[2:]
        C = u.shape[1]
        qkv = self.linear(f"{name}.qkv", u)
        padded = F.pad(qkv[:, C:], ((K - M) // 2,) * 4)
        bias = torch.empty(M, M, K, K, table.shape[1], dtype=table.dtype)
        for i, j, k, m in torch.cartesian_prod(*[torch.arange(size) for size in (M, M, K, K)]).tolist():
            row = (k - i + M - K + 1) * (M + K - 1) + m - j + M - K + 1
            bias[i, j, k, m] = table[row]  # a row below zero counts from the table's end
        bias = bias.reshape(M * M, K * K, -1).permute(2, 0, 1)
        out = torch.empty_like(u)
        for y in range(0, H, M):
            for x in range(0, W, M):
                k, v = padded[:, :, y : y + K, x : x + K].chunk(2, 1)
                out[:, :, y : y + M, x : x + M] = self.attend(qkv[:, :C, y : y + M, x : x + M], k, v, bias)
        return self.linear(f"{name}.proj", out)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        shape = q.shape
        q, k, v = (t.flatten(2).unflatten(1, (self.heads, -1)) for t in (q, k, v))  # (B, h, d, cells)
        logits = torch.einsum("bhdq,bhdk->bhqk", q, k) / math.sqrt(q.shape[2]) + bias
        return torch.einsum("bhqk,bhdk->bhdq", logits.softmax(3), v).reshape(shape)


# -- the tests --------------------------------------------------------------------------------------------------------


def converted(state: dict[str, Tensor], scale: int) -> HAT:
    model = HAT(**TINY, scale=scale)
    model.load_state_dict(from_official(state))
    return model.double().eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(8, 12), (4, 4)], ids=str)
def test_equals_the_authors_network_with_its_checkpoint(scale: int, size: tuple[int, int]) -> None:
    state = official(**TINY, scale=scale)
    expected = Official(state, heads=2, window=4, depths=TINY["depths"])
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(converted(state, scale)(x), expected(x), atol=1e-10, rtol=0)


def test_other_sizes_are_reflected_and_cut_as_in_the_authors_pipeline() -> None:
    state = official(**TINY, scale=3)
    expected = Official(state, heads=2, window=4, depths=TINY["depths"])
    x = torch.rand(1, 3, 6, 9, dtype=torch.float64)
    with torch.no_grad():
        large = expected(F.pad(x, (0, 3, 0, 2), "reflect"))
        torch.testing.assert_close(converted(state, 3)(x), large[:, :, :18, :27], atol=1e-10, rtol=0)


def test_a_checkpoint_of_full_width_loads() -> None:
    options = {"channels": 144, "depths": (2,), "heads": 6, "window": 16, "compress": 24, "squeeze": 24, "scale": 4}
    state = official(**options)
    state["relative_position_index_SA"] = torch.zeros(256, 256)
    state["layers.0.residual_group.blocks.1.attn_mask"] = torch.zeros(4, 256, 256)
    with torch.device("meta"):
        model = models.create("hat_s", depths=(2,))
    keys = model.load_state_dict(from_official({"params": {}, "params_ema": state}), assign=True)
    assert not keys.missing_keys + keys.unexpected_keys


def test_tables_are_laid_out_by_the_window_of_the_checkpoint() -> None:
    rows = torch.arange(1521.0)[:, None].expand(-1, 2)
    state = official(channels=12, depths=(1,), heads=2, window=16, compress=3, squeeze=4, scale=2)
    state["layers.0.residual_group.overlap_attn.relative_position_bias_table"] = rows
    table = from_official(state)["groups.0.overlap.table"]
    torch.testing.assert_close(table, rows.roll(880, 0).T.reshape(2, 39, 39))


def test_other_checkpoints_are_refused() -> None:
    with pytest.raises(ValueError, match=r"conv_first.weight to conv_last.weight, got head.weight, head.bias"):
        from_official(nn.ModuleDict({"head": nn.Linear(2, 2)}).state_dict())
    with pytest.raises(ValueError, match="got none"):
        from_official({"params": {}})


@pytest.mark.parametrize("size", [(5, 7), (4, 6), (6, 8)], ids=str)
def test_reflects_as_torch_does(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    H, W = size
    assert torch.equal(reflect_to(x, 4), F.pad(x, (0, -W % 4, 0, -H % 4), "reflect"))


@pytest.mark.parametrize(("size", "expected"), [(1, [0] * 8), (2, [0, 1] * 4), (3, [0, 1, 2, 1, 0, 1, 2, 1])], ids=str)
def test_reflects_small_images_back_and_forth(size: int, expected: list[int]) -> None:
    x = torch.arange(float(size))
    assert reflect_to(x.view(1, 1, size, 1).expand(1, 1, size, 8), 8)[0, 0, :, 0].tolist() == expected
    assert reflect_to(x.view(1, 1, 1, size).expand(1, 1, 8, size), 8)[0, 0, 0].tolist() == expected


GIGA_MACS = {"hat_s": 54.89, "hat": 104.22}


@pytest.mark.parametrize("name", GIGA_MACS)
def test_multiply_adds_are_those_of_the_reference(name: str) -> None:
    with torch.device("meta"):
        model = models.create(name)
    macs = flops(model, torch.empty(1, 3, 64, 64, device="meta")) / 2
    assert macs / 1e9 == pytest.approx(GIGA_MACS[name], rel=0.01)


@pytest.mark.parametrize(("scale", "count"), [(2, 20_624_795), (3, 20_809_435), (4, 20_772_507)])
def test_parameters_by_scale(scale: int, count: int) -> None:
    """One 3x3 convolution from 64 to 64 r^2 channels for each step of r."""
    with torch.device("meta"):
        model = models.create("hat", scale=scale)
    step = {2: [2], 3: [3], 4: [2, 2]}[scale]
    assert parameters(model.enlarge) == sum(64 * r**2 * (64 * 9 + 1) for r in step)
    assert parameters(model.groups[0]) == 3_345_678
    assert parameters(model) == count


def test_blocks_alternate_their_shift_and_the_last_lets_zeros_in() -> None:
    with torch.device("meta"):
        group = models.create("hat").groups[3]
    assert [block.shift for block in group.blocks] == [0, 8, 0, 8, 0, 8]
    assert group.overlap.border == "zero"
    assert group.overlap.key_window == 24


def test_the_mean_colour_is_not_in_the_state_dict_and_follows_the_model() -> None:
    model = HAT(**TINY).to(torch.bfloat16)
    assert "mean" not in model.state_dict()
    assert model(torch.rand(1, 3, 4, 5).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("scale", [1, 6, 0])
def test_scales_that_cannot_be_made_are_refused(scale: int) -> None:
    with pytest.raises(ValueError, match=f"scale.*got {scale}"):
        HAT(**TINY, scale=scale)


def test_bad_input_gets_one_clear_sentence() -> None:
    with pytest.raises(ValueError, match=r"HAT expects 3 channels \(B, 3, H, W\), got shape \(1, 1, 8, 8\)"):
        HAT(**TINY)(torch.rand(1, 1, 8, 8))
