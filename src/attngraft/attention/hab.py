"""HAB: attention within (shifted) windows beside a convolution block, then an MLP; the layer HAT is made of.

Paper: Activating More Pixels in Image Super-Resolution Transformer (HAT), Chen et al., CVPR 2023, arXiv 2205.04437.
Code: XPixelGroup/HAT, hat/archs/hat_arch.py (Apache-2.0), read for parity only.
Differs: The reference takes maps of whole windows only, and its network pads the image by reflection; here any map is
    padded inside the attention and a padded cell takes no attention mass, so on whole windows the two are equal. The
    reference adds -100 to the logits of cells that the shift brought together; here their mass is exactly zero. The
    position table has the shape (heads, 2M-1, 2M-1) and counts from the query to the key; from the reference's
    two-dimensional table it is ``table.T.reshape(heads, 2M-1, 2M-1).flip(1, 2)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import divides, is_tracing, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft._core.sizes import round_up
from attngraft.attention._base import Attention
from attngraft.attention._blocks import MLP, DropPath
from attngraft.attention._rows import Cells, Mixture, both, chosen_logits, near_rows, pairs
from attngraft.attention._tokens import fit_heads, to_heads
from attngraft.attention._windows import (
    BLOCKED,
    attend,
    cut,
    ends_apart,
    join,
    open_code,
    pad_end,
    padded_width,
    relative_bias,
    wants_filling,
    with_code,
)
from attngraft.attention.cab import CAB


@register(
    role="gate",
    family="window self-attention",
    year=2023,
    formula="y = x + W-MSA(LN x) + conv_scale * CAB(LN x); y + MLP(LN y)",
    cost=(
        "N * C * (4 * C + 2 * hidden + 18 * (C // compress)) + 2 * C * (C // squeeze)"
        " + 2 * ceiling(H / window) * ceiling(W / window) * window**4"
        " * (C + (heads * padded_head_dim - C) * Min(1, H % window + W % window))"
    ),
    row=("heads", "window", "shift"),
    growth="N",
)
class HAB(Attention):
    """Attend within windows, add a convolution block at full resolution, then an MLP.

    It contains its own residuals: a graft must blend it, ``x + gamma * (f(x) - x)``, and therefore its role is "gate".

    Args:
        channels: Number of channels C.
        heads: Number of attention heads; divides C.
        window: Side of a window in cells, M.
        shift: Cells by which the windows are moved down and right, below M; HAT takes ``window // 2`` in every second
            block.
        compress: Narrowing ratio inside the convolution block, see `CAB`.
        squeeze: Narrowing ratio of the convolution block's gate, see `CAB`.
        mlp_ratio: Width of the MLP's middle over C.
        conv_scale: Factor on the convolution block where it is added.
        drop_path: Probability of dropping the attention branch, and the MLP branch, of an image while training.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C, or an option is out of its range.

    Example:
        >>> import torch
        >>> block = HAB(48, window=8, shift=4)
        >>> block(torch.randn(1, 48, 13, 9)).shape
        torch.Size([1, 48, 13, 9])
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 6,
        window: int = 16,
        shift: int = 0,
        compress: int = 3,
        squeeze: int = 30,
        mlp_ratio: float = 2.0,
        conv_scale: float = 0.01,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(channels)
        self.heads = heads
        self.window = window
        self.shift = shift
        self.compress = compress
        self.squeeze = squeeze
        self.mlp_ratio = mlp_ratio
        self.conv_scale = conv_scale
        self.drop_path = drop_path
        self.hidden = int(channels * mlp_ratio)
        positive("HAB", hidden=self.hidden)
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads=heads, window=window, shift=shift)
        self.cab = CAB(channels, compress=compress, squeeze=squeeze)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, self.hidden)
        self.drop = DropPath(drop_path)

    @property
    def padded_head_dim(self) -> int:
        """Channels of a head with its code."""
        return self.attn.padded_head_dim

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width, and CAB's own changes."""
        return {**fit_heads(channels, 6), **CAB.fit(channels)}

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed map, laid out channels-last so that a stack of blocks copies nothing between them."""
        self.check(x)
        tokens = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C); else every step below reads across the layout
        normed = self.norm1(tokens)
        local = self.cab(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, H, W, C)
        tokens = tokens + self.drop(self.attn(normed)) + self.conv_scale * local
        mixed: Tensor = tokens + self.drop(self.mlp(self.norm2(tokens)))
        return mixed.permute(0, 3, 1, 2)  # (B, C, H, W)

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero outside their window.

        They are the attention's alone: the convolution block stands beside it, residual and MLP come after it.
        """
        return self.attn.attention_rows(self.norm1(x.permute(0, 2, 3, 1)), cells)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what those weights mix before the attention's projection, ``(B, h, N, d)``."""
        return self.attn.attention_values(self.norm1(x.permute(0, 2, 3, 1)))


