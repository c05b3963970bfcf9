"""iRMB: an inverted residual block whose middle attends over strided grids of cells and convolves each channel.

Paper: Rethinking Mobile Block for Efficient Attention-based Models (EMO), Zhang et al., ICCV 2023, arXiv 2301.01146.
Code: zhangzjn/EMO, model/emo.py, the class and its default arguments, read for parity only.
Differs: The reference lets the zeros that fill up the last grids take attention mass; here they take none, unless
    border="zero". The reference class's defaults are kept (batch norm, ReLU on the values, 3×3, no biases); the EMO
    networks set others stage by stage (SiLU or GELU, layer norm, biases, 5×5, values after mixing), which are not
    offered. Queries, keys and values come from one convolution instead of two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import divides, is_tracing, largest_divisor, odd, one_of, positive
from attngraft._core.registry import register
from attngraft._core.sizes import round_up
from attngraft.attention._base import Attention
from attngraft.attention._blocks import DropPath
from attngraft.attention._rows import Cells, Mixture, both, chosen_logits, near_rows, pairs
from attngraft.attention._tokens import to_heads, to_tokens
from attngraft.attention._windows import pad_end


@register(
    role="gate",
    family="window self-attention",
    year=2023,
    formula="u = BN x; y = softmax(q k^T / sqrt d) relu(W_v u) over grids; x + W_o(y + silu(BN(DW3(y))))",
    cost=(
        "N * (2 * C**2 + 2 * C * hidden + kernel_size**2 * hidden)"
        " + ceiling(H / window) * ceiling(W / window) * window**4 * (C + hidden)"
    ),
    row=(),
    aliases=("iRMB",),
    growth="N",
)
class IRMB(Attention):
    """Attend over strided grids of cells, add a depth-wise convolution, project and add to the input.

    The paper writes iRMB. A window holds ``window × window`` cells spread evenly over the whole map, not neighbours.
    The block contains its own residual: a graft must blend it, ``x + gamma * (f(x) - x)``, and therefore its role is
    "gate".

    Args:
        channels: Number of channels C.
        head_dim: Channels of a head for queries and keys; divides C.
        window: Cells of a grid along each side.
        expansion: Width of the values and of the convolution over C.
        kernel_size: Odd side of the depth-wise convolution.
        border: ``"mask"`` gives cells outside the map no attention mass; ``"zero"`` makes them zero vectors that take
            their share, as the reference does.
        drop_path: Probability of dropping the whole branch of an image while training.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``head_dim`` does not divide C, or an option is out of its range.

    Example:
        >>> import torch
        >>> IRMB(64)(torch.randn(1, 64, 13, 9)).shape
        torch.Size([1, 64, 13, 9])
    """

    mixture = Mixture(enters="local")

    def __init__(
        self,
        channels: int,
        *,
        head_dim: int = 64,
        window: int = 7,
        expansion: float = 1.0,
        kernel_size: int = 3,
        border: str = "mask",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(channels)
        divides("IRMB", "head_dim", head_dim, channels)
        positive("IRMB", window=window)
        odd("IRMB", kernel_size=kernel_size)
        one_of("IRMB", "border", border, ("mask", "zero"))
        self.head_dim = head_dim
        self.window = window
        self.expansion = expansion
        self.kernel_size = kernel_size
        self.border = border
        self.drop_path = drop_path
        self.heads = channels // head_dim
        self.hidden = int(channels * expansion)
        divides("IRMB with its hidden width", "heads", self.heads, self.hidden)
        self.norm = nn.BatchNorm2d(channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 2 * channels + self.hidden, bias=False)
        self.local = nn.Conv2d(
            self.hidden, self.hidden, kernel_size, padding=kernel_size // 2, groups=self.hidden, bias=False
        )
        self.local_norm = nn.BatchNorm2d(self.hidden, eps=1e-6)
        self.proj = nn.Conv2d(self.hidden, channels, 1, bias=False)
        self.drop = DropPath(drop_path)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the widest head up to the default that divides the width."""
        return {"head_dim": largest_divisor(channels, 64)} if channels % 64 else {}

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus the block's branch."""
        self.check(x)
        _, _, H, W = x.shape
        qkv = self.qkv(self.norm(x).permute(0, 2, 3, 1))  # (B, H, W, 2C + hidden)
        if self.border == "zero":
            qkv = pad_end(qkv, self.window, 0.0)
        mixed = self._attend(qkv)[:, :H, :W].permute(0, 3, 1, 2)  # (B, hidden, H, W)
        mixed = mixed + F.silu(self.local_norm(self.local(mixed)))
        y: Tensor = x + self.drop(self.proj(mixed))
        return y

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero outside their grid.

        They are the attention's alone: the depth-wise convolution, the projection and the residual come after it. With
        ``border="zero"`` the mass that a row lacks went to the zeros that fill up the map.
        """
        H, W = x.shape[2:]
        q, k, _ = self._vectors(x)
        index, logits = chosen_logits(q, k, cells, self.head_dim**-0.5)
        rows, columns = self._grid_of(index // W, H), self._grid_of(index % W, W)  # (B, Q, M)
        keys, inside = pairs(rows, columns, W).unsqueeze(1), both(rows < H, columns < W).unsqueeze(1)
        return near_rows(logits, keys, inside, outside=0.0 if self.border == "zero" else None)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the convolution and the projection, ``(B, h, N, hidden / h)``."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        qkv: Tensor = self.qkv(to_tokens(self.norm(x)))  # (B, N, 2C + hidden)
        q, k, v = qkv.split_with_sizes((self.channels, self.channels, self.hidden), 2)
        return tuple(to_heads(part, self.heads) for part in (q, k, v.relu()))

    def _grid_of(self, places: Tensor, size: int) -> Tensor:
        """Return the cells along an axis of the grid of each place, ``(B, Q, M)``, some beyond the axis."""
        grids = round_up(size, self.window) // self.window
        return (places % grids).unsqueeze(2) + grids * torch.arange(self.window, device=places.device)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Mix the values of each grid, ``(B, H, W, 2C + hidden)`` to ``(B, H, W, hidden)``."""
        B, H, W, _ = qkv.shape
        M, C, h = self.window, self.channels, self.heads
        ny, nx = round_up(H, M) // M, round_up(W, M) // M
        whole = not is_tracing() and H % M == W % M == 0
        if whole:
            vectors = qkv.reshape(B, M, ny, M, nx, -1).permute(0, 2, 4, 1, 3, 5).reshape(B * ny * nx, M * M, -1)
        else:
            rows, columns = self._grids(H, qkv), self._grids(W, qkv)  # (ny, M), (nx, M)
            cells = rows.clamp(max=H - 1)[:, None, :, None] * W + columns.clamp(max=W - 1)[:, None]  # (ny, nx, M, M)
            vectors = qkv.flatten(1, 2).index_select(1, cells.flatten()).reshape(-1, M * M, 2 * C + self.hidden)
        # One split: slices would each fill a gradient of all three with zeros.
        q, k, v = vectors.split_with_sizes((C, C, self.hidden), 2)
        q, k, v = (part.reshape(-1, M * M, h, part.shape[2] // h).transpose(1, 2) for part in (q, k, v.relu()))
        mask = None
        if not whole:
            inside = (rows < H)[:, None, :, None] & (columns < W)[:, None]  # (ny, nx, M, M)
            mask = inside.expand(B, ny, nx, M, M).reshape(-1, 1, 1, M * M)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (n, h, M * M, hidden / h)
        tiles = mixed.reshape(B, ny, nx, h, M, M, self.hidden // h).permute(0, 4, 1, 5, 2, 3, 6)
        return tiles.reshape(B, ny * M, nx * M, self.hidden)[:, :H, :W]

    def _grids(self, size: int, like: Tensor) -> Tensor:
        """Return the cells along an axis that each grid takes, ``(grids, M)``; the last may lie beyond the axis."""
        grids = round_up(size, self.window) // self.window
        return torch.arange(grids * self.window, device=like.device).reshape(self.window, grids).t()
