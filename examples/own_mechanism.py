"""Gate a map by what its rows and its columns hold on average: a mechanism of one's own, in one file.

attngraft doctor examples/own_mechanism.py:StripGate
attngraft --plugin examples/own_mechanism.py train model=yolo11n.pt+strip_gate@P4 data=my.yaml epochs=50
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import attngraft


@attngraft.register(role="gate", formula="x * sigmoid(W mean_row(x) + W mean_column(x))")
class StripGate(nn.Module):
    """Multiply a map by a gate for each channel and cell, from the averages along both axes.

    Args:
        channels: Number of channels C.
        reduction: How many times fewer channels the inner product has.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map, (B, C, H, W) like the input."""
        rows = self.squeeze(x.mean(3, keepdim=True)).relu()  # (B, C/r, H, 1)
        columns = self.squeeze(x.mean(2, keepdim=True)).relu()  # (B, C/r, 1, W)
        return x * torch.sigmoid(self.expand(rows) + self.expand(columns))
