"""CAA: gate every value by long depth-wise strips over a smoothed map.

Paper: Poly Kernel Inception Network for Remote Sensing Detection, Cai et al., CVPR 2024, arXiv 2403.06258.
Code: NUST-Machine-Intelligence-Laboratory/PKINet (Apache-2.0), read for parity only.
Differs: The reference returns the gate and leaves the product to its block; here the product is part of the module.
    As there, the smoothing counts cells outside the map as zeros, and SiLU comes before the sigmoid, so the gate lies
    above 0.43. Convolutions start as PyTorch's; those of the reference start Kaiming-normal, by fan-out, without bias.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import odd
from attngraft._core.registry import register
from attngraft.attention._base import Attention

SMOOTHING = 7


@register(
    role="gate",
    family="large-kernel gate",
    year=2024,
    formula="x * sigmoid(silu(BN(P_2 DW_kx1 DW_1xk silu(BN(P_1 mean_7x7(x))))))",
    cost="2 * C * N * (C + kernel_size)",
    row=("kernel_size",),
    signatures=(("kernel_size", "kernel_size"),),
    growth="N",
)
class CAA(Attention):
    """Gate every value by a wide and a tall strip of its neighbourhood.

    In training the batch norms need more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        kernel_size: Odd length of the two strips, in cells.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``kernel_size`` is even or below 1.

    Example:
        >>> import torch
        >>> CAA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, kernel_size: int = 11) -> None:
        super().__init__(channels)
        odd("CAA", kernel_size=kernel_size)
        self.kernel_size = kernel_size
        reach = kernel_size // 2
        self.gate = nn.Sequential(
            *_pointwise(channels),
            nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, reach), groups=channels),
            nn.Conv2d(channels, channels, (kernel_size, 1), padding=(reach, 0), groups=channels),
            *_pointwise(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``."""
        smooth = F.avg_pool2d(x, SMOOTHING, stride=1, padding=SMOOTHING // 2)
        gate: Tensor = self.gate(smooth).sigmoid()
        return gate


def _pointwise(channels: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.SiLU]:
    """Build a 1x1 convolution with the reference's batch norm and SiLU."""
    return (
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03),
        nn.SiLU(),
    )
