"""Checks of what it takes: FLOPs and memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import nn

import attngraft.attention as zoo
from attngraft.attention import Attention, Mechanism
from attngraft.doctor.findings import Outcome, check, failed, passed, warned
from attngraft.doctor.mechanism.subject import Subject
from attngraft.measure import flops, memory, parameters

GIB = 2**30
FLOPS_SIDES = (128, 256, 384)
MEMORY_SIDES = ((24, 36, 48), (48, 60, 72), (72, 84, 96))
TRACED_SIDE = 32
QUADRATIC_SHARE = 0.2
"""Part of the peak at the largest measured map from which its quadratic term is called one, and not rounding."""


@check(remedy="correct the cost formula in its record")
def true_flops(subject: Subject) -> Outcome:
    """The FLOPs that are dispatched are those its record claims."""
    module, counts = subject.fresh().eval(), []
    record = _record(subject)
    for height, width in ((20, 20), (40, 40)):
        counted = flops(module, subject.map(height, width, 1))
        counts.append(f"{counted / 1e6:.4g} MFLOPs at {height}x{width}")
        if record and record.cost and isinstance(module, Attention) and 2 * module.macs(height, width) != counted:
            return failed(f"counted {counts[-1]}, its record claims {2 * module.macs(height, width) / 1e6:.4g}")
    return passed(f"{parameters(module)} parameters, {', '.join(counts)}")


@check(
    remedy="place it on a smaller map (P5), train with a smaller batch, or take a mechanism of linear memory",
    needs=("input kept",),
)
def memory_growth(subject: Subject) -> Outcome:
    """A training step on the largest map fits into the free memory."""
    module = subject.fresh()
    with zoo.taken_kernels() as taken:
        bytes_at, quadratic = measured_growth(
            lambda side: memory.peak(module, subject.map(side, side, 1).requires_grad_(), train=True)
        )
    height, width = subject.largest
    need = subject.batch * bytes_at(height * width)
    order = "quadratically" if quadratic else "linearly"
    kernels = "".join(f", with the kernel {choice.kernel}" for choice in taken)
    detail = f"{need / GIB:.2g} GiB at {height}x{width}, batch {subject.batch}; grows {order}{kernels}"
    free, words = free_for_training()
    if need > free:
        fits = next((side for side in range(max(height, width), 0, -1) if subject.batch * bytes_at(side**2) <= free), 0)
        return failed(f"{detail}; {words}, enough for {fits}x{fits}")
    record = _record(subject)
    if quadratic and record and record.growth == "N":
        return failed(f"{detail}; its record claims linear memory", "correct the record, or the kernel")
    return warned(detail) if quadratic else passed(detail)


def flops_at(model: nn.Module, side: int) -> float:
    """Return the FLOPs of a detector on one image, extended from smaller ones where it is large.

    Args:
        model: What to count.
        side: Height and width of the image, in pixels.
    """
    channels = getattr(model, "yaml", {}).get("channels", 3)
    sides = [side] if side <= FLOPS_SIDES[-1] else FLOPS_SIDES
    counts = {s**2: flops(model, torch.zeros(1, channels, s, s)) for s in sides}
    return counts[side**2] if side**2 in counts else growth(counts, share=0.0)[0](side**2)


def free_for_training() -> tuple[int, str]:
    """Return the bytes that are free where a training run would take place, and how to say it."""
    gpu = torch.cuda.is_available()
    free = memory.free("cuda" if gpu else "cpu")
    where = " on the GPU (the need was measured on the CPU)" if gpu else ""
    return free, f"{free / GIB:.1f} GiB are free{where}"


def pairs_bytes(module: nn.Module, channels: int) -> Callable[[int], float] | None:
    """Return the bytes of the N x N attention matrix by the number of cells N; None for a module without one.

    Measured on inferences of small maps with PyTorch's fused attention taken apart, as other runtimes hold it. Logits
    and soft-max are both alive there, so half of it is one of them.

    Args:
        module: A mechanism.
        channels: Width of its map.
    """
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        bytes_at, quadratic = measured_growth(lambda side: memory.peak(module, torch.randn(1, channels, side, side)))
    return (lambda cells: bytes_at(cells) / 2) if quadratic else None


def sliced_in_files(module: nn.Module, channels: int) -> bool:
    """Return whether a graph that is traced on the CPU holds the N x N attention matrix in slices only.

    Told by the graph of a map of `TRACED_SIDE` cells a side: every tensor is smaller than one head's matrix, and no
    operator is left that other runtimes would take apart.

    Args:
        module: A mechanism, on the CPU.
        channels: Width of its map.
    """
    x = torch.randn(1, channels, TRACED_SIDE, TRACED_SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a tracer does not follow; only sizes are read
        graph = torch.jit.trace(module.eval(), x, check_trace=False).inlined_graph  # type: ignore[no-untyped-call]
    nodes = list(graph.nodes())
    types = [output.type() for node in nodes for output in node.outputs()]
    largest = max(math.prod(t.sizes() or ()) for t in types if isinstance(t, torch.TensorType))
    fused = any(node.kind() == "aten::scaled_dot_product_attention" for node in nodes)
    return not fused and largest < TRACED_SIDE**4


def measured_growth(peak: Callable[[int], int]) -> tuple[Callable[[int], float], bool]:
    """Return what `growth` does of square maps.

    A workspace of fixed size that makes the peak on small maps, as convolutions have one, bends the curve as a
    quadratic term does, but the bytes a cell do not rise then: where both are so, larger maps tell.

    Args:
        peak: Bytes by the side of a map.
    """
    peak = cache(peak)
    for sides in MEMORY_SIDES:
        peaks = {side**2: peak(side) for side in sides}
        found = growth(peaks)
        (_, (n2, m2), (n3, m3)) = peaks.items()
        if not found[1] or m3 / n3 > m2 / n2:
            break
    return found


def growth(peaks: Mapping[int, int], *, share: float = QUADRATIC_SHARE) -> tuple[Callable[[int], float], bool]:
    """Fit a constant, a linear and a quadratic term through the peaks of three numbers of cells.

    Args:
        peaks: Bytes by number of cells, three of them, rising.
        share: Part of the last peak from which the quadratic term counts.

    Returns:
        A function from cells to bytes, and whether the quadratic term counts.

    Example:
        >>> bytes_at, quadratic = growth({n: 100 + 3 * n + 2 * n * n for n in (10, 20, 30)})
        >>> bytes_at(100), quadratic
        (20400.0, True)
    """
    (n1, m1), (n2, m2), (n3, m3) = peaks.items()
    early, late = (m2 - m1) / (n2 - n1), (m3 - m2) / (n3 - n2)
    bend = (late - early) / (n3 - n1)
    if bend * n3**2 > share * m3:
        return lambda n: m1 + early * (n - n1) + bend * (n - n1) * (n - n2), True
    return lambda n: m3 + late * (n - n3), False


def _record(subject: Subject) -> Mechanism | None:
    return next((record for record in zoo.mechanisms().values() if record.cls is subject.cls), None)
