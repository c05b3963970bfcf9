"""Exact attention over a map, with or without separable position logits, in memory that grows with N.

    logits[i, j] = scale * q_i . (k_j + by_row[y_j - y_i + H - 1] + by_column[x_j - x_i + W - 1])

    B batch    h heads    P = B * h pairs    d channels of a head    H, W the map    N = H * W cells, row by row
    T queries of a tile    M = (2H - 1) + (2W - 1) rows of both tables

These kernels give the same numbers up to rounding; `attend` takes the one that suits, and `chosen_kernel` names it:

=============  ==========================  ============================================================================
kernel         taken for                   how
=============  ==========================  ============================================================================
``tiled``      the CPU, and counting       tiles of query rows that stay in the cache; the backward pass computes them
               on meta tensors             again from q, k, v and the tables, but for small maps (`KEPT_PER_CHANNEL`)
``blocked``    large maps on some CPUs     PyTorch's fused kernel for the CPU: over blocks of query rows with a block's
               (`chosen_kernel`)           position logits as its mask, or once where there are no positions
``augmented``  accelerators,               the position logits as H + W more channels of q, met by one-hot channels of
               ``torch.compile``           k, so that `scaled_dot_product_attention` carries the work
``sliced``     tracing on the CPU, hence   plain products and a softmax, written out for some rows of queries after the
               ONNX, OpenVINO and          others; the traced map decides in how many slices
               TorchScript
``factored``   tracing on accelerators,    the same for all queries at once; makes tensors of N x N elements
               `torch.func`
``flex``       nothing by itself           FlexAttention, with the positions added to each logit
=============  ==========================  ============================================================================

`kernel` forces one of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attngraft._core.checks import is_tracing, is_transformed, one_of
from attngraft._core.errors import DerivativeError, OptionError
from attngraft._core.processor import processor

TILE = 1 << 19
"""Most logits in a tile: 2 MiB of fp32. Against 2^20, training is 1.02 to 1.07 times as fast, since less memory is
fresh; 2^18 is slower at 20 x 20 and 8 heads. Twice as many where a tile would hold fewer than `ROWS` rows of queries:
with two rows for four, an inference on 60 x 60 takes 1.04 times as long, with one for two on 80 x 80 1.2 times."""

ROWS = 4

SLICE = 1 << 19
"""Most logits of a slice in a traced graph, while it has more than one row of queries."""

BLOCK = 1 << 20
"""Most position logits of a block: `ROWS` rows of 4 pairs on 40 x 40, 2 rows of one pair on 80 x 80. The rows are those
that were fastest on the Intel Xeon that the kernel is taken for; on an AMD EPYC, 8 rows and 20 are a little faster."""

KEPT_PER_CHANNEL = 8
"""Training keeps the weights of a head where a row of them, N, is at most this many times its d: 1.2 times faster
forward and backward at 20 x 20 and d = 64, and still linear memory. At 40 x 40 and d = 32 it would be slower."""

LOG2_E = math.log2(math.e)


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


Kernel = Callable[[Tensor, Tensor, Tensor, float, "Offsets | None"], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float, offsets: Offsets | None = None) -> Tensor:
    """Compute softmax(logits) v with the kernel that suits the device and the moment.

    Channels stand before cells, as a convolution leaves them, so that a map needs no copy to become q, k or v.

    Args:
        q: ``(B, h, d, N)``.
        k: ``(B, h, d, N)``.
        v: ``(B, h, e, N)``; e may differ from d.
        scale: Factor on all logits.
        offsets: The position tables; None for attention without positions.

    Returns:
        ``(B, h, e, N)``, of the type of ``v``.
    """
    choice = _choice(q.device, q.shape[3], q.shape[2], v.shape[2], positions=offsets is not None)
    if _noted is not None and choice not in _noted:
        _noted.append(choice)
    return KERNELS[choice.kernel](q, k, v, scale, offsets)


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """Force one kernel on every attention that runs inside, in this process.

    The result stays the same up to rounding; memory, speed and what can be differentiated twice do not.

    Args:
        name: ``"tiled"``, ``"blocked"``, ``"augmented"``, ``"sliced"``, ``"factored"`` or ``"flex"``. Blocked runs
            on the CPU only, and where that has AMX it multiplies bfloat16 as bfloat16. FlexAttention has gradients on
            accelerators only, and no float64 there; on the CPU its unfused reference runs, which makes N x N logits. It
            compiles again for each size, at most `torch._dynamo.config.recompile_limit` times. Both stay outside of a
            `torch.compile` around them.

    Raises:
        OptionError: If there is no such kernel, or on a call where ``"blocked"`` or ``"flex"`` cannot run.

    Example:
        >>> from attngraft.attention import MHSA, kernel
        >>> attention, x = MHSA(16), torch.randn(1, 16, 7, 5)
        >>> with kernel("factored"):
        ...     plain = attention(x)
        >>> torch.allclose(attention(x), plain, atol=1e-6)
        True
    """
    global _forced
    one_of("kernel", "name", name, tuple(KERNELS))
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


_forced: str | None = None


@contextmanager
def taken_kernels() -> Iterator[list[KernelChoice]]:
    """Note which kernels every attention that runs inside takes, in this process.

    Yields:
        The different choices, in the order of their first use; a block around this one gets them at its end.

    Example:
        >>> from attngraft.attention import MHSA, kernel, taken_kernels
        >>> with taken_kernels() as taken, kernel("augmented"):
        ...     _ = MHSA(16)(torch.randn(1, 16, 7, 5))
        >>> [choice.kernel for choice in taken]
        ['augmented']
    """
    global _noted
    before = _noted
    own: list[KernelChoice] = []
    _noted = own
    try:
        yield own
    finally:
        _noted = before
        if before is not None:
            before += [choice for choice in own if choice not in before]


_noted: list[KernelChoice] | None = None


class KernelChoice(NamedTuple):
    """Which kernel is taken, and why.

    Attributes:
        kernel: Its name.
        reason: What decided.
    """

    kernel: str
    reason: str


def chosen_kernel(
    size: tuple[int, int],
    head_dim: int,
    *,
    value_dim: int | None = None,
    positions: bool = True,
    device: torch.device | str = "cpu",
) -> KernelChoice:
    """Name the kernel that attention takes here and now, inside of `kernel` too, and why.

    The choice depends on the process's CPU, device and sizes only, so it is the same from call to call. On the CPU it
    was measured on two families with AVX-512, one thread: an Intel Xeon and an AMD EPYC
    (``docs/decisions/0009-kernels.md``). Any other keeps ``tiled``, and so does a CPU whose maker the system does not
    tell, such as on macOS and Windows.

    Args:
        size: Rows and columns of the map, ``(H, W)``.
        head_dim: Channels of a head's q and k.
        value_dim: Channels of a head's v; None means as many.
        positions: Whether there are relative positions, as in ``MHSA(position="relative")``.
        device: Where the map is.

    Example:
        >>> from attngraft.attention import chosen_kernel, kernel
        >>> chosen_kernel((20, 20), 64).kernel
        'tiled'
        >>> with kernel("factored"):
        ...     chosen_kernel((20, 20), 64)
        KernelChoice(kernel='factored', reason='forced by attngraft.attention.kernel')
    """
    cells = size[0] * size[1]
    return _choice(torch.device(device), cells, head_dim, value_dim or head_dim, positions=positions)


def _choice(device: torch.device, N: int, d: int, e: int, *, positions: bool) -> KernelChoice:
    if _forced:
        return KernelChoice(_forced, "forced by attngraft.attention.kernel")
    if is_tracing():
        return KernelChoice("sliced" if device.type == "cpu" else "factored", "a graph is traced for export")
    if is_transformed():
        return KernelChoice("factored", "torch.func or forward mode runs, which takes plain operators alone")
    if torch.compiler.is_compiling():
        return KernelChoice("augmented", "torch.compile builds a graph")
    if device.type == "meta":
        return KernelChoice("tiled", "meta tensors only count")
    if device.type != "cpu":
        return KernelChoice("augmented", f"the device is {device.type}")
    if KEPT_PER_CHANNEL * d >= N:
        return KernelChoice("tiled", "a small map: training keeps its weights, which the fused kernel does not give")
    if d != e:
        return KernelChoice("tiled", "the fused kernel wants q and v of one width")
    maker, vectors, _ = processor()
    if vectors == "AVX512" and maker == "GenuineIntel":
        return KernelChoice("blocked", "an Intel CPU with AVX-512")
    if vectors == "AVX512" and maker == "AuthenticAMD":
        if positions:
            return KernelChoice("tiled", "an AMD CPU with AVX-512, where the fused kernel is slower with positions")
        return KernelChoice("blocked", "an AMD CPU with AVX-512, and no positions")
    return KernelChoice("tiled", "a CPU on which the fused kernel was not measured")


# -- plain and augmented: the position logits of each axis, then stock operators ---------------------------------------


def _factored(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    return _plain(1, q, k, v, scale, offsets)


def _sliced(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    B, h, _, N = map(_example, q.shape)
    rows = N if offsets is None else _example(offsets.height)
    return _plain(min(rows, -(-B * h * N * N // SLICE)), q, k, v, scale, offsets)


def _example(size: int) -> int:
    """Return a size as a number, even a traced one: a graph has as many slices as its example asks for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        return int(size)


