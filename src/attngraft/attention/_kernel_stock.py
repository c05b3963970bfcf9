"""Attention by stock operators: products and a softmax, or the fused operator; positions enter axis by axis."""

from __future__ import annotations

import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from attngraft._core.checks import is_tracing
from attngraft.attention._offsets import Offsets, axis_logits
from attngraft.attention._precision import is_half

SLICE = 1 << 19
"""Most logits of a slice in a traced graph, while it has more than one row of queries."""


def factored(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    return _plain(1, q, k, v, scale, offsets)


def sliced(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    B, h, _, N = map(_example, q.shape)
    rows = N if offsets is None else _example(offsets.height)
    return _plain(min(rows, -(-B * h * N * N // SLICE)), q, k, v, scale, offsets)


def _example(size: int) -> int:
    """Return a size as a number, even a traced one: a graph has as many slices as its example asks for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        return int(size)


def _plain(slices: int, q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    if is_half(q) and not is_tracing():
        # Half precision cannot hold the logits of a strong map. A graph for export keeps to its one type.
        with torch.autocast(q.device.type, enabled=False):
            return _plain(slices, q.float(), k.float(), v.float(), scale, offsets).to(v.dtype)
    q, v = q.transpose(2, 3) * scale, v.transpose(2, 3)  # (B, h, N, d); v is what is turned, and not N x N weights
    by_axis = None if offsets is None else axis_logits(q, offsets)
    if slices == 1:
        return _mixed(q, k, v, by_axis).transpose(2, 3)
    H, W = (q.shape[2], 1) if offsets is None else offsets[2:]
    # Bounds, not a number of rows: a graph serves every H. Slices of a map with fewer rows than slices may be empty.
    bounds = [0, *(H * i // slices for i in range(1, slices)), H]
    parts = [
        _mixed(q[:, :, a * W : b * W], k, v, by_axis and (by_axis[0][:, :, a:b], by_axis[1][:, :, a:b]))
        for a, b in pairwise(bounds)
    ]
    return torch.cat(parts, 2).transpose(2, 3)


def _mixed(q: Tensor, k: Tensor, v: Tensor, by_axis: tuple[Tensor, Tensor] | None) -> Tensor:
    """Mix values for some queries: ``(B, h, T, d)``, ``(B, h, d, N)`` and ``(B, h, N, e)`` to ``(B, h, T, e)``.

    Args:
        q: Scaled queries.
        k: Keys.
        v: Values.
        by_axis: What `axis_logits` gives for the queries, ``(B, h, R, W, H)`` and ``(B, h, R, W, W)``; T = R * W.
    """
    logits = q @ k  # (B, h, T, N)
    if by_axis is not None:
        to_row, to_column = by_axis
        spread = logits.reshape(*to_row.shape, to_column.shape[4])  # (B, h, R, W, H, W)
        # Each added where it is, and not their sum: runtimes join both additions to one pass over N x N.
        logits = (spread + to_row.unsqueeze(5) + to_column.unsqueeze(4)).reshape(logits.shape)
    return logits.softmax(3, dtype=torch.float32 if is_half(logits) else None).to(v.dtype) @ v


def augmented(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    channels = v.shape[2]
    q, k, v = (q * scale).transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)  # (B, h, N, d)
    if offsets is not None:
        B, h, N, _ = q.shape
        H, W = offsets.height, offsets.width
        logits = torch.cat(axis_logits(q, offsets), 4).reshape(B, h, N, H + W)
        rows = torch.eye(H, dtype=k.dtype, device=k.device)[:, None].expand(H, W, H)
        columns = torch.eye(W, dtype=k.dtype, device=k.device).expand(H, W, W)
        one_hot = torch.cat((rows, columns), 2).reshape(N, H + W)
        q = torch.cat((q, logits.to(q.dtype)), 3)
        k = torch.cat((k, one_hot.expand(B, h, N, H + W)), 3)
    # The fused kernels want equal widths, a multiple of 8, and channels that lie together.
    width = -(-max(q.shape[3], channels) // 8) * 8
    q, k, v = (F.pad(t, (0, width - t.shape[3])).contiguous() for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :channels].transpose(2, 3)
