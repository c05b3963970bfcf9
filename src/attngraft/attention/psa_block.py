"""PositionSensitiveBlock: the C2PSA block, which passes half of the channels through attention and a small MLP.

Paper: YOLOv10: Real-Time End-to-End Object Detection, Wang et al., NeurIPS 2024, arXiv 2405.14458.
Code: ultralytics/ultralytics, ultralytics/nn/modules/block.py, C2PSA (AGPL-3.0), oracle of a test.
Differs: Nothing in the maths; the deviations of PSAAttention, which it is made of, apply.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attngraft._core.checks import positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._rows import Cells
from attngraft.attention.psa_attention import PSAAttention


@register(
    name="psa_block",
    role="gate",
    family="global self-attention",
    year=2024,
    formula="W_2 [a; z], [a; b] = W_1 x, y = b + attention(b), z = y + MLP(y)",
    cost="(4 * C * hidden + blocks * hidden * (6 * hidden + 2 * key_channels + 9)) * N "
    "+ blocks * (key_channels + hidden) * N**2",
    growth="N",
)
class PositionSensitiveBlock(Attention):
    """Pass a part of the channels through layers of attention and MLP, and merge it with the rest.

    The layers add to their input, so a graft blends the block with the identity instead of adding it.

    Args:
        channels: Number of channels C.
        blocks: Number of layers.
        expansion: Width of the attended part as a part of C, in (0, 1].

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``blocks`` is below 1, or ``expansion`` is outside (0, 1] or leaves no channel.

    Example:
        >>> import torch
        >>> PositionSensitiveBlock(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, blocks: int = 1, expansion: float = 0.5) -> None:
        super().__init__(channels)
        positive("PositionSensitiveBlock", channels=channels, blocks=blocks)
        self.blocks = blocks
        self.expansion = expansion
        self.hidden = int(channels * expansion)
        if not 1 <= self.hidden <= channels:
            raise OptionError(
                f"PositionSensitiveBlock needs an expansion that attends to 1 to {channels} channels, got {expansion}, "
                f"which is {self.hidden} of {channels}; the paper takes 0.5"
            )
        self.spread = nn.Sequential(*conv_norm(channels, 2 * self.hidden), nn.SiLU())
        layers = [PositionSensitiveLayer(self.hidden) for _ in range(blocks)]
        self.key_channels = layers[0].attention.key_channels
        self.layers = nn.Sequential(*layers)
        self.merge = nn.Sequential(*conv_norm(2 * self.hidden, channels), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed map."""
        self.check(x)
        passed, attended = self.spread(x).chunk(2, 1)
        merged: Tensor = self.merge(torch.cat((passed, self.layers(attended)), 1))
        return merged

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights of the last layer's attention, ``(B, h, Q, N)``, over what reaches that layer.

        They leave out its positional convolution; residual and MLP come after it, and half of the channels pass by.
        """
        return self._last().attention.attention_rows(self._attended(x), cells)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what those weights mix before the attention's projection, ``(B, h, N, d)``."""
        return self._last().attention.attention_values(self._attended(x))

    def _last(self) -> PositionSensitiveLayer:
        last = self.layers[-1]
        assert isinstance(last, PositionSensitiveLayer)
        return last

    def _attended(self, x: Tensor) -> Tensor:
        """Return the map that the last layer is given."""
        attended: Tensor = self.spread(x).chunk(2, 1)[1]
        for layer in self.layers[:-1]:
            attended = layer(attended)
        return attended


class PositionSensitiveLayer(nn.Module):
    """Add attention, then add an MLP of twice the width.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = PSAAttention(channels)
        self.mlp = nn.Sequential(*conv_norm(channels, 2 * channels), nn.SiLU(), *conv_norm(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the same shape."""
        attended: Tensor = x + self.attention(x)
        mapped: Tensor = self.mlp(attended)
        return attended + mapped
