"""CoordAttention: gate each channel by where along the height and where along the width its content lies.

Paper: Coordinate Attention for Efficient Mobile Network Design, Hou et al., CVPR 2021, arXiv 2103.02907.
Code: houqb/CoordAttention, coordatt.py (MIT), read for parity only.
Differs: Nothing in the numbers. The strips are plain means, so that a graph exported with free sizes stays right; the
    reference's adaptive pooling cannot be exported so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import positive
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    role="gate",
    family="coordinate gate",
    year=2021,
    formula="x * sigmoid(W_h y_h) * sigmoid(W_w y_w), [y_h; y_w] = hswish(BN(W_1 [mean_W(x); mean_H(x)]))",
    cost="2 * C * hidden * (H + W)",
    row=("reduction",),
    aliases=("CoordAtt", "CoordinateAttention"),
    growth="N",
)
class CoordAttention(Attention):
    """Gate rows and columns of each channel by two strips that share one squeezed layer.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower the shared layer is than C; it never has fewer than 8 channels.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` is not a positive integer.

    Example:
        >>> import torch
        >>> gate = CoordAttention(64)
        >>> gate.hidden, gate(torch.randn(2, 64, 7, 5)).shape
        (8, torch.Size([2, 64, 7, 5]))
    """

    def __init__(self, channels: int, *, reduction: int = 32) -> None:
        super().__init__(channels)
        positive("CoordAttention", channels=channels, reduction=reduction)
        self.reduction = reduction
        self.hidden = max(8, channels // reduction)
        self.squeeze = nn.Conv2d(channels, self.hidden, 1)
        self.norm = nn.BatchNorm2d(self.hidden)
        self.rows = nn.Conv2d(self.hidden, channels, 1)
        self.columns = nn.Conv2d(self.hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        rows, columns = self._strip_gates(x)
        return x * rows * columns

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the product of both strips' gates, ``(B, C, H, W)``."""
        rows, columns = self._strip_gates(x)
        return rows * columns

    def _strip_gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        H = x.shape[2]
        strips = torch.cat((x.mean(3, keepdim=True), x.mean(2).unsqueeze(3)), 2)  # (B, C, H + W, 1)
        hidden = F.hardswish(self.norm(self.squeeze(strips)))  # (B, hidden, H + W, 1)
        rows: Tensor = self.rows(hidden[:, :, :H]).sigmoid()  # (B, C, H, 1)
        columns: Tensor = self.columns(hidden[:, :, H:]).sigmoid().transpose(2, 3)  # (B, C, 1, W)
        return rows, columns
