"""GlobalContext: one attention-weighted mean of the map, transformed and added to every cell.

Paper: GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, Cao et al., ICCV Workshops 2019, arXiv
    1904.11492.
Code: xvjiarui/GCNet, mmdet/ops/gcb/context_block.py (Apache-2.0), read for parity only.
Differs: The bias of the attention logits is left out: the softmax cancels it, in the output and in every gradient.
    The last layer starts at random, not at zero: a graft begins as the identity by a zero factor of its own, and two
    zeros in a product would never learn; zero_init=True is the paper's start. The attention logits' convolution starts
    as PyTorch's; the reference's starts Kaiming-normal, by fan-in.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attngraft._core.checks import one_of
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import fit_reduction, hidden_channels
from attngraft.attention._rows import Cells, Mixture, query_cells, softmax
from attngraft.attention._tokens import to_tokens


@register(
    role="gate",
    family="global context",
    year=2019,
    formula="x + t or x * sigmoid(t), t = W_2 relu(LN(W_1 sum_j softmax_j(w x_j) x_j))",
    cost="2 * C * N + 2 * C * (C // reduction)",
    row=("reduction",),
    aliases=("GCModule", "ContextBlock"),
    growth="N",
)
class GlobalContext(Attention):
    """Pool the map by one learned attention over its cells and give the result back to all of them.

    The module is the paper's whole block, its shortcut included, so that both fusions graft alike: blending
    ``x + gamma * (f(x) - x)`` is ``x + gamma * t`` for the additive one.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower the hidden layer is than C; at most C / 2, because the layer norm turns a
            single value into a constant.
        fusion: "add" the context to every cell, or "multiply" every cell by its sigmoid.
        zero_init: Whether the last layer starts at zero, as in the paper; never together with a graft's own zero.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves fewer than 2 hidden channels, or there is no such ``fusion``.

    Example:
        >>> import torch
        >>> GlobalContext(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(enters="transform", layout="pooled")

    def __init__(self, channels: int, *, reduction: int = 16, fusion: str = "add", zero_init: bool = False) -> None:
        super().__init__(channels)
        one_of("GlobalContext", "fusion", fusion, ("add", "multiply"))
        hidden = hidden_channels("GlobalContext", channels, reduction, least=2)
        self.reduction = reduction
        self.fusion = fusion
        self.zero_init = zero_init
        self.mask = nn.Conv2d(channels, 1, 1, bias=False)
        self.transform = nn.Sequential(
            nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), last := nn.Linear(hidden, channels)
        )
        if zero_init:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on maps narrower than twice its default."""
        return fit_reduction(channels, 16, least=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with its context."""
        self.check(x)
        t = self._context(x)
        return x + t if self.fusion == "add" else x * t.sigmoid()

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights of the pooling, ``(B, 1, Q, N)``: one row, which all cells share."""
        Q = query_cells(cells, len(x), x.shape[2] * x.shape[3], x.device).shape[1]
        return softmax(self.mask(x).flatten(2)).unsqueeze(1).expand(-1, -1, Q, -1)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the transform, ``(B, 1, N, C)``: the cells themselves."""
        return to_tokens(x).unsqueeze(1)

    def _context(self, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2).softmax(2)  # (B, 1, N)
        context = (x.flatten(2) @ weights.transpose(1, 2)).squeeze(2)  # (B, C)
        t: Tensor = self.transform(context)[:, :, None, None]
        return t
