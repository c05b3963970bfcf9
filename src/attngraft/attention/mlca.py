"""MLCA: gate channels by ECA's short convolution, once over the whole map and once in each cell of a coarse grid.

Paper: Mixed local channel attention for object detection, Wan et al., Engineering Applications of Artificial
    Intelligence 123, 2023, 106442.
Code: wandahangFY/MLCA, MLCA.py (GPL-3.0), read for parity only.
Differs: Nothing from the repository's corrected code, whose quirks are kept: the local convolution runs on from the
    last channel of one grid cell to the first of the next, and the global branch pools the grid cells, not the map,
    which differs where cells overlap.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import is_tracing, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention.eca import adaptive_kernel_size


@register(
    role="gate",
    family="channel gate",
    year=2023,
    formula="x * unpool(w * sigmoid(conv1d(L)) + (1 - w) * sigmoid(conv1d(mean L))), L = adaptive_mean_{s x s}(x)",
    cost="kernel_size*C*(local_size**2 + 1) + Piecewise("
    "(0, Eq(H % local_size + W % local_size, 0)), (C*local_size*(local_size*H + N), True))",
    row=("local_size", "gamma", "offset", "local_weight"),
    growth="N",
)
class MLCA(Attention):
    """Gate each channel by its neighbours' means, over the whole map and in each cell of a grid.

    Args:
        channels: Number of channels C.
        local_size: Rows and columns of the grid; the cells overlap where it does not divide the map.
        gamma: Divisor in the rule for the kernel size, ``(log2 C + offset) / gamma`` made odd.
        offset: Summand in that rule; the paper's b.
        local_weight: Share of the local gate, from 0 to 1; the global gate has the rest.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``local_size`` or ``gamma`` is below 1, or ``local_weight`` outside 0 to 1.

    Example:
        >>> import torch
        >>> gate = MLCA(256)
        >>> gate.kernel_size, gate(torch.randn(2, 256, 7, 5)).shape
        (5, torch.Size([2, 256, 7, 5]))
    """

    def __init__(
        self, channels: int, *, local_size: int = 5, gamma: int = 2, offset: int = 1, local_weight: float = 0.5
    ) -> None:
        super().__init__(channels)
        positive("MLCA", channels=channels, local_size=local_size, gamma=gamma)
        if not 0 <= local_weight <= 1:
            raise OptionError(f"MLCA needs local_weight from 0 (only global) to 1 (only local), got {local_weight}")
        self.local_size = local_size
        self.gamma = gamma
        self.offset = offset
        self.local_weight = local_weight
        self.kernel_size = adaptive_kernel_size(channels, gamma, offset)
        self.conv = nn.Conv1d(1, 1, self.kernel_size, padding=self.kernel_size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, self.kernel_size, padding=self.kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        s = self.local_size
        H, W = x.shape[2:]
        if not is_tracing() and H % s == 0 and W % s == 0:
            blocks = torch.unflatten(x, 2, (s, H // s))  # (B, C, s, H/s, W)
            pooled = torch.unflatten(blocks.mean(3), 3, (s, W // s)).mean(4)  # (B, C, s, s)
            gate = self.gate(pooled).repeat_interleave(W // s, 3).unsqueeze(3)  # (B, C, s, 1, W)
            return (blocks * gate).flatten(2, 3)
        # A graph that serves every size can hold products, but no adaptive pool.
        pooled = _averages(s, H, x) @ x @ _averages(s, W, x).t() if is_tracing() else F.adaptive_avg_pool2d(x, s)
        return x * (_averages(H, s, x) @ self.gate(pooled) @ _averages(W, s, x).t())

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate spread over the map, ``(B, C, H, W)``."""
        H, W = x.shape[2:]
        pooled = F.adaptive_avg_pool2d(x, self.local_size)
        return _averages(H, self.local_size, x) @ self.gate(pooled) @ _averages(W, self.local_size, x).t()

    def gate(self, pooled: Tensor) -> Tensor:
        """Return the gate of each grid cell, ``(B, C, s, s)``, from the means of the cells in the same shape."""
        patches = pooled.flatten(2).transpose(1, 2)  # (B, s², C)
        local_gate: Tensor = self.conv_local(patches.flatten(1).unsqueeze(1)).sigmoid()  # (B, 1, s²·C)
        global_gate: Tensor = self.conv(patches.mean(1, keepdim=True)).sigmoid()  # (B, 1, C)
        gate = self.local_weight * local_gate.view_as(patches) + (1 - self.local_weight) * global_gate  # (B, s², C)
        return gate.transpose(1, 2).reshape(pooled.shape)


def _averages(outputs: int, inputs: int, like: Tensor) -> Tensor:
    """Return the matrix ``(outputs, inputs)`` that does along one axis what adaptive average pooling does, up or down.

    Cut the axis evenly into inputs, and again into outputs: an output is the mean of all inputs that it overlaps.
    Either number may be a traced scalar, which then stays a symbol in the exported graph.
    """
    start = torch.arange(0, outputs * inputs, inputs, device=like.device)[:, None]  # of each output
    place = torch.arange(0, outputs * inputs, outputs, device=like.device)  # start of each input, in the same unit
    overlap = ((place < start + inputs) & (place + outputs > start)).to(like.dtype)
    return overlap / overlap.sum(1, keepdim=True)
