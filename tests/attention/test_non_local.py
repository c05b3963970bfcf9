"""NonLocal against the paper's equations 1-6 (arXiv 1711.07971), written slowly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attngraft.attention import NonLocal
from tests.attention.slow import batch_norm, conv2d, counted_macs, parameters, randomise

FORMS = ["embedded_gaussian", "dot_product"]


def reference(x: Tensor, module: NonLocal) -> Tensor:
    B, _, H, W = x.shape
    N, d = H * W, module.hidden
    y = x.new_empty(B, d, N)
    for b in range(B):
        cells = x[b].flatten(1)  # (C, N)
        projected = module.theta_phi_g.weight @ cells + module.theta_phi_g.bias[:, None]
        theta, phi, g = projected[:d], projected[d : 2 * d], projected[2 * d :]
        for i in range(N):
            pairs = [theta[:, i] @ phi[:, j] for j in range(N)]
            if module.form == "dot_product":
                weights = [pair / N for pair in pairs]
            else:
                exponentials = [(pair / d**0.5 if module.scale else pair).exp() for pair in pairs]
                weights = [e / sum(exponentials) for e in exponentials]
            y[b, :, i] = sum(weight * g[:, j] for j, weight in enumerate(weights))
    return batch_norm(conv2d(y.reshape(B, d, H, W), module.proj.weight), module.norm)


@pytest.mark.parametrize(("form", "scale"), [(FORMS[0], False), (FORMS[0], True), (FORMS[1], False)])
def test_equals_the_paper(form: str, scale: bool) -> None:
    module = randomise(NonLocal(7, form=form, scale=scale))
    x = torch.randn(2, 7, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-11, rtol=0)


def test_parameter_count_is_the_closed_form() -> None:
    C, d = 256, 128
    assert parameters(NonLocal(C)) == 3 * (C * d + d) + d * C + 2 * C == 131_968


@pytest.mark.parametrize("form", FORMS)
def test_the_cost_of_each_form_is_its_closed_form(form: str) -> None:
    module = NonLocal(64, form=form)
    assert module.macs(7, 5) == counted_macs(module, 7, 5)


@pytest.mark.parametrize("form", FORMS)
def test_is_blind_to_where_the_cells_are(form: str) -> None:
    module = randomise(NonLocal(7, form=form))
    x = torch.randn(2, 7, 35, dtype=torch.float64)
    order = torch.randperm(35)
    y = module(x.reshape(2, 7, 7, 5)).flatten(2)
    torch.testing.assert_close(module(x[..., order].reshape(2, 7, 5, 7)).flatten(2), y[..., order], atol=1e-11, rtol=0)


class Largest(TorchDispatchMode):
    """Remember the largest tensor that any operation gives out."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor):
                self.numel = max(self.numel, part.numel())
        return result


@pytest.mark.parametrize("form", FORMS)
def test_no_tensor_of_all_pairs_is_made_in_training(form: str) -> None:
    module = NonLocal(8, form=form)
    with Largest() as largest:
        module(torch.randn(1, 8, 32, 32, requires_grad=True)).sum().backward()
    assert largest.numel <= 3 * 8 * 1024


def test_zero_init_starts_as_the_papers_identity() -> None:
    x = torch.randn(2, 16, 5, 3)
    assert not NonLocal(16, zero_init=True)(x).any()
    assert NonLocal(16)(x).abs().max() > 1e-3


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="form to be one of 'embedded_gaussian', 'dot_product', got 'gaussian'"):
        NonLocal(64, form="gaussian")
    with pytest.raises(ValueError, match=r"NonLocal needs reduction of at most 4 .* got 8"):
        NonLocal(4, reduction=8)
