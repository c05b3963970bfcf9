"""Attention on the CPU, tile by tile of queries: by our own products, or by PyTorch's fused kernel for the CPU.

`attngraft.attention._kernels` has the legend of the letters; beside those, a tile has g of the P pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attngraft._core.checks import is_tracing
from attngraft._core.errors import DerivativeError, OptionError
from attngraft._core.processor import processor
from attngraft.attention._offsets import Offsets
from attngraft.attention._precision import at_least_single

TILE = 1 << 19
"""Most logits in a tile: 2 MiB of fp32. Against 2^20, training is 1.02 to 1.07 times as fast, since less memory is
fresh; 2^18 is slower at 20 x 20 and 8 heads. Twice as many where a tile would hold fewer than `ROWS` rows of queries:
with two rows for four, an inference on 60 x 60 takes 1.04 times as long, with one for two on 80 x 80 1.2 times."""

ROWS = 4

BLOCK = 1 << 20
"""Most position logits of a block: `ROWS` rows of 4 pairs on 40 x 40, 2 rows of one pair on 80 x 80. The rows are those
that were fastest on the Intel Xeon that the kernel is taken for; on an AMD EPYC, 8 rows and 20 are a little faster."""

KEPT_PER_CHANNEL = 8
"""Training keeps the weights of a head where a row of them, N, is at most this many times its d: 1.2 times faster
forward and backward at 20 x 20 and d = 64, and still linear memory. At 40 x 40 and d = 32 it would be slower."""

LOG2_E = math.log2(math.e)

# Private, since the public function gives no logarithms of the totals, which the backward pass starts from. It needs
# equal widths and channels that lie together: other queries, it takes without a word for wrong numbers (torch 2.14.1).
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def blocked(
    q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None, *, half: bool | None = None
) -> Tensor:
    """Run the fused kernel.

    Its products of bfloat16 are those of bfloat16 where ``half`` is true or, if None, where the CPU has AMX. AVX-512
    with BF16 is no reason: on an AMD EPYC that has it, they gain nothing in time, at 1.3 times the error.
    """
    _require_blocked(q.device)
    B, h, d, _ = q.shape
    e, dtype = v.shape[2], v.dtype
    half = q.dtype == k.dtype == v.dtype == torch.bfloat16 and (processor().amx if half is None else half)
    if not half:
        q, k, v = (at_least_single(t) for t in (q, k, v))
    if offsets is None:
        q, k, v = (_cells_first(t, max(d, e)) for t in (q, k, v))  # (B, h, N, max(d, e))
        return _Fused.apply(q, k, v, scale)[..., :e].transpose(2, 3).to(dtype)
    by_row, by_column = (at_least_single(t) for t in offsets[:2])
    q, k, v = (at_least_single(t.flatten(0, 1)) for t in (q, k, v))  # (P, ., N)
    return _Blocked.apply(q, k, v, by_row, by_column, scale, offsets[2:], half).unflatten(0, (B, h)).to(dtype)


def _require_blocked(device: torch.device) -> None:
    if torch.compiler.is_compiling():
        problem = "does not belong in a compiled graph"
    elif is_tracing():
        problem = "cannot be traced or exported"
    elif device.type != "cpu":
        problem = f"does not run on {device.type}"
    else:
        return
    raise OptionError(f"the blocked attention kernel {problem}; leave out attngraft.attention.kernel('blocked') there")


def _cells_first(t: Tensor, width: int) -> Tensor:
    """Turn ``(..., c, N)`` into ``(..., N, width)``, with zeros after the c channels."""
    t = t.transpose(-2, -1)
    return F.pad(t, (0, width - t.shape[-1])) if width > t.shape[-1] else t.contiguous()


class _Fused(torch.autograd.Function):
    """Attention without positions, on ``(B, h, N, d)``: one call, forward and backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        out, totals = _fused(q, k, v, scale=scale)
        ctx.save_for_backward(q, k, v, out, totals)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        _require_first_derivative()
        return *_fused_backward(d_out, *ctx.saved_tensors, 0.0, False, scale=ctx.scale), None


def keeps_weights(N: int, d: int) -> bool:
    """Tell whether training keeps the weights of a head of d channels on N cells."""
    return KEPT_PER_CHANNEL * d >= N


