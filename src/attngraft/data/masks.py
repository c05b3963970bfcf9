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
