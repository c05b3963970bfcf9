"""Maps as they are drawn: laid on one grid, in 8 bits, in colours that most colour-blind readers tell apart."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from attngraft.look.arrays import Array, Bytes, Size

POSITIVE = ((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
            (170, 220, 50), (253, 231, 37))  # fmt: skip
"""Stops of the viridis colour map, from zero up."""
NEGATIVE = ((68, 1, 84), (122, 20, 100), (178, 40, 96), (224, 80, 80), (252, 140, 100), (254, 200, 160))
"""Stops for what is below zero, from zero down."""
LEVELS, SIGNED_ZERO, SIGNED_LEVELS = 255, 128, 127


def lay(rows: Array, grids: Sequence[Size], most: int) -> tuple[Array, Size]:
    """Return rows as maps of one grid with no side above ``most``; the mass of each map is kept.

    Args:
        rows: ``(K, N)``.
        grids: The grids whose cells follow each other along N.
        most: Most cells along a side.

    Returns:
        The maps ``(K, H, W)``, and their grid.

    Example:
        >>> maps, grid = lay(np.full((1, 24), 1 / 24, np.float32), [(4, 4), (4, 2)], 2)
        >>> grid, round(float(maps.sum()), 5)
        ((2, 2), 1.0)
    """
    first = grids[0]
    step = max(1, -(-max(first) // most))
    grid = (max(1, first[0] // step), max(1, first[1] // step))
    total = torch.zeros(len(rows), *grid)
    start = 0
    for height, width in grids:
        part = torch.from_numpy(rows[:, start : start + height * width]).reshape(-1, height, width)
        start += height * width
        if not len(part):
            continue
        total += part if (height, width) == grid else _shares(height, grid[0]) @ part @ _shares(width, grid[1]).T
    return total.numpy(), grid


def _shares(cells: int, parts: int) -> torch.Tensor:
    """Return how much of each of so many cells in a row lies in each of so many equal parts, ``(parts, cells)``.

    Pooling that takes a cell on an edge into both parts whole would draw twice what it holds.
    """
    ends = torch.arange(parts + 1, dtype=torch.float64)[:, None] * (cells / parts)
    at = torch.arange(cells, dtype=torch.float64)
    inside = torch.minimum(ends[1:], at + 1) - torch.maximum(ends[:-1], at)
    return inside.clamp_min(0).float()


def pack(maps: Array, groups: NDArray[Any] | None = None) -> dict[str, Any]:
    """Return maps in 8 bits as a PNG, a line each, with the value of the last level.

    Args:
        maps: ``(K, ...)``; of both signs if one is below zero.
        groups: Which maps share a scale, ``(K,)``, integers from 0; None gives each its own.

    Returns:
        ``png`` as a data URL, ``count``, ``size``, ``scale`` of each map, and ``signed``.
    """
    flat = maps.reshape(len(maps), math.prod(maps.shape[1:]))
    signed = bool((flat < 0).any())
    highest = np.abs(flat).max(1) if flat.size else np.zeros(len(flat), np.float32)
    if groups is not None and len(flat):
        together = np.zeros(int(groups.max()) + 1, np.float32)
        np.maximum.at(together, groups, highest)
        highest = together[groups]
    scaled = flat / np.where(highest > 0, highest, 1)[:, None]
    levels = SIGNED_ZERO + scaled * SIGNED_LEVELS if signed else scaled * LEVELS
    encoded = np.asarray(levels.round().clip(0, 255), np.uint8)
    return {
        "png": data_url(Image.fromarray(encoded)) if encoded.size else "",
        "count": len(flat),
        "size": flat.shape[1],
        "scale": [float(f"{value:.4g}") for value in highest],
        "signed": signed,
    }


def data_url(image: Image.Image, kind: str = "PNG") -> str:
    """Return an image as a data URL, PNG or JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def colours(shares: Array) -> NDArray[np.float32]:
    """Return the colour of each share of a scale, from -1 to 1, ``(..., 3)`` from 0 to 255."""
    found = np.empty((*shares.shape, 3), np.float32)
    for sign, stops in ((1, POSITIVE), (-1, NEGATIVE)):
        chosen = shares >= 0 if sign > 0 else shares < 0
        at = np.linspace(0, 1, len(stops))
        for channel in range(3):
            found[..., channel][chosen] = np.interp(sign * shares[chosen], at, [stop[channel] for stop in stops])
    return found


def over(image: Bytes, heat: Array, scale: float, side: int = 240) -> Image.Image:
    """Return a map over its image in grey, the longer side so many pixels.

    Args:
        image: ``(H, W, 3)``.
        heat: The map, ``(h, w)``.
        scale: The value of the last colour.
        side: Pixels of the longer side.
    """
    ratio = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    grey = np.asarray(Image.fromarray(image).convert("L").resize(size), np.float32)[..., None]
    shares = (heat / scale if scale > 0 else heat * 0).clip(-1, 1).astype(np.float32)
    large = np.asarray(Image.fromarray(shares).resize(size, Image.Resampling.NEAREST), np.float32)
    opacity = opaque(np.abs(large))[..., None]
    mixed = grey * 0.75 * (1 - opacity) + colours(large) * opacity
    return Image.fromarray(np.asarray(mixed.clip(0, 255), np.uint8))


def opaque(shares: Array) -> Array:
    """Return how much of the image a map hides: more where it is higher."""
    return np.asarray(0.35 + 0.6 * np.sqrt(shares), np.float32)


def shown_score(score: float) -> str:
    """Write a score as the page does: with two decimals, or two digits where it is under a tenth.

    Example:
        >>> shown_score(0.873), shown_score(0.0042)
        ('0.87', '0.0042')
    """
    return f"{score:#.2g}" if score < 0.1 else f"{score:.2f}"