def tiled(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    B, h, d, N = q.shape
    tables = (None, None) if offsets is None else tuple(at_least_single(t) for t in offsets[:2])
    grid = (1, N) if offsets is None else offsets[2:]
    keeps = torch.is_grad_enabled() and keeps_weights(N, d)
    pairs = (at_least_single(t).flatten(0, 1) for t in (q, k, v))
    return _Tiled.apply(*pairs, *tables, scale, grid, keeps).unflatten(0, (B, h)).to(v.dtype)


class _Tiled(torch.autograd.Function):
    """Softmax attention of P pairs, tile by tile; logits are kept in base 2, whose power is twice as fast as e's.

    ``weights`` below are not normalised: dividing what they are multiplied with is N / e times less work.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        by_row: Tensor | None,
        by_column: Tensor | None,
        scale: float,
        grid: tuple[int, int],
        keeps: bool,
    ) -> Tensor:
        P, _, N = q.shape
        tables = None
        if by_row is not None and by_column is not None:
            tables = torch.cat((by_row, by_column)).t().contiguous()  # (d, M)
        out = torch.empty_like(v, memory_format=torch.contiguous_format)  # (P, e, N)
        peaks, totals = q.new_empty(P, N, 1), q.new_empty(P, N, 1)
        kept = q.new_empty(P, N, N) if keeps else None
        scratch = _Scratch(q, tables, grid, list(_tiles(P, *grid)), buffers=0 if keeps else 1)
        for tile in scratch.tiles:
            at = tile.pairs, slice(None), tile.cells
            weights = scratch.buffer(tile) if kept is None else kept[tile.pairs, tile.cells]  # (g, T, N)
            scratch.logits(tile, q[at], k[tile.pairs], scale * LOG2_E, out=weights)
            peak, total = peaks[tile.pairs, tile.cells], totals[tile.pairs, tile.cells]  # (g, T, 1)
            torch.amax(weights, 2, keepdim=True, out=peak)
            weights.sub_(peak).exp2_()
            torch.sum(weights, 2, keepdim=True, out=total)
            torch.bmm(v[tile.pairs], weights.transpose(1, 2), out=out[at])
        out.div_(totals.transpose(1, 2))
        ctx.save_for_backward(q, k, v, tables, out, peaks, totals, kept)
        ctx.scale, ctx.grid = scale, grid
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        _require_first_derivative()
        q, k, v, tables, out, peaks, totals, kept = ctx.saved_tensors
        d_q, d_k, d_v = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, k, v))
        d_tables = None if tables is None else tables.new_empty(len(q), *tables.shape)  # (P, d, M)
        d_out = d_out / totals.transpose(1, 2)
        scratch = _Scratch(q, tables, ctx.grid, list(_tiles(len(q), *ctx.grid)), buffers=2 if kept is None else 1)
        for tile in scratch.tiles:
            at = tile.pairs, slice(None), tile.cells
            q_t, d_q_t, d_out_t = q[at], d_q[at], d_out[at]
            k_g, v_g, d_k_g, d_v_g = (t[tile.pairs] for t in (k, v, d_k, d_v))
            if kept is None:
                weights = scratch.buffer(tile, 1)  # (g, T, N)
                peak = peaks[tile.pairs, tile.cells]
                scratch.logits(tile, q_t, k_g, ctx.scale * LOG2_E, out=weights, less=peak).exp2_()
            else:
                weights = kept[tile.pairs, tile.cells]
            d_logits = scratch.buffer(tile)
            torch.bmm(d_out_t.transpose(1, 2), v_g, out=d_logits)
            mean = (d_out_t * out[at]).sum(1).unsqueeze(2)  # of the weights' gradients, by the weights
            d_logits.sub_(mean).mul_(weights)
            add = 0 if tile.starts_pairs else 1
            torch.baddbmm(d_v_g, d_out_t, weights, beta=add, out=d_v_g)
            torch.baddbmm(d_k_g, q_t, d_logits, beta=add, alpha=ctx.scale, out=d_k_g)
            torch.baddbmm(d_q_t, k_g, d_logits.transpose(1, 2), beta=0, alpha=ctx.scale, out=d_q_t)
            if d_tables is not None:
                d_reach, d_tables_g = scratch.reach_gradient(tile, d_logits), d_tables[tile.pairs]  # (g, T, M)
                tables_g = tables.expand_as(d_tables_g)
                torch.baddbmm(d_q_t, tables_g, d_reach.transpose(1, 2), alpha=ctx.scale, out=d_q_t)
                torch.baddbmm(d_tables_g, q_t, d_reach, beta=add, alpha=ctx.scale, out=d_tables_g)
        by_row, by_column = _split_tables(d_tables, ctx.grid[0])
        return d_q, d_k, d_v, by_row, by_column, None, None, None


class _Blocked(torch.autograd.Function):
    """Softmax attention of P pairs by the fused kernel, block by block; the backward pass is that of `_Tiled`.

    What it leaves for that one are the logarithms of the totals as peaks, so that weights computed again total one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        by_row: Tensor,
        by_column: Tensor,
        scale: float,
        grid: tuple[int, int],
        half: bool,
    ) -> Tensor:
        (P, d, N), e = q.shape, v.shape[1]
        tables = torch.cat((by_row, by_column)).t().contiguous()  # (d, M)
        q_n, k_n, v_n = (_cells_first(t.bfloat16() if half else t, max(d, e)) for t in (q, k, v))  # (P, N, max(d, e))
        out = torch.empty_like(v, memory_format=torch.contiguous_format)  # (P, e, N)
        peaks = q.new_empty(P, N, 1)
        scratch = _Scratch(q, tables, grid, list(_blocks(P, *grid)), buffers=1)
        for block in scratch.tiles:
            at = block.pairs, slice(None), block.cells
            mask = scratch.positions(block, q[at], scale, out=scratch.buffer(block))  # (g, T, N)
            group = (q_n[block.pairs, block.cells], k_n[block.pairs], v_n[block.pairs], mask)
            *vectors, mask = (t.unsqueeze(0) for t in group)
            mixed, totals = _fused(*vectors, attn_mask=mask, scale=scale)  # (1, g, T, max(d, e)), (1, g, T)
            out[at] = mixed[0, ..., :e].transpose(1, 2)
            torch.mul(totals[0].unsqueeze(2), LOG2_E, out=peaks[block.pairs, block.cells])
        ctx.save_for_backward(q, k, v, tables, out, peaks, q.new_ones(1, 1, 1), None)
        ctx.scale, ctx.grid = scale, grid
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        return _Tiled.backward(ctx, d_out)


