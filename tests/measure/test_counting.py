"""Counts against closed forms, on every path that an operator can take."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from attngraft.measure import flops, parameters, weight_bytes
from attngraft.measure.counting import _CORRECTED

B, HEADS, N, D, DV = 2, 3, 35, 8, 16
FORWARD = 2 * B * HEADS * N * N * (D + DV)
BACKWARD = 2 * B * HEADS * N * N * (3 * D + 2 * DV)


class Fused(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Written(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


class Product(nn.Module):
    """Run one function of tensors."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)  # type: ignore[operator]


def qkv(value_dim: int = D) -> tuple[Tensor, ...]:
    return tuple(torch.randn(B, HEADS, N, d, requires_grad=True) for d in (D, D, value_dim))


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], ids=["fused", "math"])
def test_attention_costs_the_same_on_every_kernel(kernel: SDPBackend) -> None:
    forward = 2 * B * HEADS * N * N * 2 * D
    with sdpa_kernel(kernel):
        assert flops(Fused(), qkv()) == forward
        recomputed = kernel == SDPBackend.FLASH_ATTENTION
        assert flops(Fused(), qkv(), train=True) == forward * (7 if recomputed else 6) // 2


def test_attention_counts_wide_values_in_both_directions() -> None:
    q, k, v = qkv(DV)
    assert flops(Written(), (q, k, v)) == FORWARD
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    shapes = [x.shape for x in (q, k, v)]
    assert _CORRECTED[fused](*shapes, out_shape=None) == FORWARD
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    assert _CORRECTED[backward](v.shape, *shapes, out_shape=None) == BACKWARD


@pytest.mark.parametrize("train", [False, True])
def test_multi_head_attention_is_counted_on_its_fast_path_too(train: bool) -> None:
    module = nn.MultiheadAttention(32, 4, batch_first=True)
    x = torch.randn(2, 9, 32)
    assert flops(module, (x, x, x)) == 2 * 2 * (4 * 9 * 32 * 32 + 2 * 9 * 9 * 32)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("train", [False, True])
def test_multi_head_attention_is_counted_on_an_example_that_requires_a_gradient(train: bool) -> None:
    x = torch.randn(2, 9, 32, requires_grad=True)
    for module in (nn.MultiheadAttention(32, 4, batch_first=True).train(train), nn.MultiheadAttention(32, 4)):
        one = flops(module, (x, x, x))
        # The backward of every product is two products of its size.
        assert flops(module, (x, x, x), train=train) == (3 * one if train else one)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (torch.mv, [(5, 7), (7,)], 35),
        (torch.dot, [(7,), (7,)], 7),
        (torch.vdot, [(7,), (7,)], 7),
        (torch.addmv, [(5,), (5, 7), (7,)], 35),
        (torch.addmm, [(5, 3), (5, 7), (7, 3)], 105),
        (torch.addbmm, [(5, 3), (2, 5, 7), (2, 7, 3)], 210),
        (torch.baddbmm, [(2, 5, 3), (2, 5, 7), (2, 7, 3)], 210),
        (lambda a, b, c: a.clone().addmv_(b, c), [(5,), (5, 7), (7,)], 35),
        (lambda a, b, c: a.clone().addmm_(b, c), [(5, 3), (5, 7), (7, 3)], 105),
        (lambda a, b, c: a.clone().addbmm_(b, c), [(5, 3), (2, 5, 7), (2, 7, 3)], 210),
        (lambda a, b, c: a.clone().baddbmm_(b, c), [(2, 5, 3), (2, 5, 7), (2, 7, 3)], 210),
        (lambda a, b: torch.bmm(a, b, out=torch.empty(2, 5, 3)), [(2, 5, 7), (2, 7, 3)], 210),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), [(2, 5, 7), (2, 7, 3)], 210),
        (F.conv2d, [(2, 3, 8, 6), (4, 3, 3, 3)], 2 * 4 * 3 * 9 * 6 * 4),
    ],
)
def test_every_form_of_a_product_is_counted(function: object, shapes: list[tuple[int, ...]], macs: int) -> None:
    assert flops(Product(function), tuple(torch.randn(shape) for shape in shapes)) == 2 * macs


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Conv2d(8, 16, 3, stride=2, groups=4),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
        nn.Conv1d(8, 8, 5, groups=8),
        nn.ConvTranspose2d(8, 16, 2, stride=2, groups=4),
    ],
    ids=str,
)
def test_the_backward_of_a_convolution_is_twice_its_forward(module: nn.Module) -> None:
    x = torch.randn(2, 8, *(10, 9)[: module.weight.dim() - 2])
    cells = (x if isinstance(module, nn.ConvTranspose2d) else module(x))[0, 0].numel()
    forward = 2 * 2 * cells * module.weight.numel()
    assert flops(module, x) == forward
    assert flops(module, x, train=True) == 2 * forward
    assert flops(module, x.requires_grad_(), train=True) == 3 * forward


def test_a_compiled_module_costs_what_it_computes() -> None:
    module = nn.Linear(10, 20)
    compiled = torch.compile(module, backend="aot_eager")
    assert flops(compiled, torch.randn(3, 10)) == 2 * 3 * 10 * 20


def test_a_training_step_counts_the_input_gradient_only_where_it_is_asked_for() -> None:
    module = nn.Linear(10, 20)
    forward = 2 * 3 * 10 * 20
    assert flops(module, torch.randn(3, 10), train=True) == 2 * forward
    assert flops(module, torch.randn(3, 10, requires_grad=True), train=True) == 3 * forward


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3).eval())
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    flops(module, torch.randn(2, 3, 4, 4), train=True)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert torch.equal(module[0].weight.grad, torch.ones_like(module[0].weight))
    assert module[0].bias.grad is None
    assert [part.training for part in module.modules()] == [True, True, False]


def test_parameters_and_bytes_count_shared_ones_once() -> None:
    module = nn.ModuleList([nn.Linear(4, 4), nn.BatchNorm1d(4)])
    module.append(module[0])
    assert parameters(module) == 20 + 8
    assert weight_bytes(module) == 4 * 28 + 4 * 8 + 8  # running mean and variance, and an int64 counter


def test_nothing_to_train_is_said() -> None:
    with pytest.raises(ValueError, match=r"ReLU has nothing to train.*requires_grad=True"):
        flops(nn.ReLU(), torch.randn(2, 3), train=True)
