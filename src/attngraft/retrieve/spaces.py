"""The space of each head: its mean, its spread and its importance, as sums that can be merged and updated.

Importance is the paper's: ``s_h = mean_i ||e_ih|| * mean_ij (1 - cos(e_ih, e_jh))`` over all N^2 pairs, each key with
itself included, as the code of the paper has it. Written so it costs O(N^2); with ``u = e / ||e||`` the mean of all
cosines is ``||sum_i u_ih||^2 / N^2``, which costs O(N) and gives the same number.

Paper: Multi-Head RAG: Solving Multi-Aspect Problems with LLMs (Besta et al., 2024), arXiv:2406.05085.
Code: spcl/MRAG, multirag/storage/vector_db.py, BSD-3-Clause, read for parity only.
Differs: A key of length zero has no direction, and its cosine with any key is taken as 0. One item alone has no spread:
every head then weighs 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError, ShapeError

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class HeadSpaces:
    """What is known of every head's keys, whatever their number.

    Attributes:
        count: Number of keys a head.
        norms: Sum of the lengths of the keys, ``(heads,)``.
        units: Sum of the keys scaled to length 1, ``(heads, dim)``.
        keys: Sum of the keys, ``(heads, dim)``.

    Example:
        >>> keys = np.random.default_rng(0).normal(size=(10, 3, 4))
        >>> whole = HeadSpaces.of(keys)
        >>> parts = HeadSpaces.of(keys[:7]).merged(HeadSpaces.of(keys[7:]))
        >>> bool(np.allclose(whole.importance(), parts.importance())), whole.count
        (True, 10)
    """

    count: int
    norms: Sums
    units: Sums
    keys: Sums

    @classmethod
    def empty(cls, heads: int, dim: int) -> HeadSpaces:
        """Return the sums over no keys."""
        return cls(0, np.zeros(heads), np.zeros((heads, dim)), np.zeros((heads, dim)))

    @classmethod
    def of(cls, keys: NDArray[Any]) -> HeadSpaces:
        """Sum over keys ``(N, heads, dim)``.

        Raises:
            ShapeError: If they are of another rank.
        """
        if keys.ndim != 3:
            raise ShapeError("HeadSpaces", "keys (N, heads, dim)", keys.shape)
        keys = np.asarray(keys, np.float64)
        norms = np.linalg.norm(keys, axis=2)  # (N, heads)
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        return cls(len(keys), norms.sum(0), np.einsum("nhd,nh->hd", keys, inverse), keys.sum(0))

    @property
    def heads(self) -> int:
        """Return the number of heads."""
        return len(self.norms)

    @property
    def mean(self) -> Sums:
        """Return the mean key of each head, ``(heads, dim)``; zeros where there is no key."""
        return self.keys / max(self.count, 1)

    def merged(self, other: HeadSpaces) -> HeadSpaces:
        """Return the sums over these keys and those of another.

        Raises:
            ShapeError: If the heads are not of the same number and width.
        """
        self._require_like(other)
        return HeadSpaces(
            self.count + other.count, self.norms + other.norms, self.units + other.units, self.keys + other.keys
        )

    def without(self, other: HeadSpaces) -> HeadSpaces:
        """Return the sums over these keys without those of another, which were among them.

        Raises:
            ShapeError: If the heads are not of the same number and width.
            DataError: If the other has more keys.
        """
        self._require_like(other)
        if other.count > self.count:
            raise DataError(f"cannot take {other.count} keys out of {self.count}; take out only what was put in")
        if other.count == self.count:
            return HeadSpaces.empty(*self.keys.shape)
        return HeadSpaces(
            self.count - other.count,
            np.maximum(self.norms - other.norms, 0),
            self.units - other.units,
            self.keys - other.keys,
        )

    def spread(self) -> Sums:
        """Return the mean of ``1 - cos`` over all pairs of keys of each head, ``(heads,)``, from 0 to 1."""
        alike = (self.units**2).sum(1) / max(self.count, 1) ** 2
        return np.clip(1 - alike, 0, 1)

    def importance(self) -> Sums:
        """Return the weight of each head's vote, ``(heads,)``: mean length times spread.

        A head whose keys are all zero weighs 0. Where nothing tells heads apart, as with one item, each weighs 1.
        """
        weights = self.norms / max(self.count, 1) * self.spread()
        live = self.norms > 0
        alone = self.count < 2 or not (weights > 0).any()
        return np.where(live, 1.0, 0.0) if alone and live.any() else weights

    def dead(self) -> tuple[int, ...]:
        """Return the heads whose keys are all zero: they vote for nothing."""
        return tuple(int(head) for head in np.flatnonzero(self.norms == 0)) if self.count else ()

    def _require_like(self, other: HeadSpaces) -> None:
        if self.keys.shape != other.keys.shape:
            raise ShapeError("HeadSpaces", f"heads and width {self.keys.shape}", other.keys.shape)


def unit(keys: NDArray[Any]) -> NDArray[Any]:
    """Scale vectors on the last axis to length 1; a vector of length 0 stays.

    Example:
        >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    norms = np.linalg.norm(keys, axis=-1, keepdims=True)
    return np.divide(keys, norms, out=np.zeros_like(keys), where=norms > 0)


def joined(heads: NDArray[Any]) -> NDArray[Any]:
    """Join the keys of all heads to one vector: ``(N, heads, dim)`` to ``(N, 1, heads * dim)``."""
    return heads.reshape(len(heads), 1, heads.shape[1] * heads.shape[2])


def split(standard: NDArray[Any], heads: int) -> NDArray[Any]:
    """Cut the standard key into equal parts, one a head: ``(N, width)`` to ``(N, heads, width / heads)``.

    Raises:
        ShapeError: If its width cannot be cut so.
    """
    if standard.shape[-1] % heads:
        raise ShapeError("split", f"a width that {heads} heads divide", standard.shape)
    return standard.reshape(len(standard), heads, standard.shape[-1] // heads)
