"""What an attention mixed, for chosen cells only: the tools that its `attention_rows` is written with.

An attention of the zoo says what it did in two methods and one attribute:

- ``attention_rows(x, cells)`` gives the weights ``(B, h, Q, N)`` with which each chosen cell gathered the values of all
  N cells of the map; never more than Q rows, so memory is O(Q N);
- ``attention_values(x)`` gives those values, ``(B, h, N, e)``; ``rows @ values`` is what the mechanism computes before
  its last projection, without the terms that it adds beside the attention;
- ``mixture`` says where that product can be read off while the module runs.

A gate has ``gate_map(x)``, which broadcasts to the map it multiplies: ``x``, or what ``gated(x)`` gives.

Legend: B images, h heads of d channels, N = H * W cells row by row, Q chosen cells, K keys that one cell may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attngraft._core.errors import MapError
from attngraft.attention._precision import at_least_single

Cells = Tensor | Sequence[int] | None
"""Flat indices ``y * W + x`` of the chosen cells: ``(Q,)`` for all images alike, ``(B, Q)`` for each; None for all."""


class Mixture(NamedTuple):
    """Where what a module mixed can be read off while it runs.

    Attributes:
        enters: Path of the child whose input carries it; empty for the module's own output. A child that is called once
            for each head, in their order, is given each head's share, so that a head may depend on the one before.
        layout: ``"map"`` for ``(B, C, H, W)``, ``"cells"`` for ``(B, H, W, C)``, ``"tokens"`` for ``(B, N, C)``,
            ``"pooled"`` for one vector ``(B, C)`` that all cells share.
    """

    enters: str = "proj"
    layout: Literal["map", "cells", "tokens", "pooled"] = "map"


def query_cells(cells: Cells, batch: int, count: int, device: torch.device) -> Tensor:
    """Return the chosen cells of each image, ``(B, Q)``.

    Args:
        cells: What the caller chose, see `Cells`.
        batch: Number of images B.
        count: Number of cells of a map.
        device: Where the result is wanted.

    Raises:
        MapError: If a cell is not on the map, or the indices do not fit the batch.

    Example:
        >>> query_cells([3, 0], 2, 4, torch.device("cpu")).tolist()
        [[3, 0], [3, 0]]
    """
    index = torch.arange(count) if cells is None else torch.as_tensor(cells)
    if index.dtype.is_floating_point or index.dtype == torch.bool or index.dim() not in (1, 2):
        raise MapError(
            f"cells are integers y * W + x of shape (Q,) or ({batch}, Q), "
            f"got {index.dtype} of shape {tuple(index.shape)}"
        )
    if index.dim() == 2 and len(index) != batch:
        raise MapError(f"cells for each image need one line an image, got {len(index)} lines for {batch} images")
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise MapError(
            f"a cell is a number from 0 to {count - 1} on this map, "
            f"got numbers from {int(index.min())} to {int(index.max())}"
        )
    return index.to(device, torch.long).expand(batch, -1)


def choose(tokens: Tensor, cells: Tensor) -> Tensor:
    """Take the vectors of chosen cells, ``(B, h, N, d)`` to ``(B, h, Q, d)``."""
    return tokens.gather(2, cells[:, None, :, None].expand(-1, tokens.shape[1], -1, tokens.shape[3]))


def chosen_logits(q: Tensor, k: Tensor, cells: Cells, scale: float) -> tuple[Tensor, Tensor]:
    """Return the chosen cells, ``(B, Q)``, and their logits towards all keys, ``(B, h, Q, N)``.

    Args:
        q: Queries ``(B, h, N, d)``.
        k: Keys ``(B, h, N, d)``.
        cells: The chosen cells.
        scale: Factor on the logits.
    """
    index = query_cells(cells, q.shape[0], q.shape[2], q.device)
    return index, choose(q, index) * scale @ k.transpose(2, 3)


def softmax(logits: Tensor) -> Tensor:
    """Normalise rows, in float32 at least."""
    return at_least_single(logits).softmax(-1)


def near_rows(
    logits: Tensor, keys: Tensor, inside: Tensor, *, bias: Tensor | None = None, outside: Tensor | float | None = None
) -> Tensor:
    """Normalise over the keys that each cell may see, and spread the weights over the whole map.

    Args:
        logits: ``(B, h, Q, N)``, of all keys.
        keys: Which keys a cell sees, ``(1 or B, 1 or h, Q, K)``; any number for those outside the map.
        inside: Which of them are on the map and may be seen, of the same shape.
        bias: What is added to their logits, broadcastable to ``(B, h, Q, K)``.
        outside: Logits of the keys outside the map, where they take part: their mass is then missing from the row.

    Returns:
        ``(B, h, Q, N)``.
    """
    B, h, Q, N = logits.shape
    keys = torch.where(inside, keys, 0).expand(B, h, Q, -1)
    near = logits.gather(3, keys)
    near = torch.where(inside, near, -torch.inf if outside is None else outside)
    weights = softmax(near if bias is None else near + bias)
    weights = weights.masked_fill(~inside, 0.0)
    return weights.new_zeros(B, h, Q, N).scatter_add_(3, keys, weights)


def pairs(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Return the flat cells of all pairs of rows ``(..., M)`` and columns ``(..., K)``, ``(..., M * K)``."""
    return (rows.unsqueeze(-1) * width + columns.unsqueeze(-2)).flatten(-2)


