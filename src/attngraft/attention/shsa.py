"""SHSA: attend in a single head over a part of the channels, and let a projection mix it with the rest.

Paper: SHViT: Single-Head Vision Transformer with Memory Efficient Macro Design, Yun and Ro, CVPR 2024,
    arXiv 2401.16456.
Code: ysj9909/SHViT, model/shvit.py (MIT), read for parity only.
Differs: Nothing in the output. The authors' networks attend to 1/4.67 of the channels, the defaults of their class to
    a quarter, as here; attended_channels takes another number. The scales of the last norm start at one: a graft begins
    as the identity by a zero factor of its own, and two zeros in a product would never learn; zero_init=True is the
    authors' start.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from attngraft._core.checks import positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._gates import GroupNorm
from attngraft.attention._kernels import attend
from attngraft.attention._official import renamed
from attngraft.attention._rows import Cells, Mixture, chosen_logits, softmax


@register(
    family="global self-attention",
    year=2024,
    formula="BN(W_o relu([softmax(q k^T / sqrt d) v; x_2])), q k v = BN(W GN(x_1)), [x_1; x_2] = x",
    cost="N * (attended * (2 * key_dim + attended) + C**2) + N**2 * (key_dim + attended)",
    row=("key_dim", "attended_channels"),
    aliases=("SHSABlock", "SingleHeadSelfAttention"),
    growth="N",
)
class SHSA(Attention):
    """Attend from every cell to every cell with one head over the first channels.

    Memory grows with N, not with its square. In training the batch norms need more than one cell in the batch: a single
    1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        key_dim: Channels of queries and keys.
        attended_channels: Channels that are normalised, attended to and mixed; None for a quarter of C, at least one.
        zero_init: Whether the last norm starts at zero, as the authors' does; never together with a graft's own zero.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``attended_channels`` is above C.

    Example:
        >>> import torch
        >>> SHSA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(enters="mixed")

    def __init__(
        self, channels: int, *, key_dim: int = 16, attended_channels: int | None = None, zero_init: bool = False
    ) -> None:
        super().__init__(channels)
        attended = max(1, channels // 4) if attended_channels is None else attended_channels
        positive("SHSA", channels=channels, key_dim=key_dim, attended_channels=attended)
        if attended > channels:
            raise OptionError(
                f"SHSA needs attended_channels of at most channels={channels}, got {attended}; "
                f"the paper takes about {max(1, channels // 4)}"
            )
        self.key_dim = key_dim
        self.attended_channels = attended_channels
        self.attended = attended
        self.zero_init = zero_init
        self.norm = GroupNorm(1, attended)
        self.qkv = conv_norm(attended, 2 * key_dim + attended)
        self.mixed = nn.Identity()  # where what was mixed can be read off
        self.proj = conv_norm(channels, channels)
        if zero_init:
            nn.init.zeros_(self.proj.get_parameter("1.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected map."""
        self.check(x)
        q, k, v = self._vectors(x)
        attended, passed = x.split_with_sizes((self.attended, self.channels - self.attended), 1)
        mixed = self.mixed(attend(q, k, v, scale=self.key_dim**-0.5).reshape(attended.shape))
        projected: Tensor = self.proj(torch.cat((mixed, passed), 1).relu())
        return projected

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, 1, Q, N)``.

        The other channels pass by, and the projection comes after.
        """
        q, k, _ = self._vectors(x)
        return softmax(chosen_logits(q.transpose(2, 3), k.transpose(2, 3), cells, self.key_dim**-0.5)[1])

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the projection, ``(B, 1, N, attended channels)``."""
        return self._vectors(x)[2].transpose(2, 3)

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values of the one head, ``(B, 1, d, N)``."""
        qkv: Tensor = self.qkv(self.norm(x[:, : self.attended])).flatten(2).unsqueeze(1)
        return qkv.split_with_sizes((self.key_dim, self.key_dim, self.attended), 2)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``SHSA``, which has the widths ``(channels, key_dim, attended_channels)``.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `SHSA`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    names = {"pre_norm": "norm", "qkv.c": "qkv.0", "qkv.bn": "qkv.1", "proj.1.c": "proj.0", "proj.1.bn": "proj.1"}
    return renamed("SHSA", state, names)
