"""DilateFormer against the description in its paper (arXiv 2302.01791, section 3.3), written slowly.

The two attentions have tests of their own; here it is tested which stands where, and all that is around them.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import MHA, MSDA
from attngraft.models import DilateFormer
from tests.models.slow import batch_norm, classify, convolve, gelu, layer_norm, linear, randomised


def reference(model: DilateFormer, x: Tensor) -> Tensor:
    for stage, (entry, *blocks) in enumerate(model.stages):
        if stage == 0:
            conv1, norm1, _, conv2, norm2, _, conv3, norm3, _, conv4 = entry
            x = gelu(batch_norm(convolve(x, conv1), norm1))
            x = gelu(batch_norm(convolve(x, conv2, stride=2), norm2))
            x = gelu(batch_norm(convolve(x, conv3), norm3))
            x = convolve(x, conv4, stride=2)
        else:
            conv, norm = entry
            x = batch_norm(convolve(x, conv, stride=2), norm)
        for block in blocks:
            x = x + convolve(x, block.positions, groups=x.shape[1])
            x = x + block.attention(layer_norm(x, block.norm1.weight, block.norm1.bias, 1e-6))
            hidden = layer_norm(x, block.norm2.weight, block.norm2.bias, 1e-6)
            hidden = gelu(linear(hidden, block.mlp.fc1.weight, block.mlp.fc1.bias))
            x = x + linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)
    return classify(layer_norm(x, model.norm.weight, model.norm.bias, 1e-6), model.head)


@pytest.mark.parametrize("size", [(32, 32), (37, 23), (1, 2)], ids=str)
def test_equals_the_paper(size: tuple[int, int]) -> None:
    options = {"channels": (6, 12, 10, 12), "heads": (3, 6, 2, 3), "depths": (1, 2, 2, 1), "num_classes": 4}
    model = randomised(DilateFormer(**options))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), reference(model, x), atol=1e-10, rtol=0)


def test_windows_stand_in_the_fine_stages_and_let_zeros_in() -> None:
    with torch.device("meta"):
        model = DilateFormer()
    attentions = [[block.attention for block in stage[1:]] for stage in model.stages]
    assert [[type(a) for a in stage] for stage in attentions] == [[MSDA] * 2, [MSDA] * 2, [MHA] * 6, [MHA] * 2]
    assert {a.border for stage in attentions[:2] for a in stage} == {"zero"}
    assert {a.dilations for stage in attentions[:2] for a in stage} == {(1, 2, 3)}
    assert [stage[0].heads for stage in attentions] == [3, 6, 12, 24]


def test_stem_normalises_all_but_the_last_convolution() -> None:
    with torch.device("meta"):
        stem = DilateFormer().stages[0][0]
    assert [type(layer) for layer in stem] == [nn.Conv2d, nn.BatchNorm2d, nn.GELU] * 3 + [nn.Conv2d]
    assert [layer.out_channels for layer in stem if isinstance(layer, nn.Conv2d)] == [16, 32, 64, 72]


def test_branches_are_dropped_more_often_the_deeper_they_are() -> None:
    with torch.device("meta"):
        model = DilateFormer(depths=(1, 1, 2, 1), drop_path=0.4)
    rates = [block.drop.rate for stage in model.stages for block in stage[1:]]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_border_is_an_option_that_acts() -> None:
    options = {"channels": (6, 6, 6, 6), "heads": (3, 3, 2, 3), "depths": (1, 1, 1, 1), "num_classes": 4}
    zero, mask = (DilateFormer(**options, border=border).eval() for border in ("zero", "mask"))
    mask.load_state_dict(zero.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(zero(x), mask(x), atol=1e-6)


def test_weights_start_as_in_vision_transformers() -> None:
    model = DilateFormer(channels=(24, 24, 48, 48), depths=(1, 1, 1, 1))
    windows, dense = model.stages[0][1].attention, model.stages[2][1].attention
    for layer in (windows.proj, dense.qkv, dense.proj, model.head):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()
    assert windows.qkv.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 24), rel=0.1)  # as any convolution