def both(rows: Tensor, columns: Tensor) -> Tensor:
    """Return where both of a row ``(..., M)`` and a column ``(..., K)`` hold, ``(..., M * K)``."""
    return (rows.unsqueeze(-1) & columns.unsqueeze(-2)).flatten(-2)


def corners(places: Tensor, height: int, width: int, *, align: bool = True) -> tuple[Tensor, Tensor]:
    """Return the four cells that each sample of a map lies between, and their bilinear weights, ``(..., K, 4)``.

    Args:
        places: Where the samples are, ``(..., K, 2)`` as (x, y), in the units of `torch.nn.functional.grid_sample`.
        height: Rows of the map, H.
        width: Columns of the map, W.
        align: Whether -1 and 1 are the centres of the end cells, or their outer edges.

    Returns:
        Flat cells, and weights, which are zero for cells outside the map.
    """
    (rows, row_shares), (columns, column_shares) = (
        _neighbours(places[..., axis], size, align) for axis, size in ((1, height), (0, width))
    )
    return pairs(rows, columns, width), (row_shares.unsqueeze(-1) * column_shares.unsqueeze(-2)).flatten(-2)


def _neighbours(place: Tensor, size: int, align: bool) -> tuple[Tensor, Tensor]:
    """Return the two cells of an axis that each place lies between, and their shares, ``(..., K, 2)``."""
    place = (place + 1) / 2
    place = place * (size - 1) if align else place * size - 0.5
    cells = torch.stack((place.floor(), place.floor() + 1), -1)
    shares = (1 - (place.unsqueeze(-1) - cells).abs()) * ((cells >= 0) & (cells < size))
    return cells.clamp(0, size - 1).long(), shares


def spread(weights: Tensor, cells: Tensor, shares: Tensor, count: int) -> Tensor:
    """Spread weights of samples over the cells that these lie between.

    Args:
        weights: ``(..., Q, K)``.
        cells: Flat cells of each sample, ``(..., Q or 1, K, 4)``.
        shares: Their shares, of the same shape.
        count: Number of cells N.

    Returns:
        ``(..., Q, N)``.
    """
    spread_out = weights.unsqueeze(-1) * shares.to(weights.dtype)  # (..., Q, K, 4)
    index = cells.expand(spread_out.shape).flatten(-2)
    return weights.new_zeros(*weights.shape[:-1], count).scatter_add_(-1, index, spread_out.flatten(-2))
