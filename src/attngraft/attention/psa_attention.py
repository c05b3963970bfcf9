"""PSAAttention: global self-attention with narrow keys and a depth-wise positional term on the values.

Paper: YOLOv10: Real-Time End-to-End Object Detection, Wang et al., NeurIPS 2024, arXiv 2405.14458.
Code: ultralytics/ultralytics, ultralytics/nn/modules/block.py, Attention (AGPL-3.0), oracle of a test.
Differs: Nothing in the maths. Where Ultralytics' rule C // 64 does not divide C, the number of heads is the largest
    below it that does.
"""

from __future__ import annotations

from torch import Tensor

from attngraft._core.checks import divides, largest_divisor
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._kernels import attend
from attngraft.attention._rows import Cells, Mixture, chosen_logits, softmax
from attngraft.attention._tokens import psa_heads


@register(
    name="psa_attention",
    role="mixer",
    family="global self-attention",
    year=2024,
    formula="BN W_o (softmax(q k^T / sqrt(d_k)) v + DW3(v)), d_k = key_ratio * d",
    cost="(C * (C + 2 * key_channels) + 9 * C + C**2) * N + (key_channels + C) * N**2",
    row=("heads", "key_ratio"),
    growth="N",
)
class PSAAttention(Attention):
    """Attend over the whole map with keys narrower than the values.

    It is the attention inside the C2PSA block of YOLOv10, YOLO11 and YOLO26. The position of a cell is told by a
    depth-wise 3x3 convolution of the values, so the layer takes a map of any size.

    Args:
        channels: Number of channels C.
        heads: Number of heads; a divisor of C. None takes the largest divisor that is at most C / 64.
        key_ratio: Width of a key as a part of the width d = C / heads of a value, in (0, 1].

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide ``channels``, or ``key_ratio`` is outside (0, 1] or leaves no key.

    Example:
        >>> import torch
        >>> attention = PSAAttention(256)
        >>> attention.heads, attention(torch.randn(2, 256, 7, 5)).shape
        (4, torch.Size([2, 256, 7, 5]))
    """

    mixture = Mixture()

    def __init__(self, channels: int, *, heads: int | None = None, key_ratio: float = 0.5) -> None:
        super().__init__(channels)
        self.heads = largest_divisor(channels, psa_heads(channels)) if heads is None else heads
        divides("PSAAttention", "heads", self.heads, channels)
        self.key_ratio = key_ratio
        self.value_dim = channels // self.heads
        self.key_dim = _key_dim(self.value_dim, key_ratio)
        self.key_channels = self.heads * self.key_dim
        self.qkv = conv_norm(channels, channels + 2 * self.key_channels)
        self.position = conv_norm(channels, channels, 3, groups=channels)
        self.proj = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each cell gathered from the map."""
        self.check(x)
        q, k, v = self._vectors(x)
        gathered = attend(q, k, v, scale=self.key_dim**-0.5)  # (B, h, d, N)
        out: Tensor = self.proj(gathered.reshape(x.shape) + self.position(v.reshape(x.shape)))
        return out

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``.

        They leave out the positional convolution of the values, which is added to the mixture.
        """
        q, k, _ = self._vectors(x)
        return softmax(chosen_logits(q.transpose(2, 3), k.transpose(2, 3), cells, self.key_dim**-0.5)[1])

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the last projection, ``(B, h, N, d)``."""
        return self._vectors(x)[2].transpose(2, 3)

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(x).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, 2 d_k + d, N)
        q, k, v = qkv.split((self.key_dim, self.key_dim, self.value_dim), 2)
        return q, k, v


def _key_dim(value_dim: int, key_ratio: float) -> int:
    if not 0 < key_ratio <= 1:
        raise OptionError(f"PSAAttention needs key_ratio above 0 and at most 1, got {key_ratio}; the paper takes 0.5")
    key_dim = int(value_dim * key_ratio)
    if key_dim < 1:
        raise OptionError(
            f"PSAAttention needs keys of 1 channel or more, got key_ratio={key_ratio} of {value_dim} channels a head; "
            f"use a key_ratio of {1 / value_dim:.3g} or more, or fewer heads"
        )
    return key_dim
