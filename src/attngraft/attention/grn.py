"""GRN: scale each channel by its share of the map's energy, and add the map itself.

Paper: ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders, Woo et al., CVPR 2023, arXiv 2301.00808.
Code: facebookresearch/ConvNeXt-V2, models/utils.py (MIT; the weights are CC-BY-NC-4.0), read for parity only.
Differs: Nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attngraft._core.checks import positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    name="grn",
    role="gate",
    family="channel gate",
    starts_as_identity=True,
    year=2023,
    formula="x + gamma x norm_c / (mean_c norm_c + eps) + beta, norm_c the L2 norm of channel c over HW",
    cost="0",
    growth="N",
    aliases=("GlobalResponseNorm",),
)
class GRN(Attention):
    """Let channels compete: each is scaled by its norm over the map, relative to the mean of all channels' norms.

    Scale and offset start at zero, so the module starts as the identity by itself and a graft gives it no factor.

    Args:
        channels: Number of channels C.
        eps: What is added to the mean of the norms.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``eps`` is not above 0.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(GRN(64)(x), x)
        True
    """

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        super().__init__(channels)
        positive("GRN", channels=channels)
        if not eps > 0:
            raise OptionError(f"GRN needs eps above 0, got {eps!r}; the paper's code uses 1e-6")
        self.eps = eps
        self.scale = nn.Parameter(torch.zeros(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with its channels rescaled."""
        self.check(x)
        return x * self.gate_map(x) + self.offset[:, None, None].to(x.dtype)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the factor of each channel, ``(B, C, 1, 1)``; it has no bounds, and the offset is added after it."""
        single = torch.promote_types(x.dtype, torch.float32)  # half precision cannot hold the norm of a large map
        norms = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True, dtype=single)  # (B, C, 1, 1)
        share = norms / (norms.mean(1, keepdim=True) + self.eps)
        return 1 + self.scale[:, None, None] * share.to(x.dtype)