def _require_first_derivative() -> None:
    if torch.is_grad_enabled():
        raise DerivativeError(
            "the tiled and blocked attention kernels have first derivatives only, and create_graph=True asks for more; "
            "run the forward pass under attngraft.attention.kernel('factored')"
        )


def _split_tables(d_tables: Tensor | None, H: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Sum the gradients of both tables over the pairs, ``(P, d, M)``, and part them."""
    if d_tables is None:
        return None, None
    total = d_tables.sum(0).t()  # (M, d)
    return total[: 2 * H - 1], total[2 * H - 1 :]


class _Tile(NamedTuple):
    """Some queries of some pairs: whole rows of the map, or a part of one row where a row is already too much."""

    pairs: slice
    cells: slice
    row: int
    column: int
    rows: int
    columns: int

    @property
    def starts_pairs(self) -> bool:
        return self.cells.start == 0


def _tiles(pairs: int, H: int, W: int) -> Iterator[_Tile]:
    """Cut the queries so that a tile holds at most `TILE` logits, or twice that, see there, or one query."""
    N = H * W
    group = _even_part(pairs, TILE // (N * N))
    most = TILE if H == 1 or min(ROWS, H) * W * N <= TILE else 2 * TILE
    rows = _even_part(H, most // (group * W * N))
    columns = W if rows > 1 else _even_part(W, most // (group * N))
    yield from _parts(pairs, H, W, group, rows, columns)


def _blocks(pairs: int, H: int, W: int) -> Iterator[_Tile]:
    """Cut the queries into blocks of `ROWS` rows of as many pairs as `BLOCK` allows, or of less of one pair."""
    N = H * W
    rows = _even_part(H, min(ROWS, BLOCK // (W * N)))
    columns = W if rows > 1 else _even_part(W, BLOCK // N)
    group = _even_part(pairs, BLOCK // (rows * columns * N))
    yield from _parts(pairs, H, W, group, rows, columns)


def _parts(pairs: int, H: int, W: int, group: int, rows: int, columns: int) -> Iterator[_Tile]:
    for first in range(0, pairs, group):
        for row in range(0, H, rows):
            for column in range(0, W, columns):
                R, C = min(rows, H - row), min(columns, W - column)
                start = row * W + column
                yield _Tile(slice(first, min(first + group, pairs)), slice(start, start + R * C), row, column, R, C)


def _even_part(total: int, most: int) -> int:
    """Return the size of the parts when ``total`` is cut into the fewest parts of at most ``most``.

    Example:
        >>> [_even_part(40, most) for most in (100, 39, 17, 0)]
        [40, 20, 14, 1]
    """
    parts = -(-total // max(1, most))
    return -(-total // parts)


class _Scratch:
    """Memory for one tile, used again for each, and the products that must know how a tile lies in the map."""

    def __init__(
        self, q: Tensor, tables: Tensor | None, grid: tuple[int, int], tiles: list[_Tile], buffers: int
    ) -> None:
        self.grid = grid
        self.tables = tables
        self.tiles = tiles
        largest = tiles[0]
        queries = (largest.pairs.stop - largest.pairs.start) * largest.rows * largest.columns
        self._buffers = [q.new_empty(queries * q.shape[2]) for _ in range(buffers)]
        self._reach = q.new_empty(queries * (0 if tables is None else tables.shape[1]))

    def buffer(self, tile: _Tile, index: int = 0) -> Tensor:
        """Return memory for the tile's logits, ``(g, T, N)``."""
        return self._cut(self._buffers[index], tile, self.grid[0] * self.grid[1])

    def logits(
        self, tile: _Tile, q: Tensor, k: Tensor, factor: float, out: Tensor, less: Tensor | None = None
    ) -> Tensor:
        """Write ``factor`` times the products with keys and tables, minus ``less`` ``(g, T, 1)``."""
        if self.tables is None:
            torch.baddbmm(out, q.transpose(1, 2), k, beta=0, alpha=factor, out=out)
            return out if less is None else out.sub_(less)
        self.positions(tile, q, factor, out, less)
        return torch.baddbmm(out, q.transpose(1, 2), k, alpha=factor, out=out)

    def positions(self, tile: _Tile, q: Tensor, factor: float, out: Tensor, less: Tensor | None = None) -> Tensor:
        """Write ``factor`` times the products with the tables, minus ``less`` ``(g, T, 1)``."""
        assert self.tables is not None
        reach = self._cut(self._reach, tile, self.tables.shape[1])
        tables = self.tables.expand(len(q), -1, -1)
        torch.baddbmm(reach, q.transpose(1, 2), tables, beta=0, alpha=factor, out=reach)
        if less is not None:
            reach[:, :, : 2 * self.grid[0] - 1].sub_(less)
        to_row, to_column = self._by_axis(tile, reach)
        torch.add(to_row.unsqueeze(4), to_column.unsqueeze(3), out=out.view(*to_row.shape, self.grid[1]))
        return out

    def reach_gradient(self, tile: _Tile, d_logits: Tensor) -> Tensor:
        """Sum the logits' gradients ``(g, T, N)`` over all keys at the same offset: ``(g, T, M)``."""
        d_reach = self._cut(self._reach, tile, 2 * sum(self.grid) - 2).zero_()
        to_row, to_column = self._by_axis(tile, d_reach)
        d_logits = d_logits.view(*to_row.shape, self.grid[1])
        torch.sum(d_logits, 4, out=to_row)
        torch.sum(d_logits, 3, out=to_column)
        return d_reach

    def _by_axis(self, tile: _Tile, reach: Tensor) -> tuple[Tensor, Tensor]:
        """View the products with all offsets ``(g, T, M)`` as those with each key row and each key column.

        A query one row down meets the key rows one offset earlier: a stride, where a gather would copy.
        """
        H, W = self.grid
        g, T, M = reach.shape
        C = tile.columns
        to_row = reach.as_strided((g, tile.rows, C, H), (T * M, C * M - 1, M, 1), H - 1 - tile.row)
        to_column = reach.as_strided((g, tile.rows, C, W), (T * M, C * M, M - 1, 1), 2 * H + W - 2 - tile.column)
        return to_row, to_column

    @staticmethod
    def _cut(buffer: Tensor, tile: _Tile, width: int) -> Tensor:
        g, T = tile.pairs.stop - tile.pairs.start, tile.rows * tile.columns
        return buffer[: g * T * width].view(g, T, width)
