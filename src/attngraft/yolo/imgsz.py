"""Which sizes of images a model takes."""

from __future__ import annotations

from typing import Any

import torch

from attngraft._core.checks import positive
from attngraft._core.errors import OptionError

LEAST = 32
"""What Ultralytics rounds sides to at least, also for models of smaller strides and for classifiers."""


def largest_stride(network: Any) -> int:
    """Return what the sides of a model's images are multiples of: its largest stride, at least `LEAST`.

    Args:
        network: Ultralytics' model.
    """
    stride = getattr(network, "stride", None)
    return LEAST if stride is None else max(LEAST, int(torch.as_tensor(stride).max()))


def sides(who: str, imgsz: Any) -> tuple[int, int]:
    """Return height and width of images.

    Args:
        who: What asks, for the message.
        imgsz: One side, or height and width.

    Raises:
        OptionError: If it is neither.

    Example:
        >>> sides("an example", 640), sides("an example", [384, 640])
        ((640, 640), (384, 640))
    """
    given = list(imgsz) if isinstance(imgsz, (list, tuple)) else [imgsz]
    if len(given) not in (1, 2):
        raise OptionError(f"{who} takes imgsz=SIDE or imgsz=HEIGHT,WIDTH, got {imgsz!r}")
    for side in given:
        positive(who, imgsz=side)
    return given[0], given[-1]