class WindowAttention(nn.Module):
    """Multi-head self-attention within (shifted) windows, with a learned bias for each relative position.

    Args:
        channels: Number of channels C.
        heads: Number of heads; divides C.
        window: Side of a window in cells, M.
        shift: Cells by which the windows are moved down and right, below M.

    Shape:
        - Input: ``(B, H, W, C)``
        - Output: ``(B, H, W, C)``
    """

    mixture = Mixture(layout="cells")
    map_axes = (1, 2)
    """Where rows and columns stand in the shape of what the module is given."""

    def __init__(self, channels: int, *, heads: int, window: int, shift: int) -> None:
        super().__init__()
        divides("HAB", "heads", heads, channels)
        positive("HAB", window=window)
        if not 0 <= shift < window:
            raise OptionError(
                f"HAB needs a shift of 0 to window - 1 = {window - 1}, got {shift}; HAT takes 0 or {window // 2}"
            )
        self.heads = heads
        self.window = window
        self.shift = shift
        self.head_dim = channels // heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, 2 * window - 1, 2 * window - 1), std=0.02))

    @property
    def padded_head_dim(self) -> int:
        """Channels of a head with its code: one channel, or four that tell what a shift brought around."""
        return padded_width(self.head_dim, 4 if self.shift else 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what each cell gathers from the cells of its window."""
        _, H, W, _ = tokens.shape
        qkv = self.qkv(tokens)  # (B, H, W, 3C)
        needs_code = self._needs_code(qkv)
        if needs_code:
            code = self._code(H, W, qkv) if self.shift else open_code(qkv, self.padded_head_dim - self.head_dim)
            qkv = with_code(qkv, self.heads, code)
            qkv = pad_end(qkv, self.window, value=1.0)  # (B, H', W', 3 * h * padded_head_dim)
        bias = relative_bias(self.table, self.window, self.window)
        if self.shift:
            qkv = self._roll(qkv, -1)
            mixed = self._within(qkv, bias) if needs_code else self._apart(qkv, bias)
            mixed = self._roll(mixed, 1)  # (B, H', W', C)
        else:
            mixed = self._within(qkv, bias)
        projected: Tensor = self.proj(mixed[:, :H, :W])
        return projected

    def attention_rows(self, tokens: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero outside their window.

        Args:
            tokens: ``(B, H, W, C)``.
            cells: The chosen cells.
        """
        H, W = tokens.shape[1:3]
        q, k, _ = self._vectors(tokens)
        index, logits = chosen_logits(q, k, cells, self.head_dim**-0.5)
        (rows, row_inside, row_offset), (columns, column_inside, column_offset) = (
            self._window_of(places, size) for places, size in ((index // W, H), (index % W, W))
        )
        bias = self.table[:, row_offset.unsqueeze(-1), column_offset.unsqueeze(-2)]  # (h, B, Q, M, M)
        keys, inside = pairs(rows, columns, W), both(row_inside, column_inside)  # (B, Q, M * M)
        return near_rows(logits, keys.unsqueeze(1), inside.unsqueeze(1), bias=bias.flatten(3).transpose(0, 1))

    def attention_values(self, tokens: Tensor) -> Tensor:
        """Return what the weights mix before the projection, ``(B, h, N, d)``."""
        return self._vectors(tokens)[2]

    def _vectors(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return tuple(to_heads(part, self.heads) for part in self.qkv(tokens).flatten(1, 2).chunk(3, 2))

    def _window_of(self, places: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the window of each place ``(B, Q)`` of an axis, as ``(B, Q, M)`` each.

        Returns:
            Its cells; which of them are on the map and not from its other end; the rows of the table that they have.
        """
        padded, shift = round_up(size, self.window), self._shift_along(size)
        rolled = (places - shift) % padded
        in_window = torch.arange(self.window, device=places.device)
        cells = ((rolled // self.window * self.window).unsqueeze(2) + in_window + shift) % padded
        inside = (cells < size) & ((cells < shift) == (places < shift).unsqueeze(2))
        return cells, inside, in_window - (rolled % self.window).unsqueeze(2) + self.window - 1

    def _needs_code(self, qkv: Tensor) -> bool:
        """Tell whether heads need their code: on maps of other than whole windows, or to fill a head up."""
        _, H, W, _ = qkv.shape
        return is_tracing() or bool(H % self.window or W % self.window) or wants_filling(self.head_dim, qkv.device)

    def _within(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Attend within the windows of a map ``(B, H', W', 3 * h * padded_head_dim)``."""
        q, k, v = (cut(part, self.window, self.heads) for part in qkv.chunk(3, -1))  # (n, h, M * M, padded_head_dim)
        return join(attend(q, k, v, bias, self.head_dim), self.window, *qkv.shape[1:3])  # (B, H', W', C)

    def _apart(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Attend within whole windows, of which only the last along an axis hold cells from two ends of the map.

        Four groups of windows, each with one mask that its windows share, multiply nothing that a code adds.
        """
        _, H, W, _ = qkv.shape
        bands = []
        for y, rows in self._groups(H):
            parts = [
                self._within(qkv[:, y, x], bias + ends_apart(self.window, rows, columns, bias))
                for x, columns in self._groups(W)
            ]
            bands.append(torch.cat(parts, 2))
        return torch.cat(bands, 1)

    def _groups(self, size: int) -> list[tuple[slice, int]]:
        """Return which cells of an axis lie in windows without and with cells from the other end, and how many."""
        last = size - self.window
        groups = [(slice(0, last), 0), (slice(last, size), self._shift_along(size))]
        return groups if last else groups[1:]

    def _roll(self, x: Tensor, direction: int) -> Tensor:
        """Move the cells of a padded map by the shift along both axes, around its ends."""
        return torch.roll(x, (direction * self.shift,) * 2, (1, 2))

    def _shift_along(self, size: int) -> int:
        """Return the shift along an axis of so many cells."""
        return self.shift

    def _code(self, H: int, W: int, like: Tensor) -> Tensor:
        """Return the code ``(H, W, 3, 1, e)`` that keeps apart the cells from two ends of the map in a shifted window.

        The cells that a shift brings around are the first ones of an axis; two channels compare this for y, two for x.
        """
        y = torch.arange(H, device=like.device)[:, None].expand(H, W) < self._shift_along(H)
        x = torch.arange(W, device=like.device)[None].expand(H, W) < self._shift_along(W)
        keys = torch.stack([y, ~y, x, ~x], -1).to(like.dtype)  # (H, W, 4)
        queries = (1 - keys) * -BLOCKED
        code = torch.stack([queries, keys, torch.zeros_like(keys)], 2).unsqueeze(3)
        return F.pad(code, (0, self.padded_head_dim - self.head_dim - 4))
