"""AIFIEncoder: a transformer encoder layer over the cells of one map, with 2-D sine and cosine positions.

Paper: DETRs Beat YOLOs on Real-time Object Detection, Zhao et al., CVPR 2024, arXiv 2304.08069.
Code: ultralytics/ultralytics, ultralytics/nn/modules/transformer.py, AIFI (AGPL-3.0), oracle of a test.
Differs: No dropout, which is 0 in the reference too. Older releases of the reference swapped H and W in the positions,
    so they agree with it on square maps only. The attention's weights start as those of linear layers; the reference's
    start q, k and v Xavier-uniform, and the biases of the attention at zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import above_zero, divides, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._rows import Cells, Mixture, chosen_logits, softmax
from attngraft.attention._tokens import fit_heads, to_heads, to_map, to_tokens


@register(
    name="aifi",
    role="gate",
    family="global self-attention",
    year=2024,
    formula="LN(y + W_2 gelu(W_1 y)), y = LN(x + W_o softmax(q k^T / sqrt(d)) v), q = W_q (x + p), k = W_k (x + p)",
    cost="(4 * C**2 + 2 * C * hidden) * N + 2 * C * N**2",
    row=("hidden", "heads"),
    growth="N",
)
class AIFIEncoder(Attention):
    """Encode the cells of a map with attention and an MLP, each added to its input and normalised.

    Both parts have a residual of their own, so a graft blends the layer with the identity instead of adding it.

    Args:
        channels: Number of channels C; a multiple of 4, for sine and cosine of rows and columns.
        hidden: Width of the MLP; None takes 4 C, which at the paper's width of 256 is its 1024.
        heads: Number of heads; a divisor of C.
        temperature: Longest wavelength of the positions, in cells, over 2 pi; above 0.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``channels`` is no multiple of 4 or of ``heads``, ``hidden`` is below 1, or ``temperature`` is
            not above 0.

    Example:
        >>> import torch
        >>> AIFIEncoder(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(layout="tokens")

    def __init__(
        self, channels: int, *, hidden: int | None = None, heads: int = 8, temperature: float = 10000.0
    ) -> None:
        super().__init__(channels)
        if channels % 4:
            below = channels // 4 * 4
            raise OptionError(
                f"AIFIEncoder needs channels divisible by 4 for its positions, got {channels}; "
                f"use {f'{below} or ' if below else ''}{below + 4}"
            )
        divides("AIFIEncoder", "heads", heads, channels)
        self.hidden = 4 * channels if hidden is None else hidden
        positive("AIFIEncoder", hidden=self.hidden)
        above_zero("AIFIEncoder", temperature=temperature)
        self.heads = heads
        self.temperature = temperature
        self.query_key = nn.Linear(channels, 2 * channels)
        self.value = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, self.hidden), nn.GELU(), nn.Linear(self.hidden, channels))
        self.norm2 = nn.LayerNorm(channels)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take fewer heads where the default does not divide the width."""
        return fit_heads(channels, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return the encoded map."""
        self.check(x)
        tokens = to_tokens(x)  # (B, N, C)
        q, k, v = self._vectors(x)
        gathered = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, N, C)
        tokens = self.norm1(tokens + self.proj(gathered))
        out: Tensor = self.norm2(tokens + self.mlp(tokens))
        return to_map(out, *x.shape[2:])

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``.

        They are the attention's alone: its residual, the norms and the MLP come after it.
        """
        q, k, _ = self._vectors(x)
        return softmax(chosen_logits(q, k, cells, q.shape[3] ** -0.5)[1])

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the attention's projection, ``(B, h, N, d)``."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = to_tokens(x)  # (B, N, C)
        query_key: Tensor = self.query_key(tokens + self._positions(x))  # (B, N, 2C)
        q, k, v = (to_heads(part, self.heads) for part in (*query_key.chunk(2, 2), self.value(tokens)))  # (B, h, N, d)
        return q, k, v

    def _positions(self, x: Tensor) -> Tensor:
        """Return sine and cosine of each cell's row, then of its column, ``(N, C)``."""
        H, W = x.shape[2:]
        quarter = self.channels // 4
        dtype = torch.promote_types(x.dtype, torch.float32)  # half precision cannot count the rows of a large map
        exponents = torch.arange(quarter, device=x.device, dtype=dtype) / quarter
        frequencies = self.temperature**-exponents  # (C/4,)
        rows = _waves(torch.arange(H, device=x.device, dtype=dtype), frequencies)  # (H, C/2)
        columns = _waves(torch.arange(W, device=x.device, dtype=dtype), frequencies)  # (W, C/2)
        grid = (rows[:, None].expand(-1, W, -1), columns[None].expand(H, -1, -1))
        return torch.cat(grid, 2).flatten(0, 1).to(x.dtype)  # (H, W, C) to (N, C)


def _waves(offsets: Tensor, frequencies: Tensor) -> Tensor:
    angles = offsets[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), 1)
