"""Every kernel and every mechanism on the accelerator against float64 on the CPU, outputs and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from attngraft.attention._kernels import KERNELS
from attngraft.attention._offsets import Offsets
from tests.attention.test_contract import NAMES, build

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")]

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
ROUNDINGS = {torch.float32: 500, torch.float16: 25, torch.bfloat16: 12}
"""How many roundings the error may be, of what it is an error of; float32 sums more terms of its own."""


def error(found: Tensor, right: Tensor) -> float:
    """Return the length of the difference, by the length of what is right."""
    return float((found.detach().double().cpu() - right.detach()).norm() / right.detach().norm().clamp(min=1e-12))


def run_kernel(name: str, tensors: list[Tensor], grid: tuple[int, int], *, gradients: bool) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_(gradients) for t in tensors]
    out = KERNELS[name](*leaves[:3], 0.25, Offsets(leaves[3], leaves[4], *grid))
    if not gradients:
        return [out]
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


@DTYPES
@pytest.mark.parametrize("grid", [(7, 5), (20, 20)], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(name: str, grid: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
    if name == "blocked" and device.type != "cpu":
        pytest.skip("the kernel is one for the CPU")
    H, W = grid
    gradients = name != "flex" or device.type != "cpu"
    tensors = [torch.randn(2, 2, 16, H * W) for _ in range(3)]
    tensors += [torch.randn(2 * n - 1, 16) * 0.25 for n in grid]
    tensors = [t.to(dtype) for t in tensors]
    expected = run_kernel("factored", [t.double() for t in tensors], grid, gradients=gradients)
    found = run_kernel(name, [t.to(device) for t in tensors], grid, gradients=gradients)
    limit = ROUNDINGS[dtype] * torch.finfo(dtype).eps
    assert all(t.dtype == dtype for t in found)
    assert [error(*pair) < limit for pair in zip(found, expected, strict=True)] == [True] * len(expected)


@DTYPES
@pytest.mark.parametrize("name", NAMES)
def test_mechanism(name: str, dtype: torch.dtype, device: torch.device) -> None:
    module = build(name, 32).eval().to(dtype)
    x = torch.randn(2, 32, 9, 7).to(dtype)
    exact = copy.deepcopy(module).double()
    right, ours = x.double().requires_grad_(), x.to(device).requires_grad_()
    out, expected = module.to(device)(ours), exact(right)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (out.float() * weights.to(device).float()).sum().backward()
    limit = ROUNDINGS[dtype] * torch.finfo(dtype).eps
    assert out.dtype == dtype
    assert error(out, expected) < limit
    assert ours.grad is not None
    assert right.grad is not None
    assert error(ours.grad, right.grad) < 3 * limit  # a rounding that turns a sign at a ReLU turns a gradient on or off
