"""Sums that half precision cannot hold, kept in single precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def no_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Keep autocast from taking products back to half precision; meta tensors have none to switch off."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def at_least_single(x: Tensor) -> Tensor:
    """Return a tensor of half precision as one of single precision, and any other as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def is_half(x: Tensor) -> bool:
    """Tell whether a tensor is of half precision."""
    return x.dtype in (torch.float16, torch.bfloat16)


def own_type(layer: nn.Module, x: Tensor) -> torch.dtype:
    """Return the type of a layer's parameters, which an adapter may hold deeper, or that of a tensor without any."""
    return next(layer.parameters(), x).dtype


def through(layer: nn.Module, one: Tensor, other: Tensor) -> Tensor:
    """Apply a layer to the product of two maps.

    It grows with the square of the input, which half precision cannot hold: under autocast it is computed in single
    precision, and the layer in its own, and elsewhere in the type of the module.
    """
    if one.is_meta or not torch.is_autocast_enabled(one.device.type):
        plain: Tensor = layer(one * other)
        return plain
    with no_autocast(one):
        product = at_least_single(one) * at_least_single(other)
        applied: Tensor = layer(product.to(own_type(layer, product)))
    return applied
