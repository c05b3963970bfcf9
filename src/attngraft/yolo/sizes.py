"""Which sizes of pictures a model takes."""

from __future__ import annotations

from typing import Any

import torch

LEAST = 32
"""What the host rounds sides to at least, also for models of smaller strides and for classifiers, which have none."""


def largest_stride(network: Any) -> int:
    """Return what the sides of a model's pictures are multiples of: its largest stride, at least `LEAST`.

    Args:
        network: The host's model.
    """
    stride = getattr(network, "stride", None)
    return LEAST if stride is None else max(LEAST, int(torch.as_tensor(stride).max()))


def rounded_up(side: int, step: int) -> int:
    """Return the smallest multiple of a step that a side fits in.

    Example:
        >>> rounded_up(100, 32)
        128
    """
    return -(-side // step) * step
