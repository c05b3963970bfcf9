"""SCSA: gate rows and columns by convolutions of four lengths, then channels by attention among them.

Paper: SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention, Si et al., Neurocomputing 2025,
    arXiv 2407.05128.
Code: HZAI-ZJNU/SCSA, mmpretrain/models/attentions/SCSA.py (Apache-2.0), read for parity only.
Differs: The reference fails on maps smaller than its 7 x 7 pooling window; here such a side is pooled as one window
    of the cells there are. Larger maps are pooled as in the reference: cells beyond the last whole window do not take
    part. The mean over the windows is taken of the values before the attention instead of after it, which is the same
    number. The default of one head is the paper's final version and the authors' configuration; most circulated
    copies use 8. The other poolings and gates of the reference are not built.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import divides, is_tracing, multiple_of, positive
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import GroupNorm

KERNEL_SIZES = (3, 5, 7, 9)


@register(
    role="gate",
    family="channel and spatial gate",
    year=2024,
    formula="y = x * sigmoid(GN(conv1d_3579(mean_W(x)))) * sigmoid(GN(conv1d_3579(mean_H(x)))); "
    "y * sigmoid(mean_HW(softmax(q k^T / sqrt(d)) v)), q k v = scaled GN(pool_7(y)), channels attending to channels",
    cost="6 * C * (H + W) + C + C**2 // heads "
    "+ (2 * C + C**2 // heads) * Max(1, H // window_size) * Max(1, W // window_size)",
    row=("heads", "window_size"),
    alias_defaults={"SCSA": {"heads": 8}},
    growth="N",
)
class SCSA(Attention):
    """Gate space by multi-scale strips, then channels by self-attention on a pooled map.

    Args:
        channels: Number of channels C, a multiple of 4.
        heads: Number of heads of the channel attention; a divisor of C.
        window_size: Side of the pooling window, in cells.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If C is no multiple of 4 or ``heads`` does not divide it.

    Example:
        >>> import torch
        >>> SCSA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, heads: int = 1, window_size: int = 7) -> None:
        super().__init__(channels)
        multiple_of("SCSA", len(KERNEL_SIZES), channels)
        divides("SCSA", "heads", heads, channels)
        positive("SCSA", window_size=window_size)
        self.heads = heads
        self.window_size = window_size
        part = channels // len(KERNEL_SIZES)
        self.convs = nn.ModuleList(nn.Conv1d(part, part, k, padding=k // 2, groups=part) for k in KERNEL_SIZES)
        self.norm_rows = GroupNorm(len(KERNEL_SIZES), channels)
        self.norm_columns = GroupNorm(len(KERNEL_SIZES), channels)
        self.norm_pooled = GroupNorm(1, channels)
        self.query = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map gated in space, then by channel."""
        self.check(x)
        rows, columns = self._strip_gates(x)
        x = x * rows * columns
        return x * self._channel_gate(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the product of the gates of space and of channels, ``(B, C, H, W)``."""
        rows, columns = self._strip_gates(x)
        return rows * columns * self._channel_gate(x * rows * columns)

    def _strip_gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._strip_gate(x.mean(3), self.norm_rows).unsqueeze(3)  # (B, C, H, 1)
        columns = self._strip_gate(x.mean(2), self.norm_columns).unsqueeze(2)  # (B, C, 1, W)
        return rows, columns

    def _strip_gate(self, strip: Tensor, norm: GroupNorm) -> Tensor:
        parts = strip.chunk(len(KERNEL_SIZES), 1)  # 4 of (B, C / 4, L)
        mixed = torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], 1)  # (B, C, L)
        gate: Tensor = norm(mixed).sigmoid()
        return gate

    def _channel_gate(self, x: Tensor) -> Tensor:
        pooled = self.norm_pooled(self._pool(x))  # (B, C, n, m) windows
        q, k, v = (
            tokens.flatten(2).unflatten(1, (self.heads, -1))  # (B, h, d, windows)
            for tokens in (self.query(pooled), self.key(pooled), self.value(pooled.mean((2, 3), keepdim=True)))
        )
        head_dim = self.channels // self.heads
        attention = (q * head_dim**-0.5 @ k.transpose(2, 3)).softmax(3)  # (B, h, d, d)
        gate: Tensor = (attention @ v).flatten(1, 2).unsqueeze(3).sigmoid()  # (B, C, 1, 1)
        return gate

    def _pool(self, x: Tensor) -> Tensor:
        """Average whole windows, or the cells there are along a side shorter than a window."""
        H, W = x.shape[2:]
        size = self.window_size
        if is_tracing():  # OpenVINO refuses a window that is larger than a map of fixed size
            beyond = (0, -W % size, 0, -H % size)
            inside = F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), beyond), size)  # the share of a window's cells
            pooled = F.avg_pool2d(F.pad(x, beyond), size) / inside
        else:
            pooled = F.avg_pool2d(x, size, ceil_mode=True, count_include_pad=False)
        return pooled[:, :, : H // size + (size > H), : W // size + (size > W)]
