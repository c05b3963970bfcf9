"""Position tables that serve a map of any size: their centre on a smaller one, interpolated on a larger one."""

from __future__ import annotations

import torch
from torch import Tensor

from attngraft._core.checks import is_tracing


def resample(table: Tensor, count: int) -> Tensor:
    """Take ``count`` rows from a table along one axis of a map.

    A table with more rows gives its centre; where the surplus is odd, the spare row is the last. A table with fewer is
    interpolated linearly, its first and last rows staying first and last. At equal size the rows are the table's own.

    Args:
        table: ``(g, rows, d)``.
        count: Rows wanted; a traced number while a graph is being exported.

    Returns:
        ``(g, count, d)``.

    Example:
        >>> table = torch.tensor([0.0, 10.0, 20.0]).view(1, 3, 1)
        >>> [resample(table, count).flatten().tolist() for count in (1, 2, 3, 5)]
        [[10.0], [0.0, 10.0], [0.0, 10.0, 20.0], [0.0, 5.0, 10.0, 15.0, 20.0]]
    """
    rows = table.shape[1]
    if not is_tracing() and count <= rows:
        return table.narrow(1, (rows - count) // 2, count)
    gaps, span = _at_least(count - 1, 1), _at_most(count - 1, rows - 1)
    # Integers until the last step, so that no rounding moves a row of a table that is taken as it is.
    position = torch.arange(count, device=table.device) * span
    below = position // gaps
    weight = (position - below * gaps).to(table.dtype)[:, None] / gaps
    below = below + (rows - 1 - span) // 2
    above = below + (below < rows - 1)
    return table[:, below] * (1 - weight) + table[:, above] * weight


# Traced sizes are tensors. ONNX clips integers from opset 12 on only, and hosts export opset 11 to some devices.


def _at_least(value: int, low: int) -> int:
    return torch.where(value > low, value, low) if isinstance(value, Tensor) else max(value, low)


def _at_most(value: int, high: int) -> int:
    return torch.where(value < high, value, high) if isinstance(value, Tensor) else min(value, high)
