"""Enlarge an image in parts, so that memory follows the size of a part and not that of the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attngraft._core.checks import positive
from attngraft._core.errors import OptionError

UNITS = 2
"""Units around a tile that the network sees, unless an overlap is given."""

LEAST_UNIT = 8


class Span(NamedTuple):
    """Where a tile is along one axis, in pixels of the small image.

    Attributes:
        start: First pixel of the tile.
        stop: First pixel after it.
        seen_from: First pixel that the network sees.
        seen_to: First pixel after those.
    """

    start: int
    stop: int
    seen_from: int
    seen_to: int


def unit(network: nn.Module) -> int:
    """Return a small number of pixels that tiles may be multiples of: whole windows, and enough to see something."""
    window = int(getattr(network, "window", 1))
    return -(-LEAST_UNIT // window) * window


def checked(network: nn.Module, tile: int | None, overlap: int | None) -> tuple[int | None, int]:
    """Return tile and overlap for a network, which keep its windows where they are in the whole image.

    Args:
        network: The network; its attribute ``window``, if it has one, is the side of its windows in pixels.
        tile: Side of a tile, or None.
        overlap: Pixels around it, or None.

    Raises:
        OptionError: If there is an overlap without a tile, or a window does not divide them.
    """
    step = int(getattr(network, "window", 1))
    if tile is None:
        if overlap is not None:
            raise OptionError(f"overlap={overlap} needs a tile; give tile={32 * unit(network)} with it")
        return None, 0
    overlap = UNITS * unit(network) if overlap is None else overlap
    positive("fit predict", tile=tile)
    if overlap != 0:
        positive("fit predict", overlap=overlap)
    for name, value in {"tile": tile, "overlap": overlap}.items():
        if value % step:
            below = value // step * step
            near = f"{below} or {below + step}" if below or name == "overlap" else f"{step}"
            raise OptionError(
                f"fit predict needs {name} to be a multiple of the network's window, {step}, got {value}; use {near}"
            )
    return tile, overlap


def spans(length: int, tile: int, overlap: int) -> Iterator[Span]:
    """Yield the tiles along an axis.

    Example:
        >>> [tuple(span) for span in spans(20, 8, 4)]
        [(0, 8, 0, 12), (8, 16, 4, 20), (16, 20, 12, 20)]
    """
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield Span(start, stop, max(0, start - overlap), min(length, stop + overlap))


def in_tiles(network: nn.Module, image: Tensor, *, scale: int, tile: int, overlap: int) -> Tensor:
    """Enlarge an image tile by tile.

    Args:
        network: Makes images ``scale`` times as large.
        image: ``(1, 3, H, W)``.
        scale: How many times as large the result is.
        tile: Side of a tile in pixels of the image.
        overlap: Pixels around it that the network sees.

    Returns:
        ``(1, 3, scale * H, scale * W)`` on the CPU.
    """
    height, width = image.shape[-2:]
    large = torch.empty(1, image.shape[1], scale * height, scale * width, dtype=image.dtype)
    for y in spans(height, tile, overlap):
        for x in spans(width, tile, overlap):
            made = network(image[..., y.seen_from : y.seen_to, x.seen_from : x.seen_to])
            top, left = scale * (y.start - y.seen_from), scale * (x.start - x.seen_from)
            part = made[..., top : top + scale * (y.stop - y.start), left : left + scale * (x.stop - x.start)]
            large[..., scale * y.start : scale * y.stop, scale * x.start : scale * x.stop] = part
    return large
