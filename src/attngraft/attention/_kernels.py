"""Exact attention over a map, with or without separable position logits, in memory that grows with N.

    logits[i, j] = scale * q_i . (k_j + by_row[y_j - y_i + H - 1] + by_column[x_j - x_i + W - 1])

    B batch    h heads    P = B * h pairs    d channels of a head    H, W the map    N = H * W cells, row by row
    T queries of a tile    M = (2H - 1) + (2W - 1) rows of both tables

These kernels give the same numbers up to rounding; `attend` takes the one that suits, and `chosen_kernel` names it:

=============  ==========================  ============================================================================
kernel         taken for                   how
=============  ==========================  ============================================================================
``tiled``      the CPU, and counting       tiles of query rows that stay in the cache; the backward pass computes them
               on meta tensors             again from q, k, v and the tables, but for small maps (`keeps_weights`)
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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from attngraft._core.checks import is_tracing, is_transformed, one_of
from attngraft._core.processor import processor
from attngraft.attention._kernel_cpu import blocked, keeps_weights, tiled
from attngraft.attention._kernel_flex import flex
from attngraft.attention._kernel_stock import augmented, factored, sliced
from attngraft.attention._offsets import Offsets

Kernel = Callable[[Tensor, Tensor, Tensor, float, Offsets | None], Tensor]


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
    if keeps_weights(N, d):
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


KERNELS: dict[str, Kernel] = {
    "tiled": tiled,
    "blocked": blocked,
    "augmented": augmented,
    "sliced": sliced,
    "factored": factored,
    "flex": flex,
}
