"""Focused linear attention: linear attention whose sharpened kernel and depthwise convolution make up for the softmax.

Paper: FLatten Transformer: Vision Transformer using Focused Linear Attention, Han et al., ICCV 2023, arXiv 2308.00442.
Code: LeapLabTHU/FLatten-Transformer, models/flatten_swin.py (no licence), read for parity only.
Differs: The equations give no learned scale, no position table, and a norm within each head; the authors' code has the
    scale and the table, and takes the norm over all channels before they are split into heads. Here the code's form is
    the default, and norm="head" and map_size=None give the paper's norm and drop the table. The table is resized
    bilinearly to maps of another size, where the code is tied to one. The code's order of factors, which keeps float16
    sums in range, is not needed: the attention itself runs in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import divides, largest_divisor, odd, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._precision import at_least_single, no_autocast
from attngraft.attention._rows import Cells, Mixture, choose, query_cells
from attngraft.attention._tokens import convolve_heads

EPSILON = 1e-6
"""What the authors' code adds to each feature after the ReLU, and again to the denominator."""


@register(
    name="focused_linear",
    family="linear self-attention",
    year=2023,
    formula="proj(phi(q) (phi(k)^T v) / (phi(q) sum phi(k)) + dwconv(v)), phi(x) = |relu x| u^p / |u^p|, u = relu x",
    cost="4*C**2*N + C*(2*(C//heads) + 1)*N + kernel_size**2*C*N",
    row=("heads",),
    alias_defaults={"FocusedLinearAttention": {"heads": 8}},
    signatures=(("map_size", "heads", "qkv_bias", "_", "_", "_", "focusing_factor", "kernel_size"),),
    growth="N",
)
class FocusedLinearAttention(Attention):
    """Let every cell attend to every other in time linear in their number.

    Args:
        channels: Number of channels C.
        heads: Number of heads; divides C.
        focusing_factor: Power p that sharpens queries and keys.
        kernel_size: Odd size of the depthwise convolution over the values, shared by all heads.
        map_size: Height and width at which the position table is kept; None for no table.
        norm: "channels" measures the lengths in the kernel over all channels, as the authors' code does; "head" within
            each head, as the paper's equations read.
        qkv_bias: Whether the projection to queries, keys and values has a bias.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide ``channels``, ``kernel_size`` is even, or ``map_size`` is not two
            integers.

    Example:
        >>> import torch
        >>> FocusedLinearAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture()

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        focusing_factor: int = 3,
        kernel_size: int = 5,
        map_size: tuple[int, int] | None = (20, 20),
        norm: str = "channels",
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(channels)
        who = "FocusedLinearAttention"
        divides(who, "heads", heads, channels)
        positive(who, focusing_factor=focusing_factor)
        odd(who, kernel_size=kernel_size)
        one_of(who, "norm", norm, ("channels", "head"))
        self.heads = heads
        self.focusing_factor = focusing_factor
        self.kernel_size = kernel_size
        self.map_size = None if map_size is None else two_sizes(who, map_size)
        self.norm = norm
        self.qkv_bias = qkv_bias
        d = channels // heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=qkv_bias)
        self.proj = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(channels))
        self.positions = None if self.map_size is None else nn.Parameter(torch.zeros(channels, *self.map_size))
        self.dwc = nn.Conv2d(d, d, kernel_size, padding=kernel_size // 2, groups=d)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``heads`` to a divisor of C that leaves about 32 channels a head, as in the paper's models."""
        heads = largest_divisor(channels, max(1, min(8, channels // 32)))
        return {} if heads == 8 else {"heads": heads}

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map."""
        self.check(x)
        q, k, v = self._vectors(x)
        mixed = self._attend(q.flatten(2), k.flatten(2), v.flatten(2)).view_as(x).to(v.dtype)
        attended: Tensor = self.proj(mixed + convolve_heads(self.dwc, v, self.heads))
        return attended

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``.

        The operator never makes them: they are what its products of sums imply, ``phi(q_i) phi(k_j)`` over their sum
        over j. They leave out the convolution of the values, which is added to the mixture.
        """
        q, k, _ = self._vectors(x)
        with no_autocast(q):
            q, q_factor = (t.transpose(2, 3) for t in self._focus(at_least_single(q.flatten(2))))
            k, k_factor = self._focus(at_least_single(k.flatten(2)))
            k = k * (k_factor / k.shape[3])
            index = query_cells(cells, len(x), k.shape[3], x.device)
            weights = choose(q, index) @ k  # (B, h, Q, N)
            return weights / (weights.sum(3, keepdim=True) + EPSILON / choose(q_factor, index))

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the last projection, ``(B, h, N, d)``."""
        v = self._vectors(x)[2].flatten(2)
        return torch.unflatten(v, 1, (self.heads, -1)).transpose(2, 3)

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).chunk(3, 1)  # (B, C, H, W)
        if self.positions is not None:
            k = k + F.interpolate(self.positions[None], size=x.shape[2:], mode="bilinear", align_corners=False)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return ``phi(q) (phi(k)^T v) / (phi(q) sum(phi(k)) + N epsilon)`` of each head, ``(B, C, N)``.

        The second factor of a query cancels: it only divides epsilon. All of it runs in float32 or wider: a head whose
        features are small beside another's has a denominator near epsilon, which float16 cannot invert.
        """
        with no_autocast(q):
            q, q_factor = self._focus(at_least_single(q))  # (B, h, d, N), (B, h or 1, 1, N)
            k, k_factor = self._focus(at_least_single(k))
            k = k * (k_factor / v.shape[2])
            v = torch.unflatten(at_least_single(v), 1, (self.heads, -1))  # (B, h, d, N)
            sums = torch.cat([v @ k.transpose(2, 3), k.sum(3).unsqueeze(2)], 2)  # (B, h, d+1, d)
            fraction = sums @ q  # (B, h, d+1, N), the denominator last
            mixed = fraction[:, :, :-1] / (fraction[:, :, -1:] + EPSILON / q_factor)
        return mixed.flatten(1, 2)

    def _focus(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``phi(x)`` of each head in two factors: features of at most 1, and one number a cell.

        The features are divided by their largest before they are raised to a power, so that none overflows and not all
        vanish. ``phi(x)`` does not depend on what they are divided by, so that has no gradient.
        """
        x = (x.relu() + EPSILON) * F.softplus(self.scale).reciprocal().unsqueeze(1)  # (B, C, N)
        x = torch.unflatten(x, 1, (self.heads if self.norm == "head" else 1, -1))  # (B, h or 1, c, N)
        largest = x.detach().amax(2, keepdim=True)
        x = x / largest
        sharp = x**self.focusing_factor
        stretch = x.square().sum(2, keepdim=True) / sharp.square().sum(2, keepdim=True)
        return torch.unflatten(sharp.flatten(1, 2), 1, (self.heads, -1)), largest * stretch.sqrt()


def two_sizes(who: str, sizes: tuple[int, int]) -> tuple[int, int]:
    """Return the height and the width at which a table is kept.

    Args:
        who: The module that is being built.
        sizes: Both, in cells.

    Raises:
        OptionError: If they are not two positive integers.
    """
    if len(sizes) != 2:
        raise OptionError(f"{who} needs map_size to be a height and a width, got {sizes!r}; or None for no table")
    height, width = sizes
    positive(who, map_height=height, map_width=width)
    return height, width
