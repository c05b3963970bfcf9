"""BAM against the paper's equations (arXiv 1807.06514) on a state of the authors' module, written slowly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from attngraft.attention import BAM
from attngraft.attention.bam import from_official
from tests.attention.slow import assert_same, conv2d, norm_shapes, normed, official, parameters, sigmoid

C, HIDDEN = 6, 3
CHANNEL, CELL = "channel_att.gate_c.gate_c", "spatial_att.gate_s.gate_s"
SHAPES = {
    f"{CHANNEL}_fc_0.weight": (HIDDEN, C), f"{CHANNEL}_fc_0.bias": (HIDDEN,), **norm_shapes(f"{CHANNEL}_bn_1", HIDDEN),
    f"{CHANNEL}_fc_final.weight": (C, HIDDEN), f"{CHANNEL}_fc_final.bias": (C,),
    f"{CELL}_conv_reduce0.weight": (HIDDEN, C, 1, 1), f"{CELL}_conv_reduce0.bias": (HIDDEN,),
    **norm_shapes(f"{CELL}_bn_reduce0", HIDDEN),
    **{f"{CELL}_conv_di_{i}.weight": (HIDDEN, HIDDEN, 3, 3) for i in range(2)},
    **{f"{CELL}_conv_di_{i}.bias": (HIDDEN,) for i in range(2)},
    **norm_shapes(f"{CELL}_bn_di_0", HIDDEN), **norm_shapes(f"{CELL}_bn_di_1", HIDDEN),
    f"{CELL}_conv_final.weight": (1, HIDDEN, 1, 1), f"{CELL}_conv_final.bias": (1,),
}  # fmt: skip

CANCELLED = [f"{CHANNEL}_fc_0.bias", *(f"{CELL}_conv_{part}.bias" for part in ("reduce0", "di_0", "di_1"))]


def layer(x: Tensor, state: Mapping[str, Tensor], name: str, dilation: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    if x.dim() == 2:
        return x @ weight.T + state[f"{name}.bias"]
    return conv2d(x, weight, state[f"{name}.bias"], dilation)


def reference(x: Tensor, state: Mapping[str, Tensor], combine: str) -> Tensor:
    """Equations 1 to 4: F + F * M(F), M of both branches."""
    pooled = x.flatten(2).sum(2) / x[0, 0].numel()
    hidden = normed(layer(pooled, state, f"{CHANNEL}_fc_0"), state, f"{CHANNEL}_bn_1").clamp(min=0)
    by_channel = layer(hidden, state, f"{CHANNEL}_fc_final")[:, :, None, None]
    cells = normed(layer(x, state, f"{CELL}_conv_reduce0"), state, f"{CELL}_bn_reduce0").clamp(min=0)
    for i in range(2):
        cells = normed(layer(cells, state, f"{CELL}_conv_di_{i}", 4), state, f"{CELL}_bn_di_{i}").clamp(min=0)
    by_cell = layer(cells, state, f"{CELL}_conv_final")
    return x + x * sigmoid(by_channel + by_cell if combine == "sum" else by_channel * by_cell)


@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize(("batch", "size"), [(1, (7, 5)), (3, (2, 9)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int], combine: str) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    module = BAM(C, reduction=2, combine=combine, norm="batch")
    assert_same(module, partial(reference, combine=combine), official(SHAPES), x, from_official, CANCELLED)


def test_without_a_norm_the_hidden_layer_has_a_bias() -> None:
    """The default is the paper's with a norm that changes nothing."""
    plain, paper = BAM(C, reduction=2).double().eval(), BAM(C, reduction=2, norm="batch").double().eval()
    state = plain.state_dict()
    paper.load_state_dict({**state, "squeeze_norm.bias": state.pop("squeeze.bias")}, strict=False)
    paper.squeeze_norm.running_var.fill_(1 - paper.squeeze_norm.eps)
    x = torch.randn(2, C, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(plain(x), paper(x), atol=1e-12, rtol=0)


def test_a_batch_of_one_trains_with_the_papers_norm() -> None:
    """A data set whose last batch has one image must not stop a training run; others are normalised as ever."""
    module = BAM(16, reduction=4, norm="batch").train()
    mean = module.squeeze_norm.running_mean.clone()
    module(torch.randn(1, 16, 5, 3)).sum().backward()
    assert torch.equal(module.squeeze_norm.running_mean, mean)
    vectors = module.squeeze(torch.randn(4, 16))
    expected = (vectors - vectors.mean(0)) / (vectors.var(0, unbiased=False) + module.squeeze_norm.eps).sqrt()
    torch.testing.assert_close(module.squeeze_norm(vectors), expected)
    assert not torch.equal(module.squeeze_norm.running_mean, mean)


def test_parameter_count_is_the_closed_form() -> None:
    C, h = 256, 16
    assert parameters(BAM(C)) == 2 * C * h + h + C + C * h + 2 * h + 2 * (9 * h**2 + 2 * h) + h + 1 == 17_281


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="BAM needs combine to be one of 'sum', 'product', got 'mean'"):
        BAM(64, combine="mean")
    with pytest.raises(ValueError, match="BAM needs reduction of at most 8 .* got 16"):
        BAM(8)
