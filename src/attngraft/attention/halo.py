"""HaloAttention: each block of cells attends to itself and to a band of cells around it, with relative positions.

Paper: Scaling Local Self-Attention for Parameter Efficient Visual Backbones (HaloNet), Vaswani et al., CVPR 2021,
    arXiv 2103.12731.
Code: None of the authors; huggingface/pytorch-image-models, timm/layers/halo_attn.py (Apache-2.0), read for parity
    only.
Differs: Cells outside the map take no attention, where the paper lets them in as zeros that take their share;
    border="zero" gives that. Maps that blocks do not divide are filled up at their end, others refuse them. Queries are
    scaled before they meet keys and positions, as in BoTNet; timm by default scales the keys' part alone,
    scale_positions=False. Tables have the offsets that occur, timm's have 2 * halo rows more. The most copied class
    hides by its mask the cells that are there, and not those outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import divides, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast
from attngraft.attention._rows import Cells, Mixture, both, choose, near_rows, pairs, query_cells
from attngraft.attention._tokens import fit_heads, to_heads
from attngraft.attention._windows import cut, cut_overlapping, join, pad_end


@register(
    name="halo",
    family="window self-attention",
    year=2021,
    formula="sum_j softmax_j(q_i k_j + q_i R^H[y_j - y_i] + q_i R^W[x_j - x_i]) v_j, "
    "j over the block of i and halo cells around it",
    cost="3 * N * C**2 + 2 * ceiling(H / window) * ceiling(W / window) * window**2 * C * (key_window**2 + key_window)",
    row=("heads", "window", "halo"),
    aliases=("HaloAttn",),
    signatures=(("window", "halo", "head_width", "heads"),),
    growth="N",
)
class HaloAttention(Attention):
    """Attend from blocks of cells to larger blocks around them; no projection comes after.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads; divides C.
        window: Side of a block of queries in cells, M.
        halo: Width in cells of the band around it that is attended to as well; 0 for none.
        scale_positions: Whether the positions' part of the logits is divided by the square root of the heads' width,
            as the keys' part is.
        border: ``"mask"`` gives keys outside the map no attention mass; ``"zero"`` makes them zero vectors that take
            their share.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C, or an option is out of its range.

    Example:
        >>> import torch
        >>> HaloAttention(64)(torch.randn(1, 64, 13, 9)).shape
        torch.Size([1, 64, 13, 9])
    """

    mixture = Mixture(enters="")

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        window: int = 8,
        halo: int = 3,
        scale_positions: bool = True,
        border: str = "mask",
    ) -> None:
        super().__init__(channels)
        divides("HaloAttention", "heads", heads, channels)
        positive("HaloAttention", window=window)
        one_of("HaloAttention", "border", border, ("mask", "zero"))
        if halo < 0:
            raise OptionError(f"HaloAttention needs a halo of at least 0 cells, got {halo}; the paper takes 1 to 4")
        self.heads = heads
        self.window = window
        self.halo = halo
        self.scale_positions = scale_positions
        self.border = border
        self.key_window = window + 2 * halo
        d = channels // heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.height_table, self.width_table = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(window + self.key_window - 1, d), std=d**-0.5))
            for _ in range(2)
        )
        nn.init.trunc_normal_(self.qkv.weight, std=channels**-0.5)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width."""
        return fit_heads(channels, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each cell gathers from its block and the band around it."""
        self.check(x)
        B, C, H, W = x.shape
        M, K = self.window, self.key_window
        qkv = pad_end(self.qkv(x.permute(0, 2, 3, 1)), M, 0.0)  # (B, H', W', 3C)
        q, keys = qkv.split_with_sizes((C, 2 * C), 3)
        q = cut(q, M, self.heads)  # (n, h, M * M, d)
        keys = F.pad(keys, (0, 0) + (self.halo,) * 4)
        k, v = cut_overlapping(keys, K, M, 2 * self.heads).chunk(2, 1)  # (n, h, K * K, d)
        with no_autocast(x):
            logits = self._logits(at_least_single(q), at_least_single(k))  # (n, h, M * M, K * K)
            if self.border == "mask":
                on_map = F.pad(pad_end(x.new_ones(1, H, W, 1), M, 0.0), (0, 0) + (self.halo,) * 4)
                outside = cut_overlapping(on_map, K, M, 1).transpose(2, 3) == 0  # (windows of a map, 1, 1, K * K)
                windows = logits.reshape(B, -1, *logits.shape[1:])
                logits = windows.masked_fill(outside, -torch.inf).flatten(0, 1)
            weights = logits.softmax(3)
        return join(weights.to(v.dtype) @ v, M, *qkv.shape[1:3])[:, :H, :W].permute(0, 3, 1, 2)

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero off their halo.

        With ``border="zero"`` the mass that a row lacks went to the zeros around the map.
        """
        H, W = x.shape[2:]
        q, k, _ = self._vectors(x)
        index = query_cells(cells, len(x), H * W, x.device)
        q = choose(q, index)  # (B, h, Q, d)
        rows, columns = self._window_of(index // W), self._window_of(index % W)  # (B, Q, K)
        inside = both((rows >= 0) & (rows < H), (columns >= 0) & (columns < W)).unsqueeze(1)
        to_row, to_column = (
            self._towards(q, table, places - own.unsqueeze(2))
            for table, places, own in (
                (self.height_table, rows, index // W),
                (self.width_table, columns, index % W),
            )
        )
        bias = (to_row.unsqueeze(4) + to_column.unsqueeze(3)).flatten(3)  # (B, h, Q, K * K)
        logits = q * q.shape[3] ** -0.5 @ k.transpose(2, 3)
        keys = pairs(rows, columns, W).unsqueeze(1)
        return near_rows(logits, keys, inside, bias=bias, outside=0.0 if self.border == "zero" else None)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix, ``(B, h, N, d)``; the mixture is the output."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        tokens: Tensor = self.qkv(x.permute(0, 2, 3, 1).flatten(1, 2))  # (B, N, 3C)
        return tuple(to_heads(part, self.heads) for part in tokens.chunk(3, 2))

    def _window_of(self, places: Tensor) -> Tensor:
        """Return the cells along an axis of the keys of each place, ``(B, Q, K)``, some off the map."""
        first = places // self.window * self.window - self.halo
        return first.unsqueeze(2) + torch.arange(self.key_window, device=places.device)

    def _towards(self, q: Tensor, table: Tensor, offsets: Tensor) -> Tensor:
        """Return the logits of chosen queries towards the offsets of their keys along an axis, ``(B, h, Q, K)``."""
        vectors = table[offsets + self.halo + self.window - 1].unsqueeze(1)  # (B, 1, Q, K, d)
        return (vectors @ (q * self._position_factor(q)).unsqueeze(4)).squeeze(4)

    def _position_factor(self, q: Tensor) -> float:
        return float(q.shape[-1]) ** -0.5 if self.scale_positions else 1.0

    def _logits(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the logits of all pairs in each window, ``(n, h, M * M, K * K)``."""
        M = self.window
        logits = (q * (self.channels // self.heads) ** -0.5) @ k.transpose(2, 3)
        placed = torch.unflatten(q * self._position_factor(q), 2, (M, M))  # (n, h, M, M, d)
        to_row = placed @ self._spread(self.height_table.to(q.dtype))  # (n, h, M, M, K)
        to_column = (placed.transpose(2, 3) @ self._spread(self.width_table.to(q.dtype))).transpose(2, 3)
        by_axis = to_row.unsqueeze(5) + to_column.unsqueeze(4)  # (n, h, M, M, K, K)
        return logits + by_axis.flatten(4).flatten(2, 3)

    def _spread(self, table: Tensor) -> Tensor:
        """Return the vectors of the offsets from each place of a block to each of its keys, ``(M, d, K)``."""
        own, keys = (torch.arange(size, device=table.device) for size in (self.window, self.key_window))
        return table[keys - own[:, None] + self.window - 1].transpose(1, 2)


def from_timm(state: Mapping[str, Tensor], heads: int = 8, halo: int = 3) -> dict[str, Tensor]:
    """Lay out the tensors of timm's ``HaloAttn`` of stride 1, with queries as wide as values and without biases.

    Args:
        state: Its state dict.
        heads: Its number of heads.
        halo: Its ``halo_size``.

    Returns:
        A state dict for ``HaloAttention(channels, scale_positions=False, border="zero")`` of the same heads and sizes.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    names = {"q": "q", "kv": "kv", "pos_embed.height_rel": "height_table", "pos_embed.width_rel": "width_table"}
    found = renamed("HaloAttn", state, names)
    keys_values = found.pop("kv.weight").flatten(1)
    k, v = keys_values.reshape(heads, 2, -1, keys_values.shape[1]).unbind(1)  # each head's keys, then its values
    found["qkv.weight"] = torch.cat((found.pop("q.weight").flatten(1), k.flatten(0, 1), v.flatten(0, 1)))
    return found | {name: found[name][2 * halo :] for name in ("height_table", "width_table")}
