"""FLatten-PVT and -PVTv2 against their descriptions (arXiv 2308.00442, 2102.12122, 2106.13797).

Focused linear attention has a test of its own; here all that is around it is written slowly.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from attngraft.models import FLattenPVT, FLattenPVTv2
from tests.models.slow import SIDES, SMALL, block_reference, classify, convolve, embed, normed, randomised, resize

SIZES = pytest.mark.parametrize("size", SIDES, ids=str)


@SIZES
@pytest.mark.parametrize("final_norm", [True, False])
def test_pvt_equals_the_paper(size: tuple[int, int], final_norm: bool) -> None:
    model = randomised(FLattenPVT(**SMALL, mlp_ratios=(2, 3, 2, 2), final_norm=final_norm))
    image = x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for stage, (entry, *blocks) in enumerate(model.stages):
            x = embed(x, entry, 2 if stage else 4)
            x = x + resize(entry.positions, *x.shape[2:])
            for block in blocks:
                x = block_reference(block, x, 1e-6)
        x = normed(x, model.norm, 1e-6) if final_norm else x
        torch.testing.assert_close(model(image), classify(x, model.head), atol=1e-10, rtol=0)


@SIZES
def test_pvt_v2_equals_the_paper(size: tuple[int, int]) -> None:
    model = randomised(FLattenPVTv2(**SMALL, mlp_ratios=(2, 3, 2, 2)))
    image = x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for stage, (conv, norm, *blocks, last_norm) in enumerate(model.stages):
            x = convolve(x, conv, stride=2) if stage else convolve(x, conv, stride=4, padding=3)
            x = normed(x, norm, 1e-5)
            for block in blocks:
                x = block_reference(block, x, 1e-6)
            x = normed(x, last_norm, 1e-6)
        torch.testing.assert_close(model(image), classify(x, model.head), atol=1e-10, rtol=0)


def test_the_norm_that_the_code_never_applies_can_be_left_out() -> None:
    with torch.device("meta"):
        with_norm, without = (FLattenPVT(final_norm=final_norm) for final_norm in (True, False))
    extra = set(with_norm.state_dict()) - set(without.state_dict())
    assert extra == {"norm.weight", "norm.bias"}


@pytest.mark.parametrize("build", [FLattenPVT, FLattenPVTv2])
def test_tables_of_one_size_serve_another(build: type[nn.Module]) -> None:
    """A network built for other images has tables of another shape, and no other tensor differs."""
    one, other = (build(**{**SMALL, "image_size": size}).state_dict() for size in (64, 96))
    assert {key for key in one if one[key].shape != other[key].shape} == {key for key in one if "positions" in key}


@pytest.mark.parametrize("build", [FLattenPVT, FLattenPVTv2])
def test_an_empty_image_is_refused(build: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"{build.__name__} needs image_width to be a positive integer, got 0"):
        build(image_size=(224, 0))


@pytest.mark.parametrize("build", [FLattenPVT, FLattenPVTv2])
def test_weights_start_as_in_vision_transformers(build: type[nn.Module]) -> None:
    model = build(channels=(32, 32, 64, 64), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), image_size=32)
    attention = model.stages[0][1 if build is not FLattenPVTv2 else 2].attention
    for layer in (attention.qkv, attention.proj, model.head):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()
    if build is FLattenPVTv2:
        conv = model.stages[3][0]  # 3 x 3 from 64 to 64 channels
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.1)
