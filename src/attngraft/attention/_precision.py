"""Sums that half precision cannot hold, kept in single precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def no_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Keep autocast from taking products back to half precision; meta tensors have none to switch off."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def at_least_single(x: Tensor) -> Tensor:
    """Return a tensor of half precision as one of single precision, and any other as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
