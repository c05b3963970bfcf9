"""BRA: each region of the map chooses the few regions it attends to, then attends to all of their cells.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention, Zhu et al., CVPR 2023, arXiv 2303.08810.
Code: rayleizhu/BiFormer, ops/bra_legacy.py (MIT), read for parity only.
Differs: The reference refuses maps that its regions do not divide, or fills them up with zero cells that are averaged,
    attended to and convolved like others; here such cells count nowhere, unless border="zero". The logits are scaled by
    C^(-1/2) as in the reference and in the paper's formula, which has one head; `scale` takes another factor. Routing
    with parameters, soft routing and pooled keys, which the reference offers and its models do not use, are left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import divides, odd, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft._core.sizes import round_up
from attngraft.attention._base import Attention
from attngraft.attention._precision import no_autocast
from attngraft.attention._rows import Cells, Mixture, both, choose, near_rows, pairs, query_cells
from attngraft.attention._tokens import fit_heads, to_heads
from attngraft.attention._windows import inside, pad_end


@register(
    role="mixer",
    family="routed self-attention",
    year=2023,
    formula="W_o(softmax(scale q K^T) V + DW5(v)), K and V of the topk regions with the largest mean(q) mean(k)^T",
    cost=(
        "N * C * (4 * C + side_kernel_size**2) + regions**4 * C"
        " + 2 * C * regions**2 * topk * (ceiling(H / regions) * ceiling(W / regions))**2"
    ),
    row=("heads", "regions"),
    aliases=("BiLevelRoutingAttention", "BiLevelRoutingAttention_nchw", "nchwBRA"),
    signatures=(
        ("heads", "regions", "scale", "topk", "side_kernel_size"),
        ("heads", "regions", "channels", "scale", "_", "_", "_", "_", "topk"),
    ),
    alias_defaults={
        name: {"side_kernel_size": 3}
        for name in ("BiLevelRoutingAttention", "BiLevelRoutingAttention_nchw", "nchwBRA", "C2BRA")
    },
    growth="N",
)
class BRA(Attention):
    """Attend from each region of a map to the cells of the regions whose mean key suits its mean query best.

    The choice of regions carries no gradient.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads; divides C.
        regions: Regions along each side of the map, S.
        topk: Regions that each region attends to, at most ``regions**2``.
        side_kernel_size: Odd side of the depth-wise convolution of the values that is added; 5 in BiFormer.
        scale: Factor on the logits; None takes ``channels**-0.5``.
        border: ``"mask"`` keeps the cells that fill up the last regions out of everything; ``"zero"`` treats them as
            cells of a map padded with zeros, as the reference does.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C, or an option is out of its range.

    Example:
        >>> import torch
        >>> BRA(64)(torch.randn(1, 64, 20, 20)).shape
        torch.Size([1, 64, 20, 20])
    """

    mixture = Mixture(layout="cells")

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        regions: int = 7,
        topk: int = 4,
        side_kernel_size: int = 5,
        scale: float | None = None,
        border: str = "mask",
    ) -> None:
        super().__init__(channels)
        divides("BRA", "heads", heads, channels)
        positive("BRA", regions=regions, topk=topk)
        odd("BRA", side_kernel_size=side_kernel_size)
        one_of("BRA", "border", border, ("mask", "zero"))
        if topk > regions**2:
            raise OptionError(
                f"BRA needs topk of at most regions**2 = {regions**2}, got {topk}; use {regions**2} or less"
            )
        self.heads = heads
        self.regions = regions
        self.topk = topk
        self.side_kernel_size = side_kernel_size
        self.scale = channels**-0.5 if scale is None else scale
        self.border = border
        self.qkv = nn.Linear(channels, 3 * channels)
        self.side = nn.Conv2d(channels, channels, side_kernel_size, padding=side_kernel_size // 2, groups=channels)
        self.proj = nn.Linear(channels, channels)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width."""
        return fit_heads(channels, 8)

    def macs(self, height: int, width: int) -> int:
        """Count the multiply-adds of one image; with ``border="zero"`` those of the padded map."""
        if self.border == "zero":
            height, width = round_up(height, self.regions), round_up(width, self.regions)
        return super().macs(height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each cell gathers from the regions that its own region chose."""
        self.check(x)
        _, _, H, W = x.shape
        qkv = self._project(x)  # (B, H, W, 3C)
        values = qkv[..., 2 * self.channels :].permute(0, 3, 1, 2)  # (B, C, H, W)
        mixed: Tensor = self.proj(self._attend(qkv) + self.side(values).permute(0, 2, 3, 1))
        return mixed[:, :H, :W].permute(0, 3, 1, 2)  # (B, C, H, W)

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``.

        They are zero outside the regions that a cell's own region chose, and leave out the convolution of the values,
        which is added to the mixture. With ``border="zero"`` the mass that a row lacks went to the cells that fill up
        the map, whose value is the bias.
        """
        B, _, H, W = x.shape
        qkv = self._project(x)
        q, k, _ = (to_heads(part.flatten(1, 2), self.heads) for part in qkv[:, :H, :W].chunk(3, 3))  # (B, h, N, d)
        chosen, height, width = self._choose(pad_end(qkv, self.regions, 0.0), *qkv.shape[1:3])  # (B, R, topk)
        index = query_cells(cells, B, H * W, x.device)
        region = index // W // height * self.regions + index % W // width  # (B, Q)
        chosen = chosen.gather(1, region.unsqueeze(2).expand(-1, -1, self.topk))  # (B, Q, topk)
        rows, columns = (
            (first * size).unsqueeze(3) + torch.arange(size, device=x.device)  # (B, Q, topk, cells)
            for first, size in ((chosen // self.regions, height), (chosen % self.regions, width))
        )
        keys, seen = pairs(rows, columns, W).flatten(2), both(rows < H, columns < W).flatten(2)
        q = choose(q, index) * self.scale
        filling = self.qkv.bias.view(3, self.heads, -1, 1)[1]  # (h, d, 1)
        outside = q @ filling if self.border == "zero" else None  # (B, h, Q, 1)
        return near_rows(q @ k.transpose(2, 3), keys.unsqueeze(1), seen.unsqueeze(1), outside=outside)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the last projection, ``(B, h, N, d)``."""
        _, _, H, W = x.shape
        values = self._project(x)[:, :H, :W, 2 * self.channels :]
        return to_heads(values.flatten(1, 2), self.heads)

    def _project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values, ``(B, H, W, 3C)``; with ``border="zero"`` of the padded map."""
        tokens = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        if self.border == "zero":
            tokens = pad_end(tokens, self.regions, 0.0)
        qkv: Tensor = self.qkv(tokens)
        return qkv

    def _choose(self, padded: Tensor, H: int, W: int) -> tuple[Tensor, int, int]:
        """Return the regions that each region attends to, ``(B, R, topk)``, and rows and columns of a region."""
        C = self.channels
        on_map = self._cut(inside(H, W, padded)[None, :, :, None])[0, :, :, 0]  # (R, L)
        q, k = self._cut(padded[..., :C]), self._cut(padded[..., C : 2 * C])
        return self._route(q, k, on_map), padded.shape[1] // self.regions, padded.shape[2] // self.regions

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend to the chosen regions, ``(B, H, W, 3C)`` to ``(B, H, W, C)``; R regions hold L cells each."""
        B, H, W, _ = qkv.shape
        S, C, d = self.regions, self.channels, self.channels // self.heads
        qkv = pad_end(qkv, S, 0.0)  # (B, H', W', 3C)
        height, width = qkv.shape[1] // S, qkv.shape[2] // S
        on_map = self._cut(inside(H, W, qkv)[None, :, :, None])[0, :, :, 0]  # (R, L)
        q, kv = self._cut(qkv[..., :C]), self._cut(qkv[..., C:])  # (B, R, L, C), (B, R, L, 2C)
        chosen = self._route(q, kv[..., :C], on_map)  # (B, R, topk)
        offsets = torch.arange(B, device=q.device)[:, None, None] * S**2
        gathered = kv.flatten(0, 1).index_select(0, (chosen + offsets).flatten())  # (B * R * topk, L, 2C)
        gathered = gathered.reshape(B * S**2, -1, 2, self.heads, d)  # (B * R, topk * L, 2, h, d)
        k, v = (t.squeeze(2).transpose(1, 2) for t in gathered.chunk(2, 2))  # (B * R, h, topk * L, d)
        q = q.reshape(B * S**2, -1, self.heads, d).transpose(1, 2)  # (B * R, h, L, d)
        mask = on_map[chosen].reshape(B * S**2, 1, 1, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)  # (B * R, h, L, d)
        tiles = mixed.reshape(B, S, S, self.heads, height, width, d).permute(0, 1, 4, 2, 5, 3, 6)
        return tiles.reshape(B, height * S, width * S, C)[:, :H, :W]

    def _cut(self, x: Tensor) -> Tensor:
        """Cut ``(B, H', W', C)`` into regions ``(B, R, L, C)``."""
        B, H, W, C = x.shape
        S = self.regions
        return x.reshape(B, S, H // S, S, W // S, C).transpose(2, 3).reshape(B, S**2, -1, C)

    @torch.no_grad()
    def _route(self, q: Tensor, k: Tensor, on_map: Tensor) -> Tensor:
        """Choose for each region the regions with the best product of means; one without a cell on the map is last."""
        count = on_map.sum(1)[:, None]  # (R, 1)
        single = torch.promote_types(q.dtype, torch.float32)  # products of a strong map are infinite in half precision
        query_mean, key_mean = (t.sum(2, dtype=single) / count.clamp(min=1) for t in (q, k))  # (B, R, C)
        with no_autocast(q):
            affinity = query_mean @ key_mean.transpose(1, 2)  # (B, R, R)
        return affinity.masked_fill(count[:, 0] == 0, -torch.inf).topk(self.topk).indices
