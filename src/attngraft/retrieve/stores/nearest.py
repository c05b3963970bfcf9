"""The n nearest of everything that is shown, exactly, a block at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
AT_ONCE = 1 << 24
"""Similarities that are held at once."""


class Nearest:
    """Keeps the n items whose keys are most alike to each query's, of every head; ties go to the item seen first.

    A tie is between equal cosines; those of equal keys may differ in the last bits, by their place in the product.

    Args:
        queries: Keys of length 1, ``(queries, heads, dim)``.
        n: How many are kept.

    Attributes:
        rows: Rows of what was seen, counted over all blocks, nearest first, ``(queries, heads, k)`` with k up to n; -1
            where a mask let fewer pass.
        similarity: Their cosine, of the same shape.
    """

    def __init__(self, queries: Floats, n: int) -> None:
        self._queries, self._n, self._seen = queries, n, 0
        self.rows: Rows = np.zeros((*queries.shape[:2], 0), np.int64)
        self.similarity: Floats = np.zeros((*queries.shape[:2], 0), np.float32)

    def see(self, block: Floats, allowed: NDArray[np.bool_] | None = None) -> None:
        """Compare with a block of keys of length 1.

        Args:
            block: The keys, ``(heads, items, dim)``.
            allowed: Which of all rows may be found; None for all.
        """
        heads, items, _ = block.shape
        here = None if allowed is None else allowed[self._seen : self._seen + items]
        step = max(1, AT_ONCE // max(1, heads * items))
        parts = [self._best(block, here, slice(q, q + step)) for q in range(0, len(self._queries), step)]
        rows, similarity = (np.concatenate(of_kind) for of_kind in zip(*parts, strict=True))
        rows = np.concatenate([self.rows, np.where(rows < 0, rows, rows + self._seen)], 2)
        similarity = np.concatenate([self.similarity, similarity], 2)
        order = np.argsort(-similarity, axis=2, kind="stable")[..., : self._n]
        self.rows, self.similarity = np.take_along_axis(rows, order, 2), np.take_along_axis(similarity, order, 2)
        self._seen += items

    def _best(self, block: Floats, allowed: NDArray[np.bool_] | None, queries: slice) -> tuple[Rows, Floats]:
        """Return rows and similarities of some queries' nearest in a block, in no order, ``(queries, heads, k)``."""
        some = self._queries[queries].transpose(1, 0, 2)  # (heads, queries, dim)
        alike = np.matmul(some, block.transpose(0, 2, 1))  # (heads, queries, items)
        if allowed is not None:
            alike[..., ~allowed] = -np.inf
        k = min(self._n, alike.shape[2])
        rows = first_largest(alike, k)
        similarity = np.take_along_axis(alike, rows, 2)
        rows = np.where(np.isfinite(similarity), rows, -1)
        return rows.transpose(1, 0, 2), similarity.transpose(1, 0, 2)


def first_largest(values: Floats, k: int) -> Rows:
    """Return where the k largest values of the last axis stand, in ascending order; of equal values the first.

    Example:
        >>> first_largest(np.array([[0.5, 0.9, 0.5, 0.1]], np.float32), 2)
        array([[0, 1]])
    """
    size = values.shape[-1]
    flat = values.reshape(-1, size)
    found = np.empty((len(flat), k), np.int64)
    if k == size:
        found[:] = np.arange(size)
    else:
        least = np.partition(flat, size - k, axis=1)[:, size - k]
        for row, (of_row, bound) in enumerate(zip(flat, least, strict=True)):
            at = np.flatnonzero(of_row >= bound)
            if len(at) > k:
                above = of_row[at] > bound
                at = np.sort(np.concatenate([at[above], at[~above][: k - int(above.sum())]]))
            found[row] = at
    return found.reshape(*values.shape[:-1], k)
