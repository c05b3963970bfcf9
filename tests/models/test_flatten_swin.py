"""FLatten-Swin against its description (arXiv 2308.00442, 2103.14030): the pyramid around attention, and windows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import FocusedLinearAttention
from attngraft.models import FLattenPVTv2, FLattenSwin
from attngraft.models.flatten_swin import PatchMerging, ShiftedWindows
from tests.models.slow import SIDES, SMALL, block_reference, classify, embed, linear, normed, patches, randomised

SIZES = pytest.mark.parametrize("size", SIDES, ids=str)


def merge(x: Tensor, merging: PatchMerging) -> Tensor:
    cells = patches(x, 2)
    joined = torch.cat([cells[..., 0, 0], cells[..., 1, 0], cells[..., 0, 1], cells[..., 1, 1]], 1)
    return linear(normed(joined, merging.norm, 1e-5), merging.proj.weight)


@SIZES
@pytest.mark.parametrize("linear_stages", [0, 2])
def test_swin_equals_the_paper(size: tuple[int, int], linear_stages: int) -> None:
    model = randomised(FLattenSwin(**SMALL, window=3, linear_stages=linear_stages))
    image = x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for stage, (entry, *blocks) in enumerate(model.stages):
            x = merge(x, entry) if stage else embed(x, entry, 4)
            for i, block in enumerate(blocks):
                focused = stage < linear_stages
                assert type(block.attention) is (FocusedLinearAttention if focused else ShiftedWindows)
                assert focused or block.attention.shift == (0, 1)[i % 2]
                x = block_reference(block, x, 1e-5)
        x = normed(x, model.norm, 1e-5)
        torch.testing.assert_close(model(image), classify(x, model.head), atol=1e-10, rtol=0)


def windows_reference(module: ShiftedWindows, x: Tensor) -> Tensor:
    """Attend from each cell to those of its window; grids start at the shift, along axes with several windows."""
    M, h = module.window, module.heads
    _, C, H, W = x.shape
    d = C // h

    def window(cell: int, size: int) -> int:
        return (cell - (module.shift if size > M else 0)) // M

    q, k, v = linear(x, module.qkv.weight, module.qkv.bias).unflatten(1, (3, h, d)).unbind(1)  # (B, h, d, H, W)
    out = torch.zeros_like(q)
    for y in range(H):
        for column in range(W):
            rows = [i for i in range(H) if window(i, H) == window(y, H)]
            columns = [j for j in range(W) if window(j, W) == window(column, W)]
            keys = [(i, j) for i in rows for j in columns]
            bias = torch.stack([module.table[:, i - y + M - 1, j - column + M - 1] for i, j in keys])  # (keys, h)
            products = torch.stack([(q[..., y, column] * k[..., i, j]).sum(2) for i, j in keys])  # (keys, B, h)
            weights = (products / math.sqrt(d) + bias[:, None]).softmax(0)
            out[..., y, column] = sum(w[..., None] * v[..., i, j] for w, (i, j) in zip(weights, keys, strict=True))
    return linear(out.flatten(1, 2), module.proj.weight, module.proj.bias)


@pytest.mark.parametrize("size", [(7, 5), (3, 7), (8, 4), (3, 3), (2, 1), (4, 3)], ids=str)
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("gradient", [False, True], ids=["fused", "with_gradient"])
def test_windows_equal_the_paper(size: tuple[int, int], shift: int, gradient: bool) -> None:
    module = randomised(ShiftedWindows(6, heads=2, window=3, shift=shift))
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    with torch.set_grad_enabled(gradient):
        torch.testing.assert_close(module(x), windows_reference(module, x), atol=1e-11, rtol=0)


def test_a_map_in_one_window_is_not_shifted() -> None:
    straight, shifted = (ShiftedWindows(6, heads=2, window=4, shift=shift).eval() for shift in (0, 2))
    shifted.load_state_dict(straight.state_dict())
    x = torch.randn(1, 6, 4, 3)
    torch.testing.assert_close(shifted(x), straight(x))
    x = torch.randn(1, 6, 4, 5)
    assert not torch.allclose(shifted(x), straight(x), atol=1e-6)


@pytest.mark.parametrize("linear_stages", [-1, 5])
def test_as_many_linear_stages_as_there_are(linear_stages: int) -> None:
    with pytest.raises(ValueError, match=f"linear_stages to be 0 to 4, got {linear_stages}; the paper has 2"):
        FLattenSwin(linear_stages=linear_stages)


def test_heads_that_do_not_divide_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="FLattenSwin needs channels divisible by heads, got channels=384 and heads=7"):
        FLattenSwin(heads=(3, 6, 7, 24))


@pytest.mark.parametrize("build", [FLattenSwin])
def test_tables_of_one_size_serve_another(build: type[nn.Module]) -> None:
    """A network built for other images has tables of another shape, and no other tensor differs."""
    one, other = (build(**{**SMALL, "image_size": size}).state_dict() for size in (64, 96))
    assert {key for key in one if one[key].shape != other[key].shape} == {key for key in one if "positions" in key}


@pytest.mark.parametrize("build", [FLattenSwin])
def test_an_empty_image_is_refused(build: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"{build.__name__} needs image_width to be a positive integer, got 0"):
        build(image_size=(224, 0))


@pytest.mark.parametrize("build", [FLattenSwin])
def test_weights_start_as_in_vision_transformers(build: type[nn.Module]) -> None:
    model = build(channels=(32, 32, 64, 64), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), image_size=32)
    attention = model.stages[0][1 if build is not FLattenPVTv2 else 2].attention
    for layer in (attention.qkv, attention.proj, model.head):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()
    if build is FLattenPVTv2:
        conv = model.stages[3][0]  # 3 x 3 from 64 to 64 channels
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.1)
