"""PlainConv: a 3×3 and a 1×1 convolution, as wide as is asked for; the control for what mere capacity does.

Paper: None; it is a control. An attention that does not beat it at equal cost did not help because it is attention.
Code: None.
Differs: Nothing.
"""

from __future__ import annotations

from torch import Tensor, nn

from attngraft._core.checks import positive
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    role="mixer",
    family="control",
    year=2026,
    formula="W2 silu(norm(conv3_{C->width}(x)))",
    cost="10 * N * C * width",
    growth="N",
)
class PlainConv(Attention):
    """Mix each cell with its eight neighbours through a hidden map of any width.

    It has ``10 C width + 2 width + C`` parameters, so that the width can be chosen to match another mechanism's.

    Args:
        channels: Number of channels C.
        width: Channels of the hidden map.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``width`` is below 1.

    Example:
        >>> import torch
        >>> PlainConv(64, width=5)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    no_map = "it convolves with fixed filters, which weigh nothing by what is on the image"

    def __init__(self, channels: int, *, width: int = 16) -> None:
        super().__init__(channels)
        positive("PlainConv", width=width)
        self.width = width
        self.near = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.SiLU()
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixture."""
        self.check(x)
        y: Tensor = self.out(self.act(self.norm(self.near(x))))
        return y
