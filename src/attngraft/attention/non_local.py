"""NonLocal: every cell gathers the values of all cells by softmax attention, or by plain dot products.

Paper: Non-local Neural Networks, Wang et al., CVPR 2018, arXiv 1711.07971.
Code: facebookresearch/video-nonlocal-net, lib/models/nonlocal_helper.py (Apache-2.0), read for parity only.
Differs: The paper's logits are not scaled and keys are not pooled by default; the reference's default scales them,
    scale=True, and pools, which is not built. The Gaussian and concatenation forms are not built. The output layer
    has no bias, which its batch norm would cancel. Its scales start at one, not at zero: a graft begins as the
    identity by a zero factor of its own, and two zeros in a product would never learn; zero_init=True is the paper's
    start.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import one_of
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import fit_reduction, hidden_channels
from attngraft.attention._rows import Cells, Mixture, chosen_logits, softmax
from attngraft.attention._tokens import to_map, to_tokens


@register(
    role="mixer",
    family="global self-attention",
    year=2018,
    formula="BN(W_z y), y = softmax(theta(x) phi(x)^T) g(x) or theta(x) phi(x)^T g(x) / N",
    cost="4 * C * hidden * N + 2 * hidden * N * (N if pairwise else hidden)",
    row=("reduction",),
    aliases=("NonLocalBlock", "NONLocalBlock2D", "NonLocalBlockND"),
    alias_signatures={"NONLocalBlock2D": (("off", "_"),), "NonLocalBlockND": (("_", "off", "_"),)},
    growth="N",
)
class NonLocal(Attention):
    """Attend from every cell to every cell in one head of C / reduction channels, without positions.

    The paper adds the result to the map; that shortcut is the graft's. Memory grows with N, not with its square: the
    softmax form runs in the fused attention kernel, the dot product form multiplies keys and values first. In training
    the batch norm needs more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower the attention is than C; at most C.
        form: "embedded_gaussian" (softmax) or "dot_product".
        scale: Whether the softmax form divides its logits by the square root of their width.
        zero_init: Whether the last norm starts at zero, as in the paper; never together with a graft's own zero.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves no hidden channel, or there is no such ``form``.

    Example:
        >>> import torch
        >>> NonLocal(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture()

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        form: str = "embedded_gaussian",
        scale: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__(channels)
        one_of("NonLocal", "form", form, ("embedded_gaussian", "dot_product"))
        self.hidden = hidden_channels("NonLocal", channels, reduction)
        self.reduction = reduction
        self.form = form
        self.pairwise = form == "embedded_gaussian"
        self.scale = scale
        self.zero_init = zero_init
        self.theta_phi_g = nn.Linear(channels, 3 * self.hidden)
        self.proj = nn.Conv2d(self.hidden, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        if zero_init:
            nn.init.zeros_(self.norm.weight)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on a map of one channel."""
        return fit_reduction(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each cell gathered from the map."""
        self.check(x)
        H, W = x.shape[2:]
        tokens = to_tokens(x)  # (B, N, C)
        theta, phi, g = self.theta_phi_g(tokens).chunk(3, 2)  # (B, N, hidden) each
        if self.form == "dot_product":
            gathered = theta @ (phi.transpose(1, 2) @ (g / (H * W)))  # (B, N, hidden)
        else:
            q, k, v = (part.unsqueeze(1) for part in (theta, phi, g))  # (B, 1, N, hidden) each
            gathered = F.scaled_dot_product_attention(q, k, v, scale=None if self.scale else 1.0).squeeze(1)
        out: Tensor = self.norm(self.proj(to_map(gathered, H, W)))
        return out

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, 1, Q, N)``.

        Those of the dot product form have both signs and any sum.
        """
        theta, phi, _ = self._vectors(x)
        if self.form == "dot_product":
            return chosen_logits(theta, phi, cells, 1 / phi.shape[2])[1]
        return softmax(chosen_logits(theta, phi, cells, self.hidden**-0.5 if self.scale else 1.0)[1])

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the last projection, ``(B, 1, N, hidden)``."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta, phi, g = self.theta_phi_g(to_tokens(x)).unsqueeze(1).chunk(3, 3)  # (B, 1, N, hidden)
        return theta, phi, g
