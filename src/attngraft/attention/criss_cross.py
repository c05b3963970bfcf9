"""CrissCrossAttention: every cell attends to the cells of its own row and its own column.

Paper: CCNet: Criss-Cross Attention for Semantic Segmentation, Huang et al., ICCV 2019, arXiv 1811.11721.
Code: speedinghzl/CCNet, cc_attention/functions.py (MIT), read for parity only.
Differs: Nothing in what is gathered. The factor that starts at zero and the shortcut are the graft's. The paper's
    network applies the block twice with the same weights, which is not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import fit_reduction, hidden_channels
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast
from attngraft.attention._rows import Cells, Mixture, chosen_logits, near_rows


@register(
    name="criss_cross",
    family="local self-attention",
    year=2019,
    formula="sum_j softmax_j(q_i k_j) v_j, j over the row and the column of i, i itself once",
    cost="N * (C * (2 * hidden + C) + (H + W) * (hidden + C))",
    row=("reduction",),
    aliases=("CCA", "CrissCross"),
    growth="N*(H + W)",
)
class CrissCrossAttention(Attention):
    """Attend along rows and columns, in one head of C / reduction channels.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower queries and keys are than C; at most C.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves no channel.

    Example:
        >>> import torch
        >>> CrissCrossAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(enters="")

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__(channels)
        self.hidden = hidden_channels("CrissCrossAttention", channels, reduction)
        self.reduction = reduction
        self.qkv = nn.Conv2d(channels, 2 * self.hidden + channels, 1)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on maps narrower than its default."""
        return fit_reduction(channels, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each cell gathers from its row and its column."""
        self.check(x)
        H = x.shape[2]
        q, k, v = self._vectors(x)
        with no_autocast(x):
            q, k = at_least_single(q), at_least_single(k)
            to_column = q.permute(0, 3, 2, 1) @ k.permute(0, 3, 1, 2)  # (B, W, H, H)
            y = torch.arange(H, device=x.device)
            to_column = to_column.masked_fill(y[:, None] == y, -torch.inf)  # the row has the cell itself
            to_row = q.permute(0, 2, 3, 1) @ k.permute(0, 2, 1, 3)  # (B, H, W, W)
            weights = torch.cat((to_column.transpose(1, 2), to_row), 3).softmax(3).to(v.dtype)  # (B, H, W, H + W)
        of_column = weights[..., :H].transpose(1, 2) @ v.permute(0, 3, 2, 1)  # (B, W, H, C)
        of_row = weights[..., H:] @ v.permute(0, 2, 3, 1)  # (B, H, W, C)
        return (of_column.transpose(1, 2) + of_row).permute(0, 3, 1, 2)

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, 1, Q, N)``; zero off their cross."""
        H, W = x.shape[2:]
        q, k, _ = (t.flatten(2).transpose(1, 2).unsqueeze(1) for t in self._vectors(x))  # (B, 1, N, d)
        index, logits = chosen_logits(q, k, cells, 1.0)
        y, column = index // W, index % W  # (B, Q)
        rows, columns = (torch.arange(size, device=x.device) for size in (H, W))
        in_column = rows * W + column.unsqueeze(2)  # (B, Q, H)
        in_row = y.unsqueeze(2) * W + columns  # (B, Q, W)
        inside = torch.cat((rows != y.unsqueeze(2), torch.ones_like(in_row, dtype=torch.bool)), 2)
        return near_rows(logits, torch.cat((in_column, in_row), 2).unsqueeze(1), inside.unsqueeze(1))

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix, ``(B, 1, N, C)``; the mixture is the output."""
        return self._vectors(x)[2].flatten(2).transpose(1, 2).unsqueeze(1)

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        qkv: Tensor = self.qkv(x)
        return qkv.split_with_sizes((self.hidden, self.hidden, self.channels), 1)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the tensors of the authors' ``CrissCrossAttention``; its factor gamma, which the graft has, is left out.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `CrissCrossAttention`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    parts = ("query_conv", "key_conv", "value_conv")
    found = renamed("CrissCrossAttention", state, {name: name for name in (*parts, "gamma")})
    return {f"qkv.{part}": torch.cat([found[f"{name}.{part}"] for name in parts]) for part in ("weight", "bias")}
