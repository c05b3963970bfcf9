"""Position tables of attention over a map, and the logits that queries give them, axis by axis."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Offsets(NamedTuple):
    """Vectors that stand for the offset from a query to a key, one table an axis.

    Attributes:
        by_row: ``(2H - 1, d)``, for key row minus query row from ``1 - H`` to ``H - 1``.
        by_column: ``(2W - 1, d)``, the same for columns.
        height: H; a number, or a traced one.
        width: W.
    """

    by_row: Tensor
    by_column: Tensor
    height: int
    width: int


def axis_logits(q: Tensor, offsets: Offsets) -> tuple[Tensor, Tensor]:
    """Return each query's logits towards the rows ``(B, h, H, W, H)`` and the columns ``(B, h, H, W, W)``."""
    by_row, by_column, H, W = offsets
    B, h, _, d = q.shape
    q = q.reshape(B, h, H, W, d)
    to_row = q @ _pairs(by_row.to(q.dtype), H)  # (B, h, H, W, d) @ (H, d, H)
    to_column = q.transpose(2, 3) @ _pairs(by_column.to(q.dtype), W)  # (B, h, W, H, d) @ (W, d, W)
    return to_row, to_column.transpose(2, 3)


def _pairs(table: Tensor, size: int) -> Tensor:
    """Spread the vectors of all offsets ``(2 * size - 1, d)`` over the pairs of positions: ``(size, d, size)``."""
    position = torch.arange(size, device=table.device)
    offset = position - position[:, None] + (size - 1)  # (query, key)
    return table[offset].transpose(1, 2)
