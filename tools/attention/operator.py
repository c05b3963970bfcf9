"""The attention of the pages, as the equations read, in float64: for the figures, and for the numbers in the text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tools.attention.arrays import SIDE, Arrays

HEADS = 4
Floats = NDArray[np.float64]


def vectors(arrays: Arrays, scene: int, head: int) -> tuple[Floats, Floats, Floats]:
    """Return q, k and v of one head, ``(d, N)`` each."""
    q, k, v = np.split(arrays["qkv"].astype(np.float64).reshape(HEADS, -1, arrays["x"].shape[1])[head], 3)
    x = arrays["x"][scene].astype(np.float64)
    return q @ x, k @ x, v @ x


def content(q: Floats, k: Floats) -> Floats:
    """Return q_i . k_j, ``(N, N)``, not scaled."""
    return q.T @ k


def position(q: Floats, arrays: Arrays) -> Floats:
    """Return q_i . (height[y_j - y_i] + width[x_j - x_i]), ``(N, N)``, not scaled."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    height, width = arrays["height"].astype(np.float64), arrays["width"].astype(np.float64)
    down, right = row - row[:, None] + SIDE - 1, column - column[:, None] + SIDE - 1  # (N, N)
    return np.einsum("dn,nmd->nm", q, height[down] + width[right])


def position_copied(q: Floats, arrays: Arrays) -> Floats:
    """Return (height[y_i] + width[x_i]) . q_j, ``(N, N)``, as the widely copied class has it."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    start = SIDE // 2 - 1
    place = arrays["height"][row + start] + arrays["width"][column + start]  # (N, d)
    return place.astype(np.float64) @ q


def softmax(logits: Floats) -> Floats:
    """Return the softmax over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def rows(arrays: Arrays, scene: int, head: int, *, positions: bool = True, scale: float | None = None) -> Floats:
    """Return the weights of one head, ``(N, N)``: a line for each cell that asks."""
    q, k, _ = vectors(arrays, scene, head)
    logits = content(q, k) + (position(q, arrays) if positions else 0)
    return softmax(logits * (len(q) ** -0.5 if scale is None else scale))


def rows_copied(arrays: Arrays, scene: int, head: int) -> Floats:
    """Return the weights of one head with the widely copied arithmetic, ``(N, N)``."""
    q, k, _ = vectors(arrays, scene, head)
    return softmax(content(q, k) + position_copied(q, arrays))


def mixture(arrays: Arrays, scene: int) -> Floats:
    """Return the output of the attention, ``(C, N)``: the mixtures of all heads, one after the other."""
    return np.concatenate([vectors(arrays, scene, h)[2] @ rows(arrays, scene, h).T for h in range(HEADS)])
