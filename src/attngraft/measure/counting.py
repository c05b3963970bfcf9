"""Parameters and FLOPs, counted on what is dispatched and not on which modules are there.

The unit is the FLOP: two for each multiply-add of a convolution, a linear layer or a matrix product. Elementwise work,
normalisation, pooling and soft-max are not counted, as in `torch.utils.flop_counter`, whose counter this is. It is
corrected where torch 2.6 to 2.14 count wrongly: fused attention on the CPU, matrix-vector products and the in-place
forms of the matrix products (nothing), and the backward of a grouped convolution (as if it were not grouped).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attngraft._core.calls import Example, forward, mode, training_step, untouched


def parameters(module: nn.Module) -> int:
    """Count the numbers that a module learns, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def weight_bytes(module: nn.Module) -> int:
    """Count the bytes of a module's parameters and buffers, shared ones once."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def flops(module: nn.Module, example: Example, *, train: bool = False) -> int:
    """Count the FLOPs of one call.

    The module runs once, uncompiled, and is left as it was. Divide by two for multiply-adds, and by the batch for one
    image.

    Args:
        module: What to count.
        example: Its input.
        train: Whether to count a training step (forward and backward) instead of an inference.

    Returns:
        FLOPs, two for each multiply-add.

    Example:
        >>> flops(nn.Linear(10, 20), torch.zeros(3, 10)) == 2 * 3 * 10 * 20
        True
    """
    call = (training_step if train else forward)(module, example)
    counter = FlopCounterMode(display=False, custom_mapping=_CORRECTED)
    with _as_written(), mode(module, train=train), untouched(module), counter:
        call()
    return int(counter.get_total_flops())


@contextmanager
def _as_written() -> Iterator[None]:
    """Keep operators apart that hide their products: compiled graphs and the fast path of nn.MultiheadAttention."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.compile.* when there are global hooks")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Q K^T, then P V."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_backward(_: Any, query: torch.Size, key: torch.Size, value: torch.Size, *__: Any, **___: Any) -> int:
    """Q K^T and dO V^T again, then the gradients of q, k and v: the kernel keeps no N x N matrix."""
    return 2 * prod(query[:-1]) * key[-2] * (3 * query[-1] + 2 * value[-1])


def _convolution_backward(gradient: torch.Size, x: torch.Size, weight: torch.Size, *rest: Any, **__: Any) -> int:
    """The forward's products once for each of the gradients of x and of the weight that is wanted."""
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, wanted = rest
    cells = prod((x if transposed else gradient)[2:])
    return int(2 * x[0] * cells * prod(weight) * sum(wanted[:2]))


def _dot(left: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * prod(left)


def _added_dot(_: Any, left: torch.Size, *__: Any, **___: Any) -> int:
    return 2 * prod(left)


def _added_product(_: Any, left: torch.Size, right: torch.Size, *__: Any, **___: Any) -> int:
    return 2 * prod(left) * right[-1]


aten = torch.ops.aten
_CORRECTED: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.convolution_backward: _convolution_backward,
    aten.dot: _dot,
    aten.vdot: _dot,
    aten.mv: _dot,
    aten.addmv: _added_dot,
    aten.addmv_: _added_dot,
    aten.addmm_: _added_product,
    aten.addbmm: _added_product,
    aten.addbmm_: _added_product,
    aten.baddbmm_: _added_product,
}
