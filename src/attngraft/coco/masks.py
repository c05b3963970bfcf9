"""Masks in the form that COCO's evaluation reads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError
from attngraft.coco.installed import mask_module

Outline = Sequence[Sequence[float]] | Mapping[str, Any]
"""An annotation's ``segmentation``: polygons as flat lists of x and y, or run lengths."""


def run_lengths(mask: NDArray[Any]) -> dict[str, Any]:
    """Write a mask ``(H, W)`` as COCO's run lengths: down the columns, beginning with what is outside.

    Example:
        >>> run_lengths(np.array([[0, 1], [1, 1]]))
        {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = mask.T.ravel() != 0
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


def run_counts(text: str) -> list[int]:
    """Read the counts of COCO's compressed run lengths: five bits a character, from the third on as differences.

    Example:
        >>> run_counts("62309")
        [6, 2, 3, 2, 12]

    Raises:
        ValueError: If the text is of other characters, or ends within a number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{character!r} is none of its characters")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (code & 16) << (shift - 4)
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("it ends within a number")
    return counts


def decode_mask(segmentation: Outline, height: int, width: int) -> NDArray[np.uint8]:
    """Draw an annotation's outline as COCO's evaluation sees it.

    Args:
        segmentation: Polygons as flat lists of x and y, or run lengths, compressed or not.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        The mask ``(height, width)``, 1 inside.

    Raises:
        DataError: If run lengths are for an image of another size.

    Example:
        >>> decode_mask([[1, 0, 3, 0, 3, 2, 1, 2]], 3, 4).tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    runs = _runs(segmentation, height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 hands numpy 2 an array of its own
        return np.ascontiguousarray(mask_module().decode(runs))


def mask_area(segmentation: Outline, height: int, width: int) -> int:
    """Count the pixels inside an outline without drawing it; the arguments are those of `decode_mask`."""
    return int(mask_module().area(_runs(segmentation, height, width)))


def _runs(segmentation: Outline, height: int, width: int) -> dict[str, Any]:
    if not isinstance(segmentation, Mapping):
        return mask_module().merge(mask_module().frPyObjects(segmentation, height, width))
    found = [int(side) for side in segmentation["size"]]
    if found != [height, width]:
        raise DataError(
            f"run lengths are for an image of {found[1]}x{found[0]} pixels, and theirs has {width}x{height}"
        )
    runs = dict(segmentation)
    return mask_module().frPyObjects(runs, height, width) if isinstance(runs["counts"], list) else runs


def compressed(segmentation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return run lengths in COCO's compressed form."""
    if not isinstance(segmentation["counts"], list):
        return segmentation
    height, width = segmentation["size"]
    packed: Mapping[str, Any] = mask_module().frPyObjects(dict(segmentation), height, width)
    return packed
