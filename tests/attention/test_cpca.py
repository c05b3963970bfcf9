"""CPCA against the authors' network and the paper's equations (arXiv 2306.05196), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attngraft.attention import CPCA
from tests.attention.slow import conv2d, counted_macs, parameters, randomise, sigmoid


def channel_logits(pooled: Tensor, module: CPCA) -> Tensor:
    hidden = (module.mlp.squeeze.weight @ pooled + module.mlp.squeeze.bias).clamp(min=0)
    return module.mlp.excite.weight @ hidden + module.mlp.excite.bias


def reference(x: Tensor, module: CPCA) -> Tensor:
    def proj(y: Tensor) -> Tensor:
        return conv2d(y, module.proj.weight, module.proj.bias)

    if module.form == "code":
        y = proj(x)
        x = y * (1 + (y / math.sqrt(2)).erf()) / 2
    prior = torch.empty_like(x)
    for b, image in enumerate(x):
        means = channel_logits(image.flatten(1).sum(1) / image[0].numel(), module)
        maxima = channel_logits(image.flatten(1).sort(1).values[:, -1], module)
        gate = sigmoid(means) + sigmoid(maxima) if module.form == "code" else sigmoid(means + maxima)
        for c, factor in enumerate(gate):
            prior[b, c] = image[c] * factor
    local = conv2d(prior, module.local.weight, module.local.bias)
    branches = local.clone()
    for wide, tall in module.strips:
        branches += conv2d(conv2d(local, wide.weight, wide.bias), tall.weight, tall.bias)
    out = prior * proj(branches)
    return proj(out) if module.form == "code" else out


@pytest.mark.parametrize("form", ["code", "paper"])
def test_equals_the_reference(form: str) -> None:
    module = randomise(CPCA(5, reduction=2, form=form))
    x = torch.randn(2, 5, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_parameter_count_is_the_authors_in_both_forms(form: str) -> None:
    C, r = 256, 4
    strips = 2 * (7 + 11 + 21)
    expected = (C**2 + C) + (2 * C**2 // r + C // r + C) + C * (5**2 + 1) + C * (strips + 6)
    assert parameters(CPCA(C, form=form)) == expected == 127_040


@pytest.mark.parametrize("form", ["code", "paper"])
def test_the_cost_of_each_form_is_its_closed_form(form: str) -> None:
    module = CPCA(16, form=form)
    assert module.macs(7, 5) == counted_macs(module, 7, 5)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="CPCA needs form to be one of 'code', 'paper', got 'official'"):
        CPCA(64, form="official")
    with pytest.raises(ValueError, match=r"CPCA needs reduction of at most 2 .* got 4"):
        CPCA(2)
