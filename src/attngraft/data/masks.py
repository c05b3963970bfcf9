"""Masks in the form that COCO's evaluation reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
