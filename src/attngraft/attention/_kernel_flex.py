"""Attention by FlexAttention, PyTorch's own kernel generator, with the positions added to each logit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attngraft._core.checks import is_tracing
from attngraft._core.errors import OptionError
from attngraft.attention._offsets import Offsets, axis_logits
from attngraft.attention._precision import at_least_single


def flex(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets | None) -> Tensor:
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
    to_row, to_column = (t.flatten(2, 3) for t in axis_logits(at_least_single(q) * scale, offsets))  # (B, h, N, .)
    W = offsets.width

    def added(logit: Tensor, b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return logit + to_row[b, head, query, key // W] + to_column[b, head, query, key % W]

    return added


def _widened(t: Tensor) -> Tensor:
    """Pad the channels to the 16 that FlexAttention's compiled form wants at least."""
    return F.pad(t, (0, max(0, 16 - t.shape[3]))).contiguous()
