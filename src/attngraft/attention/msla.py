"""MSLA: convolve a quarter of the channels at each of four sizes, and let each attend over the map in linear time.

Paper: MSLAU-Net: A Hybrid CNN-Transformer Network for Medical Image Segmentation, Lan et al., 2025, arXiv 2505.18823.
Code: Monsoon49/MSLAU-Net, networks (no licence file seen), figures only.
Differs: The default is efficient attention (arXiv 1812.01243): queries are softmaxed over the channels of a head and
    keys over the cells, so that a row sums to one. The authors' code has it the other way round, form="code". It also
    takes the memory of tokens for that of maps and puts the results of several heads together in the wrong order;
    neither is reproduced. The four parts share one attention, as in the code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from attngraft._core.checks import divides, multiple_of, one_of
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast
from attngraft.attention._rows import Cells, Mixture, choose, query_cells
from attngraft.attention._tokens import psa_heads

KERNEL_SIZES = (3, 5, 7, 9)


@register(
    family="linear self-attention",
    year=2025,
    formula="W concat_i(s_i W_o(softmax_c(q_i) (softmax_n(k_i)^T v_i))), q k v of relu(x_i + DW_k x_i), k = 3, 5, 7, 9",
    cost="N * C * (41 + 2 * C + 2 * (C // 4 // heads))",
    row=("heads",),
    aliases=("MultiScaleLinearAttention",),
    signatures=(("heads",),),
    alias_defaults={"C2MSLA": {"heads": psa_heads}},
    growth="N",
)
class MSLA(Attention):
    """Attend over the map in linear time at four scales, a quarter of the channels each.

    Args:
        channels: Number of channels C, a multiple of 4.
        heads: Number of heads of each quarter; divides C / 4.
        form: ``"paper"``, or ``"code"`` for the softmaxes of the authors' code.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If C is no multiple of 4, ``heads`` does not divide C / 4, or there is no such ``form``.

    Example:
        >>> import torch
        >>> MSLA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(enters="mixed")

    def __init__(self, channels: int, *, heads: int = 1, form: str = "paper") -> None:
        super().__init__(channels)
        multiple_of("MSLA", len(KERNEL_SIZES), channels)
        part = channels // len(KERNEL_SIZES)
        divides("MSLA (each quarter)", "heads", heads, part)
        one_of("MSLA", "form", form, ("paper", "code"))
        self.heads = heads
        self.form = form
        self.local = nn.ModuleList(nn.Conv2d(part, part, k, padding=k // 2, groups=part) for k in KERNEL_SIZES)
        self.qkv = nn.Conv2d(part, 3 * part, 1, bias=False)
        self.mixed = nn.Identity()  # where what was mixed can be read off
        self.proj = nn.Conv2d(part, part, 1)
        self.scales = nn.Parameter(torch.ones(len(KERNEL_SIZES)))
        self.merge = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the merged scales."""
        self.check(x)
        q, k, v = self._vectors(x)
        with no_autocast(x):
            gathered = (at_least_single(v) @ k.transpose(3, 4)) @ q  # (B, 4, h, d, N)
        mixed = self.mixed(gathered.reshape(x.shape).to(v.dtype))
        scales = self.scales.repeat_interleave(self.channels // len(KERNEL_SIZES))[:, None, None]
        merged: Tensor = self.merge(self.proj(self._parts(mixed)).reshape(x.shape) * scales)
        return merged

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, 4h, Q, N)``, scale by scale.

        The operator never makes them: they are what its products of sums imply. In the code's form they have any sum.
        """
        q, k, _ = (t.flatten(1, 2) for t in self._vectors(x))  # (B, 4h, d, N)
        index = query_cells(cells, len(x), q.shape[3], x.device)
        with no_autocast(x):
            return choose(q.transpose(2, 3), index) @ k

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the projections, ``(B, 4h, N, d)``."""
        return self._vectors(x)[2].flatten(1, 2).transpose(2, 3)

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return softmaxed queries and keys, and values, ``(B, 4, h, d, N)``."""
        parts = x.chunk(len(KERNEL_SIZES), 1)
        local = [(part + conv(part)).relu() for part, conv in zip(parts, self.local, strict=True)]
        qkv = self.qkv(self._parts(torch.cat(local, 1))).flatten(2)  # (4B, 3C / 4, N)
        q, k, v = (t.reshape(x.shape[0], len(KERNEL_SIZES), self.heads, -1, t.shape[2]) for t in qkv.chunk(3, 1))
        over_q, over_k = (3, 4) if self.form == "paper" else (4, 3)
        return at_least_single(q).softmax(over_q), at_least_single(k).softmax(over_k), v

    def _parts(self, x: Tensor) -> Tensor:
        """Put the four quarters of the channels one after the other, as images, ``(4B, C / 4, H, W)``."""
        return x.reshape(-1, self.channels // len(KERNEL_SIZES), *x.shape[2:])


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``MSLA``, and turn its linear layers to 1x1 convolutions.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `MSLA`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    names = {f"dw_conv_{k}x{k}.depthwise": f"local.{i}" for i, k in enumerate(KERNEL_SIZES)}
    names |= {"linear_attention.qkv": "qkv", "linear_attention.proj": "proj", "final_conv": "merge"}
    found = renamed("MSLA", state, {**names, "scale_weights": "scales"})
    return {name: t[..., None, None] if name in ("qkv.weight", "proj.weight") else t for name, t in found.items()}
