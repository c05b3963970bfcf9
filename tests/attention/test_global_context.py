"""GlobalContext against the paper's equation 5 (arXiv 1904.11492), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import GlobalContext
from tests.attention.slow import parameters, randomise, sigmoid


def reference(x: Tensor, module: GlobalContext) -> Tensor:
    squeeze, norm, _, excite = module.transform
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        cells = image.flatten(1).T  # (N, C)
        exponentials = [(module.mask.weight[0, :, 0, 0] @ cell).exp() for cell in cells]
        context = sum(e * cell for e, cell in zip(exponentials, cells, strict=True)) / sum(exponentials)
        hidden = squeeze.weight @ context + squeeze.bias
        mean = hidden.sum() / len(hidden)
        variance = ((hidden - mean) ** 2).sum() / len(hidden)
        hidden = ((hidden - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias).clamp(min=0)
        for c, t in enumerate(excite.weight @ hidden + excite.bias):
            out[b, c] = image[c] + t if module.fusion == "add" else image[c] * sigmoid(t)
    return out


@pytest.mark.parametrize("fusion", ["add", "multiply"])
def test_equals_the_paper(fusion: str) -> None:
    module = randomise(GlobalContext(11, reduction=3, fusion=fusion))
    x = torch.randn(2, 11, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_parameter_count_is_the_closed_form() -> None:
    C, n = 256, 16
    assert parameters(GlobalContext(C)) == C + 2 * C * n + C + n + 2 * n == 8752


def test_zero_init_starts_as_the_papers_identity() -> None:
    x = torch.randn(2, 32, 5, 3)
    assert torch.equal(GlobalContext(32, zero_init=True)(x), x)
    assert not torch.equal(GlobalContext(32)(x), x)


def test_the_context_does_not_depend_on_where_the_cells_are() -> None:
    module = randomise(GlobalContext(11, reduction=3))
    x = torch.randn(2, 11, 35, dtype=torch.float64)
    order = torch.randperm(35)
    y = module(x.reshape(2, 11, 7, 5)).flatten(2)
    torch.testing.assert_close(module(x[..., order].reshape(2, 11, 5, 7)).flatten(2), y[..., order], atol=1e-12, rtol=0)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="reduction of at most 8 to keep 2 hidden of channels=16, got 16"):
        GlobalContext(16)
    with pytest.raises(ValueError, match="GlobalContext needs fusion to be one of 'add', 'multiply', got 'mul'"):
        GlobalContext(64, fusion="mul")
