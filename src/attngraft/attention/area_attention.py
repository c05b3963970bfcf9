"""AreaAttention: self-attention inside each of a few strips of the map, with a wide depth-wise positional convolution.

Paper: YOLOv12: Attention-Centric Real-Time Object Detectors, Tian et al., 2025, arXiv 2502.12524.
Code: ultralytics/ultralytics, ultralytics/nn/modules/block.py, AAttn (AGPL-3.0), oracle of a test.
Differs: The paper cuts the map into bands of whole rows; here, as in the reference, the list of cells, row by row, is
    cut, which is the same where area divides H. The reference refuses maps whose number of cells area does not divide;
    here the last strips are shorter. Positions come from a 7x7 convolution, as in the paper and the reference; the
    authors' published code (sunsmarterjie/yolov12) convolves 5x5, which is kernel_size=5. Where Ultralytics' rule
    C // 32 does not divide C, the number of heads is the largest below it that does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attngraft._core.checks import divides, is_tracing, largest_divisor, odd, positive
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._rows import Cells, Mixture, chosen_logits, near_rows
from attngraft.attention._tokens import to_heads, to_map, to_tokens


@register(
    role="mixer",
    family="local self-attention",
    year=2025,
    formula="BN W_o (softmax_strip(q k^T / sqrt(d)) v + DW7(v))",
    cost="(4 * C**2 + kernel_size**2 * C) * N + 2 * C * area * ceiling(N / area)**2",
    row=("heads", "area"),
    aliases=("AAttn",),
    growth="N",
)
class AreaAttention(Attention):
    """Attend inside strips of the map, which cost a part of what one attention over all of it does.

    The cells, row by row, are cut into ``area`` strips of ``ceil(N / area)``; where ``area`` does not divide N, the
    last ones are shorter or empty. A depth-wise convolution of the values over the whole map tells the positions, and
    is the only path from one strip to another.

    Args:
        channels: Number of channels C.
        area: Number of strips; 1 attends over the whole map.
        heads: Number of heads; a divisor of C. None takes the largest divisor that is at most C / 32.
        kernel_size: Odd side of the positional convolution.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide ``channels``, ``area`` is below 1, or ``kernel_size`` is even.

    Example:
        >>> import torch
        >>> AreaAttention(64, area=4)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture()

    def __init__(self, channels: int, *, area: int = 4, heads: int | None = None, kernel_size: int = 7) -> None:
        super().__init__(channels)
        positive("AreaAttention", area=area)
        odd("AreaAttention", kernel_size=kernel_size)
        self.area = area
        self.heads = largest_divisor(channels, max(channels // 32, 1)) if heads is None else heads
        divides("AreaAttention", "heads", self.heads, channels)
        self.kernel_size = kernel_size
        self.qkv = conv_norm(channels, 3 * channels)
        self.position = conv_norm(channels, channels, kernel_size, groups=channels)
        self.proj = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each cell gathered from its strip."""
        self.check(x)
        B, _, H, W = x.shape
        qkv: Tensor = self.qkv(x)  # (B, 3C, H, W), of each head q, k and v in turn
        v_map = qkv.reshape(B, self.heads, 3, -1, H * W)[:, :, 2].reshape(x.shape)
        gathered = self._attend(to_tokens(qkv).contiguous())  # (B, N, C)
        out: Tensor = self.proj(to_map(gathered, H, W) + self.position(v_map))
        return out

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero outside their strip.

        They leave out the positional convolution of the values, which is added to the mixture.
        """
        q, k, _ = self._vectors(x)
        N = q.shape[2]
        index, logits = chosen_logits(q, k, cells, q.shape[3] ** -0.5)
        length = (N + self.area - 1) // self.area
        keys = index.unsqueeze(2) // length * length + torch.arange(length, device=x.device)  # (B, Q, length)
        keys = keys.unsqueeze(1)
        return near_rows(logits, keys, keys < N)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the last projection, ``(B, h, N, d)``."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = to_heads(to_tokens(self.qkv(x)), self.heads).chunk(3, 3)  # (B, h, N, d)
        return q, k, v

    def _attend(self, tokens: Tensor) -> Tensor:
        """Attend inside each strip: ``(B, N, 3C)`` to ``(B, N, C)``."""
        B, N, _ = tokens.shape
        length = (N + self.area - 1) // self.area
        # A graph for any size must take the strips to be ragged.
        whole = self.area == 1 or (not is_tracing() and N % self.area == 0)
        if not whole:
            tokens = F.pad(tokens, (0, 0, 0, self.area - 1))[:, : length * self.area]
        strips = tokens.reshape(B * self.area, length, -1)
        q, k, v = to_heads(strips, self.heads).chunk(3, 3)  # (B * area, h, length, d)
        mask = None if whole else self._mask(N, length, tokens.device).repeat(B, 1, 1, 1)
        out = F.scaled_dot_product_attention(q, k, v, mask)
        return out.transpose(1, 2).reshape(B, length * self.area, -1)[:, :N]

    def _mask(self, N: int, length: int, device: torch.device) -> Tensor:
        """Mark the cells of each strip that may be looked at, ``(area, 1, 1, length)``.

        An empty strip keeps its first cell, so that its soft-max, whose result is cut off, is not one of nothing.
        """
        cells = torch.arange(length * self.area, device=device)
        return ((cells < N) | (cells % length == 0)).view(self.area, 1, 1, length)
