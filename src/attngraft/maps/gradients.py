"""Derivatives of one number with respect to maps, right with one image too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NORMS = {getattr(torch.ops.aten, name) for name in ("native_batch_norm_backward", "batch_norm_backward")}


class _UsualStrides(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hand the derivative of batch norm its gradient in the usual layout.

    With one image PyTorch's batch norm on the CPU misreads a gradient whose batch axis has another stride, and says
    nothing (2.13, 2.14.1). Such come back through ``flatten(2).transpose(1, 2)``, by which the attention of YOLO12 and
    the input of RT-DETR's decoder make tokens.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in NORMS:
            args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
        return func(*args, **(kwargs or {}))


def gradients(number: Tensor, of: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the derivative of a number with respect to each tensor, None where it does not depend on it.

    Args:
        number: One number with its graph, which is kept.
        of: The tensors.
    """
    with _UsualStrides():  # type: ignore[no-untyped-call]
        return torch.autograd.grad(number, list(of), retain_graph=True, allow_unused=True)
