"""PolaLinearAttention: linear attention that keeps apart where signs of query and key agree and where they differ.

Paper: PolaFormer: Polarity-aware Linear Attention for Vision Transformers, Meng et al., ICLR 2025, arXiv 2501.15061.
Code: ZacharyMeng/PolaFormer, Polaformer/models (no licence file seen), figures only.
Differs: The position table is resized bilinearly to maps of another size, where the code is tied to one, and
    map_size=None drops it. Pooled keys are not built. The attention runs in float32 at least, and quotients are
    quotients, not products with a reciprocal, whose gradient underflows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import divides, multiple_of, nearest_divisors, odd
from attngraft._core.errors import CheckpointError, OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast, own_type, through
from attngraft.attention._rows import Cells, Mixture, choose, query_cells
from attngraft.attention._tokens import convolve_heads, psa_heads
from attngraft.attention.focused_linear import two_sizes

EPSILON = 1e-6


@register(
    name="pola",
    family="linear self-attention",
    year=2025,
    formula="W_o(([same(q, k) v_1; opposite(q, k) v_2] + dwconv(v)) * g), linear attentions of the features "
    "[relu(x)^p; relu(-x)^p], p = 1 + alpha sigmoid(w), those of q swapped for the opposite signs",
    cost="N * C * (5 * C + kernel_size**2 + 4 * (C // heads))",
    row=("heads",),
    aliases=("PolaAttention", "PolarityAwareLinearAttention"),
    signatures=(("_", "heads", "qkv_bias"),),
    alias_defaults={"PolaLinearAttention": {"heads": 8}, "PolaAttention": {"heads": 8}, "C2Pola": {"heads": psa_heads}},
    growth="N",
)
class PolaLinearAttention(Attention):
    """Let every cell attend to every other in linear time: by equal signs for half of a head, by opposite for the rest.

    Args:
        channels: Number of channels C.
        heads: Number of heads, each of an even number of channels.
        alpha: How far the learned power of the features may exceed 1.
        kernel_size: Odd size of the depth-wise convolution over the values, shared by all heads.
        map_size: Height and width at which the position table is kept; None for no table.
        qkv_bias: Whether the projections to queries, gate, keys and values have biases.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If heads have an odd number of channels, or an option is out of its range.

    Example:
        >>> import torch
        >>> PolaLinearAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(enters="mixed")

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        alpha: float = 4.0,
        kernel_size: int = 5,
        map_size: tuple[int, int] | None = (20, 20),
        qkv_bias: bool = False,
    ) -> None:
        super().__init__(channels)
        who = "PolaLinearAttention"
        multiple_of(who, 2, channels)
        divides(who, "heads", heads, channels)
        odd(who, kernel_size=kernel_size)
        d = channels // heads
        if d % 2:
            raise OptionError(
                f"{who} needs heads of an even number of channels, got {d} of channels={channels} and heads={heads}; "
                f"heads could be {nearest_divisors(channels // 2, heads)}"
            )
        if not alpha >= 0:
            raise OptionError(f"{who} needs alpha of at least 0, got {alpha!r}; the paper's code uses 4")
        self.heads = heads
        self.alpha = alpha
        self.kernel_size = kernel_size
        self.map_size = None if map_size is None else two_sizes(who, map_size)
        self.qkv_bias = qkv_bias
        self.qgkv = nn.Conv2d(channels, 4 * channels, 1, bias=qkv_bias)
        self.power = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.zeros(channels))
        self.positions = None if self.map_size is None else nn.Parameter(torch.zeros(channels, *self.map_size))
        self.local = nn.Conv2d(d, d, kernel_size, padding=kernel_size // 2, groups=d)
        self.mixed = nn.Identity()  # where what was mixed can be read off
        self.proj = nn.Conv2d(channels, channels, 1)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take heads of about 32 channels, and of an even number."""
        most = max(1, min(8, channels // 32))
        heads = next((n for n in range(most, 0, -1) if channels % (2 * n) == 0), 1)
        return {} if heads == 8 else {"heads": heads}

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map."""
        self.check(x)
        q, gate, k, v = self.qgkv(x).chunk(4, 1)  # (B, C, H, W)
        with no_autocast(x):
            same, opposite, keys = self._features(q, k)
            means = keys.mean(3, keepdim=True)  # (B, h, 2d, 1)
            halves = self._heads(v).chunk(2, 2)  # 2 of (B, h, d / 2, N)
            keys = (keys / (x.shape[2] * x.shape[3])).transpose(2, 3)  # of x: the exporter takes the keys' for fixed
            parts = [
                (half @ keys) @ queries / ((queries * means).sum(2, keepdim=True) + EPSILON)  # (B, h, d / 2, N)
                for half, queries in zip(halves, (same, opposite), strict=True)
            ]
        mixed = self.mixed(torch.cat(parts, 2).reshape(x.shape).to(own_type(self.proj, x)))
        return through(self.proj, mixed + convolve_heads(self.local, v, self.heads), gate)

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, 2h, Q, N)``.

        Each head gives two: by equal signs, for the first half of its values, and by opposite ones. The operator never
        makes them. The convolution of the values is added to the mixture, which is then gated.
        """
        q, _, k, _ = self.qgkv(x).chunk(4, 1)
        with no_autocast(x):
            same, opposite, keys = self._features(q, k)
            index = query_cells(cells, len(x), keys.shape[3], x.device)
            keys = keys / keys.shape[3]
            both = []
            for queries in (same, opposite):
                weights = choose(queries.transpose(2, 3), index) @ keys  # (B, h, Q, N)
                both.append(weights / (weights.sum(3, keepdim=True) + EPSILON))
            return torch.stack(both, 2).flatten(1, 2)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix, ``(B, 2h, N, d / 2)``."""
        v = self.qgkv(x).chunk(4, 1)[3].flatten(2)
        return torch.unflatten(v, 1, (2 * self.heads, -1)).transpose(2, 3)

    def _heads(self, x: Tensor) -> Tensor:
        """Cut a map into heads, in single precision at least, ``(B, h, d, N)``."""
        return torch.unflatten(at_least_single(x).flatten(2), 1, (self.heads, -1))

    def _features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of queries for equal and for opposite signs, and those of keys, ``(B, h, 2d, N)``."""
        if self.positions is not None:
            k = k + F.interpolate(self.positions[None], size=k.shape[2:], mode="bilinear", align_corners=False)
        inverse = F.softplus(at_least_single(self.scale)).reciprocal()[:, None, None]
        power = (1 + self.alpha * at_least_single(self.power).sigmoid()).view(self.heads, -1, 1)  # (h, d, 1)
        q, k = (self._heads(at_least_single(t) * inverse) for t in (q, k))
        (q_plus, q_minus), (k_plus, k_minus) = ((t.relu() ** power, (-t).relu() ** power) for t in (q, k))
        return torch.cat((q_plus, q_minus), 2), torch.cat((q_minus, q_plus), 2), torch.cat((k_plus, k_minus), 2)


def from_official(state: Mapping[str, Tensor], map_size: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``PolaLinearAttention`` without pooled keys, and lay them out as ours.

    Args:
        state: Its state dict.
        map_size: Height and width of the map of its position table; None where it is a square.

    Returns:
        A state dict for `PolaLinearAttention`.

    Raises:
        CheckpointError: If it is no state of such a module, or its table has another number of cells.
    """
    names = {
        "qg": "qg", "kv": "kv", "proj": "proj", "dwc": "local", "power": "power", "scale": "scale",
        "positional_encoding": "positions",
    }  # fmt: skip
    found = renamed("PolaLinearAttention", state, names)
    cells = found["positions"].shape[1]
    height, width = map_size or (math.isqrt(cells),) * 2
    if height * width != cells:
        raise CheckpointError(
            f"the position table of this PolaLinearAttention has {cells} cells, and {height} x {width} have "
            f"{height * width}; give map_size"
        )
    found["positions"] = found["positions"][0].T.reshape(-1, height, width)
    found |= {name: found[name].flatten() for name in ("power", "scale")}
    for part in [part for part in ("weight", "bias") if f"qg.{part}" in found]:
        found[f"qgkv.{part}"] = torch.cat((found.pop(f"qg.{part}"), found.pop(f"kv.{part}")))
    return {name: t[..., None, None] if name in ("qgkv.weight", "proj.weight") else t for name, t in found.items()}