def _plain(slices: int, q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    if _is_half(q) and not is_tracing():
        # Half precision cannot hold the logits of a strong map. A graph for export keeps to its one type.
        with torch.autocast(q.device.type, enabled=False):
            return _plain(slices, q.float(), k.float(), v.float(), scale, offsets).to(v.dtype)
    q, v = q.transpose(2, 3) * scale, v.transpose(2, 3)  # (B, h, N, d); v is what is turned, and not N x N weights
    by_axis = None if offsets is None else _axis_logits(q, offsets)
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
        by_axis: What `_axis_logits` gives for the queries, ``(B, h, R, W, H)`` and ``(B, h, R, W, W)``; T = R * W.
    """
    logits = q @ k  # (B, h, T, N)
    if by_axis is not None:
        to_row, to_column = by_axis
        spread = logits.reshape(*to_row.shape, to_column.shape[4])  # (B, h, R, W, H, W)
        # Each added where it is, and not their sum: runtimes join both additions to one pass over N x N.
        logits = (spread + to_row.unsqueeze(5) + to_column.unsqueeze(4)).reshape(logits.shape)
    return logits.softmax(3, dtype=torch.float32 if _is_half(logits) else None).to(v.dtype) @ v


def _augmented(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    channels = v.shape[2]
    q, k, v = (q * scale).transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)  # (B, h, N, d)
    if offsets is not None:
        B, h, N, _ = q.shape
        H, W = offsets.height, offsets.width
        logits = torch.cat(_axis_logits(q, offsets), 4).reshape(B, h, N, H + W)
        rows = torch.eye(H, dtype=k.dtype, device=k.device)[:, None].expand(H, W, H)
        columns = torch.eye(W, dtype=k.dtype, device=k.device).expand(H, W, W)
        one_hot = torch.cat((rows, columns), 2).reshape(N, H + W)
        q = torch.cat((q, logits.to(q.dtype)), 3)
        k = torch.cat((k, one_hot.expand(B, h, N, H + W)), 3)
    # The fused kernels want equal widths, a multiple of 8, and channels that lie together.
    width = -(-max(q.shape[3], channels) // 8) * 8
    q, k, v = (F.pad(t, (0, width - t.shape[3])).contiguous() for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :channels].transpose(2, 3)


def _axis_logits(q: Tensor, offsets: Offsets) -> tuple[Tensor, Tensor]:
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


# -- flex: PyTorch's own kernel generator ------------------------------------------------------------------------------


def _flex(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    _require_flex(q, k, v, *(offsets or ())[:2])
    channels = v.shape[2]
    with torch.autocast(q.device.type, enabled=False):
        positions = None if offsets is None else _added_positions(q.transpose(2, 3), scale, offsets)
        q, k, v = (_widened(t.transpose(2, 3)) for t in (q, k, v))  # (B, h, N, d)
        out: Tensor = _flex_attention(q.device.type != "cpu")(q, k, v, score_mod=positions, scale=scale)
    return out[..., :channels].transpose(2, 3)


def _require_flex(q: Tensor, *others: Tensor) -> None:
    if torch.compiler.is_compiling():
        problem = "compiles itself, and inside a dynamic graph it gives wrong numbers"  # torch 2.14.1 on the CPU
    elif is_tracing():
        problem = "cannot be traced or exported"
    elif q.device.type not in ("cpu", "cuda", "xpu"):
        problem = f"does not run on {q.device.type}"
    elif q.device.type == "cpu" and torch.is_grad_enabled() and any(t.requires_grad for t in (q, *others)):
        problem = "has no gradient on the CPU"
    elif q.device.type != "cpu" and q.dtype == torch.float64:
        problem = "has no float64 on accelerators"
    else:
        return
    raise OptionError(f"the flex attention kernel {problem}; leave out attngraft.attention.kernel('flex') there")


@cache
def _flex_attention(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Whole or not at all: without it, the ninth size would quietly make N x N logits.
    run: Any = flex_attention
    return torch.compile(run, dynamic=False, fullgraph=True) if compiled else run


def _added_positions(q: Tensor, scale: float, offsets: Offsets) -> Callable[..., Tensor]:
    """Return what adds the position logits of queries ``(B, h, N, d)`` to one logit."""
    to_row, to_column = (t.flatten(2, 3) for t in _axis_logits(_at_least_single(q) * scale, offsets))  # (B, h, N, .)
    W = offsets.width

    def added(logit: Tensor, b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return logit + to_row[b, head, query, key // W] + to_column[b, head, query, key % W]

    return added


def _widened(t: Tensor) -> Tensor:
    """Pad the channels to the 16 that FlexAttention's compiled form wants at least."""
    return F.pad(t, (0, max(0, 16 - t.shape[3]))).contiguous()


# -- blocked: PyTorch's fused kernel for the CPU, whose mask is the position logits of a block -------------------------

# Private, since the public function gives no logarithms of the totals, which the backward pass starts from. It needs
# equal widths and channels that lie together: other queries, it takes without a word for wrong numbers (torch 2.14.1).
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def _blocked(
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
        q, k, v = (_at_least_single(t) for t in (q, k, v))
    if offsets is None:
        q, k, v = (_cells_first(t, max(d, e)) for t in (q, k, v))  # (B, h, N, max(d, e))
        return _Fused.apply(q, k, v, scale)[..., :e].transpose(2, 3).to(dtype)
    by_row, by_column = (_at_least_single(t) for t in offsets[:2])
    q, k, v = (_at_least_single(t.flatten(0, 1)) for t in (q, k, v))  # (P, ., N)
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


def _tiled(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
    B, h, d, N = q.shape
    by_row, by_column, H, W = offsets or (None, None, 1, N)
    keeps = torch.is_grad_enabled() and KEPT_PER_CHANNEL * d >= N
    q, k, by_row, by_column, wide_v = (_at_least_single(t) for t in (q, k, by_row, by_column, v))
    pairs = (t.flatten(0, 1) for t in (q, k, wide_v))
    return _Tiled.apply(*pairs, by_row, by_column, scale, (H, W), keeps).unflatten(0, (B, h)).to(v.dtype)


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


def _at_least_single(t: Tensor | None) -> Any:
    return t.float() if t is not None and _is_half(t) else t


def _is_half(t: Tensor) -> bool:
    return t.dtype in (torch.float16, torch.bfloat16)


KERNELS: dict[str, Kernel] = {
    "tiled": _tiled,
    "blocked": _blocked,
    "augmented": _augmented,
    "sliced": _sliced,
    "factored": _factored,
    "flex": _flex,
}
