"""OCAB: attention from windows to larger, overlapping windows of keys, then an MLP; it links the windows of HAT.

Paper: Activating More Pixels in Image Super-Resolution Transformer (HAT), Chen et al., CVPR 2023, arXiv 2205.04437.
Code: XPixelGroup/HAT, hat/archs/hat_arch.py (Apache-2.0), read for parity only.
Differs: The reference takes maps of whole windows only, and its keys beyond the border are zero vectors whose logit is
    the position bias, so that they take attention mass; here any map is taken and such keys take none, unless
    border="zero". The reference's table index starts below zero and wraps around the table; here the table has the
    shape (heads, M+K-1, M+K-1), counts from the query to the key and starts at zero. From the reference's
    two-dimensional table it is ``table.roll((K-2) * (M+K), 0).T.reshape(heads, M+K-1, M+K-1)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import divides, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft._core.sizes import round_up
from attngraft.attention._base import Attention
from attngraft.attention._blocks import MLP
from attngraft.attention._rows import Cells, Mixture, both, chosen_logits, near_rows, pairs
from attngraft.attention._tokens import fit_heads, to_heads
from attngraft.attention._windows import (
    attend,
    cut,
    cut_overlapping,
    join,
    open_code,
    pad_end,
    padded_width,
    relative_bias,
    wants_filling,
    with_code,
)


@register(
    role="gate",
    family="window self-attention",
    year=2023,
    formula="y = x + W-MSA(LN x), keys from windows (1 + overlap) times as wide; y + MLP(LN y)",
    cost=(
        "N * C * (4 * C + 2 * hidden)"
        " + 2 * ceiling(H / window) * ceiling(W / window) * (window * key_window)**2 * heads * padded_head_dim"
    ),
    row=("heads", "window", "overlap"),
    growth="N",
)
class OCAB(Attention):
    """Attend from each window to a larger window around it, then apply an MLP.

    It contains its own residuals: a graft must blend it, ``x + gamma * (f(x) - x)``, and therefore its role is "gate".

    Args:
        channels: Number of channels C.
        heads: Number of attention heads; divides C.
        window: Side of a window of queries in cells, M.
        overlap: How much wider than M the windows of keys are, as a fraction; ``overlap * window`` must be even.
        mlp_ratio: Width of the MLP's middle over C.
        border: ``"mask"`` gives keys outside the map no attention mass; ``"zero"`` makes them zero vectors that take
            their share, as the reference does.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C, or an option is out of its range.

    Example:
        >>> import torch
        >>> block = OCAB(48, window=8)
        >>> block.key_window, block(torch.randn(1, 48, 13, 9)).shape
        (12, torch.Size([1, 48, 13, 9]))
    """

    mixture = Mixture(layout="cells")

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 6,
        window: int = 16,
        overlap: float = 0.5,
        mlp_ratio: float = 2.0,
        border: str = "mask",
    ) -> None:
        super().__init__(channels)
        divides("OCAB", "heads", heads, channels)
        positive("OCAB", window=window)
        one_of("OCAB", "border", border, ("mask", "zero"))
        self.heads = heads
        self.window = window
        self.overlap = overlap
        self.mlp_ratio = mlp_ratio
        self.border = border
        self.margin = margin(window, overlap)
        self.key_window = window + 2 * self.margin
        self.head_dim = channels // heads
        self.hidden = int(channels * mlp_ratio)
        positive("OCAB", hidden=self.hidden)
        side = window + self.key_window - 1
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, side, side), std=0.02))
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, self.hidden)

    @property
    def padded_head_dim(self) -> int:
        """Channels of a head with its code, which one that attends to the zeros around a map does not need."""
        return padded_width(self.head_dim, 1) if self.border == "mask" else self.head_dim

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width."""
        return fit_heads(channels, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed map, laid out channels-last so that a stack of blocks copies nothing between them."""
        self.check(x)
        tokens = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C); else every step below reads across the layout
        tokens = tokens + self._attend(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed.permute(0, 3, 1, 2)  # (B, C, H, W)

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero outside their window.

        They are the attention's alone: residual and MLP come after it. With ``border="zero"`` the mass that a row lacks
        went to the zeros around the map.
        """
        H, W = x.shape[2:]
        q, k, _ = self._vectors(x)
        index, logits = chosen_logits(q, k, cells, self.head_dim**-0.5)
        rows, columns = self._window_of(index // W), self._window_of(index % W)  # (B, Q, K)
        inside = both((rows >= 0) & (rows < H), (columns >= 0) & (columns < W)).unsqueeze(1)
        down, right = (
            cells - places.unsqueeze(2) + self.margin + self.window - 1
            for cells, places in ((rows, index // W), (columns, index % W))
        )
        bias = self.table[:, down.unsqueeze(-1), right.unsqueeze(-2)].flatten(3).transpose(0, 1)  # (B, h, Q, K * K)
        keys = pairs(rows, columns, W).unsqueeze(1)
        return near_rows(logits, keys, inside, bias=bias, outside=0.0 if self.border == "zero" else None)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the attention's projection, ``(B, h, N, d)``."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        tokens: Tensor = self.qkv(self.norm1(x.permute(0, 2, 3, 1)).flatten(1, 2))  # (B, N, 3C)
        return tuple(to_heads(part, self.heads) for part in tokens.chunk(3, 2))

    def _window_of(self, places: Tensor) -> Tensor:
        """Return the cells along an axis of the window of keys of each place, ``(B, Q, K)``, some off the map."""
        first = places // self.window * self.window - self.margin
        return first.unsqueeze(2) + torch.arange(self.key_window, device=places.device)

    def _attend(self, tokens: Tensor) -> Tensor:
        """Return what each cell of ``(B, H, W, C)`` gathers from the larger window around its own."""
        _, H, W, _ = tokens.shape
        outside = float(self.border == "mask")
        qkv = self.qkv(tokens)  # (B, H, W, 3C)
        width = self.padded_head_dim  # of a head
        if wants_filling(width, qkv.device):
            width = round_up(width, 8)
        if width > self.head_dim:
            qkv = with_code(qkv, self.heads, open_code(qkv, width - self.head_dim))
        qkv = pad_end(qkv, self.window, outside)  # (B, H', W', 3 * h * width)
        q, keys = qkv.split_with_sizes((self.heads * width, 2 * self.heads * width), 3)
        keys = F.pad(keys, (0, 0) + (self.margin,) * 4, value=outside)
        q = cut(q, self.window, self.heads)  # (n, h, M * M, width)
        k, v = cut_overlapping(keys, self.key_window, self.window, 2 * self.heads).chunk(2, 1)  # (n, h, K * K, width)
        mixed = attend(q, k, v, relative_bias(self.table, self.window, self.key_window), self.head_dim)
        projected: Tensor = self.proj(join(mixed, self.window, *qkv.shape[1:3])[:, :H, :W])
        return projected


def margin(window: int, overlap: float) -> int:
    """Return by how many cells a window of keys reaches beyond each side of its window of queries.

    Raises:
        OptionError: If ``overlap`` is negative, or does not make a window with equal margins.

    Example:
        >>> margin(16, 0.5)
        4
    """
    extra = round(overlap * window)
    if overlap < 0 or extra % 2:
        raise OptionError(
            f"OCAB needs overlap * window to be an even number of cells for equal margins, got {overlap} * {window}; "
            f"use overlap={max(extra + 1, 0) / window:g}"
        )
    return extra // 2
