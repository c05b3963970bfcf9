"""DAT: every query attends to one set of cells for the whole map, sampled at places that the map itself moves.

Paper: Vision Transformer with Deformable Attention, Xia et al., CVPR 2022, arXiv 2201.00520.
Code: LeapLabTHU/DAT, models/dat_blocks.py (Apache-2.0), read for parity only.
Differs: The paper's reference points reach from the first to the last cell, ends included; the reference code lays them
    half a cell further down and right, so that sampling blurs even without offsets: ``half_cell=True``. The paper adds
    a bias table that is tied to one map size and needs a number for every pair of cells; here the position term is the
    code's other form, a depth-wise 3×3 convolution of the queries, as in the circulated copies. ``offset_range=2`` is
    that of the first models, the copies have 4. The offset network is the code's, layer norm included, with the copies'
    kernel_size=3 (the code has 3 to 9; 5 in the paper, by recollection). One convolution makes keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import above_zero, divides, largest_divisor, nearest_divisors, odd, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._precision import at_least_single
from attngraft.attention._rows import Cells, Mixture, choose, corners, query_cells, softmax, spread


@register(
    role="mixer",
    family="deformable self-attention",
    year=2022,
    formula="W_o(softmax(q k^T / sqrt d) v + DW3(q)), k and v of x sampled at p + offset_range tanh(net(q))",
    cost=("N * C * (2 * C + 9) + ceiling(H / stride) * ceiling(W / stride) * C * (2 * C + kernel_size**2 + 2 + 2 * N)"),
    row=(),
    aliases=("DAttention", "DAttentionBaseline"),
    signatures=(("_", "heads", "groups", "_", "_", "stride", "offset_range"),),
    alias_defaults={name: {"offset_range": 4.0} for name in ("DAttention", "DAttentionBaseline", "C2DA")},
    growth="N",
)
class DAT(Attention):
    """Attend from every cell to samples of the map, at places that offsets computed from the queries move.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads; divides C.
        groups: Groups of channels with offsets of their own; divides ``heads``.
        kernel_size: Odd side of the depth-wise convolution in the offset network.
        stride: Cells between neighbouring samples before they move.
        offset_range: The farthest that a sample moves, in halves of the distance between neighbouring samples; above 0.
        half_cell: Whether samples start half their distance further down and right, as in the reference code.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C, or an option is out of its range.

    Example:
        >>> import torch
        >>> DAT(64)(torch.randn(1, 64, 13, 9)).shape
        torch.Size([1, 64, 13, 9])
    """

    mixture = Mixture()

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        groups: int = 4,
        kernel_size: int = 3,
        stride: int = 1,
        offset_range: float = 2.0,
        half_cell: bool = False,
    ) -> None:
        super().__init__(channels)
        divides("DAT", "heads", heads, channels)
        divides_heads(heads, groups)
        odd("DAT", kernel_size=kernel_size)
        positive("DAT", stride=stride)
        above_zero("DAT", offset_range=offset_range)
        self.heads = heads
        self.groups = groups
        self.kernel_size = kernel_size
        self.stride = stride
        self.offset_range = offset_range
        self.half_cell = half_cell
        width = channels // groups
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.offset_conv = nn.Conv2d(width, width, kernel_size, stride, kernel_size // 2, groups=width)
        self.offset_norm = nn.LayerNorm(width)
        self.offset_proj = nn.Linear(width, 2, bias=False)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width, and of groups that divides it."""
        heads = largest_divisor(channels, 8)
        groups = largest_divisor(heads, 4)
        options = {"heads": heads} if heads != 8 else {}
        return {**options, "groups": groups} if groups != 4 else options

    def forward(self, x: Tensor) -> Tensor:
        """Return what every cell gathers from the samples."""
        self.check(x)
        B, C, H, W = x.shape
        query = self.query(x)  # (B, C, H, W)
        sampled = self._sample(x, self._places(query))  # (B, C, Hs, Ws)
        k, v = self.key_value(sampled).chunk(2, 1)
        q, k, v = (self._split_heads(t) for t in (query, k, v))  # (B, h, N, d), (B, h, Hs * Ws, d)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, h, N, d)
        y: Tensor = self.proj(mixed.transpose(2, 3).reshape(B, C, H, W) + self.position(query))
        return y

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered the map, ``(B, h * groups, Q, N)``.

        A sample lies between cells and is spread over them by its bilinear weights. Each group of channels is sampled
        at places of its own and every head mixes all groups, so a head has one line a group, its own group's first
        cell at ``head * groups``. The mass that a line lacks fell on samples outside the map. They leave out the
        convolution of the queries and the bias of the values, which are added to the mixture.
        """
        B, _, H, W = x.shape
        query = self.query(x)
        places = self._places(query)  # (B * groups, Hs, Ws, 2)
        k = self._split_heads(self.key_value(self._sample(x, places)).chunk(2, 1)[0])  # (B, h, Ns, d)
        chosen = query_cells(cells, B, H * W, x.device)
        weights = softmax(choose(self._split_heads(query), chosen) * k.shape[3] ** -0.5 @ k.transpose(2, 3))
        near, shares = (torch.unflatten(t, 0, (B, 1, self.groups, 1)) for t in corners(places.flatten(1, 2), H, W))
        weights = weights.unsqueeze(2).expand(-1, -1, self.groups, -1, -1)  # (B, h, groups, Q, Ns)
        return spread(weights, near, shares, H * W).flatten(1, 2)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix, ``(B, h * groups, N, d)``: what each group of channels gives to each head.

        The sum over a head's groups, with the bias of the values, is what it mixes before the last projection.
        """
        weight = self.key_value.weight[self.channels :].flatten(1)  # (C, C) from all groups to all heads
        weight = weight.view(self.heads, -1, self.groups, self.channels // self.groups)  # (h, d, groups, C / groups)
        cells = torch.unflatten(x.flatten(2), 1, (self.groups, -1))  # (B, groups, C / groups, N)
        return torch.einsum("hdgc,bgcn->bhgnd", weight, cells).flatten(1, 2)

    def _split_heads(self, x: Tensor) -> Tensor:
        """Turn a map ``(B, h * d, H, W)`` into contiguous vectors ``(B, h, H * W, d)``, which fused kernels want."""
        B, C, H, W = x.shape
        return x.reshape(B, self.heads, C // self.heads, H * W).transpose(2, 3).contiguous()

    def _places(self, query: Tensor) -> Tensor:
        """Return where to sample, ``(B * groups, Hs, Ws, 2)`` as (x, y); -1 and 1 are the centres of the end cells."""
        B, C, H, W = query.shape
        hidden = self.offset_conv(query.reshape(B * self.groups, C // self.groups, H, W)).permute(0, 2, 3, 1)
        offset = self.offset_proj(F.gelu(self.offset_norm(hidden)))  # (B * groups, Hs, Ws, 2) as (y, x)
        offset = at_least_single(offset)  # a half has too few digits for a place
        rows, row_step = self._axis(offset.shape[1], offset)
        columns, column_step = self._axis(offset.shape[2], offset)
        y = rows[:, None] + offset[..., 0].tanh() * (self.offset_range * row_step)
        x = columns + offset[..., 1].tanh() * (self.offset_range * column_step)
        return torch.stack([x, y], -1)

    def _axis(self, samples: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places of an axis before they move, ``(samples,)``, and half the distance between two, ``(1,)``.

        Made without writing into a tensor: the exporter that traces drops such writes to a view, and the sampled
        places are wrong without a word.
        """
        index = torch.arange(samples, device=like.device, dtype=like.dtype)
        step = 1 / index[-1:].clamp(min=1)
        return (index + 0.5 * self.half_cell) * (2 * step) - 1, step

    def _sample(self, x: Tensor, places: Tensor) -> Tensor:
        """Interpolate each group of channels at its places, zero outside the map, ``(B, C, Hs, Ws)``."""
        B, C, H, W = x.shape
        grouped = x.reshape(B * self.groups, C // self.groups, H, W).to(places.dtype)
        sampled = F.grid_sample(grouped, places, align_corners=True).to(x.dtype)
        return sampled.reshape(B, C, places.shape[1], places.shape[2])


def divides_heads(heads: int, groups: int) -> None:
    """Require that every group of channels holds whole heads.

    Raises:
        OptionError: If it does not.
    """
    positive("DAT", groups=groups)
    if heads % groups:
        raise OptionError(
            f"DAT needs groups to divide heads, got heads={heads} and groups={groups}; "
            f"groups could be {nearest_divisors(heads, groups)}"
        )
