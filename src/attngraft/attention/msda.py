"""MSDA: each group of heads attends to a small window of cells, spread out by a dilation of its own.

Paper: DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition, Jiao et al., IEEE TMM 2023, arXiv
    2302.01791.
Code: JIAOJIAYUASD/dilateformer, models/dilateformer.py (no licence), read for parity only.
Differs: Window cells outside the map take no attention, where the paper and its code let them in as zeros that take
    their share; border="zero" gives that. The code overwrites its input, and its default of 8 heads for 3 dilations
    cannot be built: here heads is 3. Where 3 does not divide the channels, the graft uses dilations (1, 2), as
    circulated ports do, which is then not the paper's setting.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import odd, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import Disputed, register
from attngraft.attention._base import Attention
from attngraft.attention._precision import at_least_single
from attngraft.attention._rows import Cells, Mixture, both, chosen_logits, near_rows, pairs


@register(
    family="local self-attention",
    year=2023,
    formula="proj(softmax_w(scale * q_i . k_w) v_w), w in the k x k window of i spread by the head's dilation",
    cost="4*C**2*N",
    row=("heads", "qkv_bias"),
    aliases=("MultiDilatelocalAttention", "MultiDilateAttention"),
    signatures=(("heads", "qkv_bias", "_", "_", "_", "kernel_size", "dilations"),),
    alias_defaults={
        name: {"qkv_bias": False, "dilations": Disputed(((1, 2, 3), (2, 3)))}
        for name in ("MultiDilatelocalAttention", "MultiDilateAttention", "Bottleneck_MSDA")
    },
    growth="N",
)
class MSDA(Attention):
    """Attend within dilated windows, the heads in equal groups of one dilation each.

    Queries meet keys and values in shifted views of one padded map, so no window is ever copied. This is elementwise
    work of ``2 * kernel_size**2 * C * N`` multiply-adds, which the record's cost does not count.

    Args:
        channels: Number of channels C.
        heads: Number of heads; divides C and is a multiple of the number of dilations.
        kernel_size: Odd number of cells along a window's side.
        dilations: Distance in cells between neighbours in a window, one for each group of heads.
        qkv_bias: Whether the projection to queries, keys and values has a bias.
        border: "mask" keeps cells outside the map out of the softmax; "zero" lets them in as zero vectors, with a logit
            of 0, as the paper does.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide ``channels`` or is no multiple of the number of dilations, or
            ``kernel_size`` is even.

    Example:
        >>> import torch
        >>> MSDA(48, heads=3)(torch.randn(2, 48, 7, 5)).shape
        torch.Size([2, 48, 7, 5])
    """

    mixture = Mixture()

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 3,
        kernel_size: int = 3,
        dilations: Sequence[int] = (1, 2, 3),
        qkv_bias: bool = True,
        border: str = "mask",
    ) -> None:
        super().__init__(channels)
        positive("MSDA", channels=channels, heads=heads)
        odd("MSDA", kernel_size=kernel_size)
        for dilation in dilations:
            positive("MSDA", dilation=dilation)
        if heads not in (choices := _choices_of_heads(channels, len(dilations))):
            hint = f"heads could be {', '.join(map(str, choices))}" if choices else "change the number of dilations"
            raise OptionError(
                f"MSDA needs heads that divide channels={channels} and are a multiple of the number of dilations, "
                f"got heads={heads} and dilations={tuple(dilations)}; {hint}"
            )
        one_of("MSDA", "border", border, ("mask", "zero"))
        self.heads = heads
        self.kernel_size = kernel_size
        self.dilations = tuple(dilations)
        self.qkv_bias = qkv_bias
        self.border = border
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=qkv_bias)
        self.proj = nn.Conv2d(channels, channels, 1)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take fewer dilations where 3 does not divide C, and heads of about 32 channels."""
        dilations = next(d for d in ((1, 2, 3), (1, 2), (1,)) if channels % len(d) == 0)
        choices = _choices_of_heads(channels, len(dilations))
        heads = max((h for h in choices if channels // h >= 32), default=choices[0])
        return {"heads": heads} if dilations == (1, 2, 3) else {"heads": heads, "dilations": dilations}

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map."""
        self.check(x)
        q, k, v = self.qkv(x).chunk(3, 1)  # (B, C, H, W)
        border = (self._reach(),) * 4
        groups = (t.chunk(len(self.dilations), 1) for t in (q, F.pad(k, border), F.pad(v, border)))
        mixed = [self._attend(*group) for group in zip(*groups, self.dilations, strict=True)]
        attended: Tensor = self.proj(torch.cat(mixed, 1))
        return attended

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero outside their windows.

        With ``border="zero"`` the mass that a row lacks went to the zeros around the map.
        """
        q, k, _ = self._vectors(x)
        H, W = x.shape[2:]
        index, logits = chosen_logits(q, k, cells, q.shape[3] ** -0.5)
        place = torch.arange(self.kernel_size, device=x.device) - self.kernel_size // 2
        groups = []
        for dilation, part in zip(self.dilations, logits.chunk(len(self.dilations), 1), strict=True):
            rows = (index // W).unsqueeze(2) + dilation * place  # (B, Q, k)
            columns = (index % W).unsqueeze(2) + dilation * place
            inside = both((rows >= 0) & (rows < H), (columns >= 0) & (columns < W)).unsqueeze(1)  # (B, 1, Q, k²)
            keys = pairs(rows, columns, W).unsqueeze(1)
            groups.append(near_rows(part, keys, inside, outside=0.0 if self.border == "zero" else None))
        return torch.cat(groups, 1)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the last projection, ``(B, h, N, d)``."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        parts = self.qkv(x).flatten(2).chunk(3, 1)
        return tuple(torch.unflatten(part, 1, (self.heads, -1)).transpose(2, 3) for part in parts)  # (B, h, N, d)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, dilation: int) -> Tensor:
        """Attend within the windows of one dilation; ``k`` and ``v`` come padded."""
        d = self.channels // self.heads
        H, W = q.shape[2:]
        q, k, v = (torch.unflatten(t, 1, (-1, d)) for t in (q, k, v))  # (B, h, d, H, W)
        q = at_least_single(q) * d**-0.5  # half precision cannot hold the sums of a strong map
        logits = torch.stack([(q * key).sum(2) for key in self._window(k, dilation, H, W)])  # (k², B, h, H, W)
        if self.border == "mask":
            rows, columns = (self._inside(dilation, size, q.device) for size in (H, W))
            inside = (rows[:, None, :, None] & columns[:, None, :]).flatten(0, 1)  # (k², H, W)
            logits = logits.masked_fill(~inside[:, None, None], -torch.inf)
        weights = logits.softmax(0).to(v.dtype).unsqueeze(3)  # (k², B, h, 1, H, W)
        first, *others = zip(weights, self._window(v, dilation, H, W), strict=True)
        mixed = torch.mul(*first)  # not a sum from zero: the exporter would write a zero map of one fixed size
        for weight, value in others:
            mixed = torch.addcmul(mixed, weight, value)
        return mixed.flatten(1, 2)  # (B, C / dilations, H, W)

    def _window(self, padded: Tensor, dilation: int, H: int, W: int) -> Iterator[Tensor]:
        """Yield a padded map's view of map size once for each place in the window, row by row."""
        first = self._reach() - dilation * (self.kernel_size // 2)
        starts = [first + dilation * i for i in range(self.kernel_size)]
        for y, x in itertools.product(starts, starts):
            yield padded[..., y : y + H, x : x + W]

    def _inside(self, dilation: int, size: int, device: torch.device) -> Tensor:
        """Tell along one axis which places of each cell's window are on the map, ``(k, size)``."""
        place = torch.arange(self.kernel_size, device=device) - self.kernel_size // 2
        cell = torch.arange(size, device=device) + dilation * place[:, None]
        return (cell >= 0) & (cell < size)

    def _reach(self) -> int:
        """Return how far the widest window looks beyond a cell."""
        return max(self.dilations) * (self.kernel_size // 2)


def _choices_of_heads(channels: int, dilations: int) -> list[int]:
    """List the numbers of heads that divide the channels and are a multiple of the number of dilations.

    Example:
        >>> _choices_of_heads(24, 3), _choices_of_heads(64, 3)
        ([3, 6, 12, 24], [])
    """
    return [h for h in range(dilations, channels + 1, dilations) if channels % h == 0] if dilations else []
