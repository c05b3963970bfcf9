"""MALA: linear attention whose rows grow sharper with the length of the query, as those of softmax attention do.

Paper: Rectifying Magnitude Neglect in Linear Attention, Fan et al., ICCV 2025, arXiv 2507.00698.
Code: qhfan/MALA, classfication_release/model.py (no licence), read for parity only.
Differs: The equations sum over the keys; the authors' code, the default here, takes their mean and divides the products
    by sqrt(d); form="paper" is the sum. Rotary positions, the depth-wise convolution of the values and the output gate
    are the code's, in both forms. The denominator has the code's 1e-6. The attention runs in float32 at least.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import divides, multiple_of, nearest_divisors, one_of
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast, own_type
from attngraft.attention._rows import Cells, Mixture, choose, query_cells

EPSILON = 1e-6
SLOWEST = 10000
"""Ratio of the fastest and the slowest rotation of the positions."""


@register(
    family="linear self-attention",
    year=2025,
    formula="W_o((sum_j a_ij v_j + DW5(v)) * o), a_ij = c phi(q_i) phi(k_j) (1 + 1 / z_i) - z_i / N, "
    "z_i = c phi(q_i) sum_j phi(k_j), phi = elu + 1, c = 1 / (N sqrt d)",
    cost="N * C * (5 * C + 25 + 2 * (C // heads))",
    row=("heads",),
    aliases=("AddLinearAttention", "MagnitudeAwareLinearAttention"),
    signatures=(("heads",),),
    growth="N",
)
class MALA(Attention):
    """Let every cell attend to every other in time linear in their number, with rotary positions.

    Args:
        channels: Number of channels C.
        heads: Number of heads, each of a multiple of 4 channels.
        form: ``"code"`` as the authors' network has it, or ``"paper"`` as its equations say.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If heads have no multiple of 4 channels, or there is no such ``form``.

    Example:
        >>> import torch
        >>> MALA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(enters="mixed")

    def __init__(self, channels: int, *, heads: int = 8, form: str = "code") -> None:
        super().__init__(channels)
        multiple_of("MALA", 4, channels)
        divides("MALA", "heads", heads, channels)
        one_of("MALA", "form", form, ("code", "paper"))
        if channels // heads % 4:
            raise OptionError(
                f"MALA needs heads of a multiple of 4 channels, got {channels // heads} of channels={channels} and "
                f"heads={heads}; heads could be {nearest_divisors(channels // 4, heads)}"
            )
        self.heads = heads
        self.form = form
        self.qkvo = nn.Conv2d(channels, 4 * channels, 1)
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.mixed = nn.Identity()  # where what was mixed can be read off
        self.proj = nn.Conv2d(channels, channels, 1)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take heads of about 32 channels, as the paper's models have, and of a multiple of 4."""
        most = max(1, min(8, channels // 32))
        heads = next((n for n in range(most, 0, -1) if channels % (4 * n) == 0), 1)
        return {} if heads == 8 else {"heads": heads}

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map."""
        self.check(x)
        with no_autocast(x):  # the output grows with the fourth power of the input, which half precision cannot hold
            x = x.to(own_type(self.proj, x))
            q, k, v, gate = self.qkvo(x).chunk(4, 1)  # (B, C, H, W)
            q, turned_q, turned_k, sums, factor = self._features(q, k)
            values = self._heads(v)  # (B, h, d, N)
            z = factor * (q * sums).sum(2, keepdim=True)  # (B, h, 1, N)
            gathered = (values @ turned_k.transpose(2, 3) * factor) @ turned_q  # (B, h, d, N)
            gathered = gathered * (1 + 1 / (z + EPSILON)) - z * values.mean(3, keepdim=True)
            mixed = self.mixed(gathered.reshape(x.shape).to(x.dtype))
            projected: Tensor = self.proj((mixed + self.local(v)) * gate)
        return projected

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; some are negative.

        The operator never makes them: they are what its products of sums imply. The convolution of the values is added
        to the mixture, which is then gated.
        """
        q, k, _, _ = self.qkvo(x).chunk(4, 1)
        with no_autocast(x):
            q, turned_q, turned_k, sums, factor = self._features(q, k)
            count = q.shape[3]
            index = query_cells(cells, len(x), count, x.device)
            products = factor * choose(turned_q.transpose(2, 3), index) @ turned_k  # (B, h, Q, N)
            z = factor * choose((q * sums).sum(2, keepdim=True).transpose(2, 3), index)  # (B, h, Q, 1)
            return products * (1 + 1 / (z + EPSILON)) - z / count

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix, ``(B, h, N, d)``."""
        return self._heads(self.qkvo(x).chunk(4, 1)[2]).transpose(2, 3)

    def _heads(self, x: Tensor) -> Tensor:
        """Cut a map into heads, in single precision at least, ``(B, h, d, N)``."""
        return torch.unflatten(at_least_single(x).flatten(2), 1, (self.heads, -1))

    def _features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        """Return the features of queries; those of both, turned by their places; the keys' sums; and the factor c."""
        H, W = q.shape[2:]
        q, k = (F.elu(self._heads(t)) + 1 for t in (q, k))
        cosine, sine = self._rotation(H, W, q)
        turned_q, turned_k = (_turned(t, cosine, sine) for t in (q, k))
        factor = 1.0 if self.form == "paper" else q.shape[2] ** -0.5 / (H * W)
        return q, turned_q, turned_k, k.sum(3, keepdim=True), factor

    def _rotation(self, H: int, W: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of each pair of channels at each cell, ``(d / 2, N)``: half turn by row."""
        count = self.channels // self.heads // 4
        speeds = like.new_tensor([SLOWEST ** (-i / max(1, count - 1)) for i in range(count)])[:, None, None]
        y, x = (torch.arange(size, device=like.device).to(like.dtype) for size in (H, W))
        by_row, by_column = (speeds * y[:, None]).expand(count, H, W), (speeds * x).expand(count, H, W)
        angles = torch.cat((by_row, by_column)).flatten(1)
        return angles.cos(), angles.sin()


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels of ``(B, h, d, N)``."""
    even, odd = x[:, :, ::2], x[:, :, 1::2]
    return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), 3).flatten(2, 3)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``AddLinearAttention``.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `MALA`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    return renamed("AddLinearAttention", state, {"qkvo": "qkvo", "lepe": "local", "proj": "proj"})
