"""CascadedGroupAttention: each head attends within windows to its share of the channels plus what the last head found.

Paper: EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention, Liu et al., CVPR 2023, arXiv
    2305.07027.
Code: microsoft/Cream, EfficientViT/classification/model/efficientvit.py (MIT), read for parity only.
Differs: Maps that windows do not divide are filled up at their end; the cells of the filling take no attention and no
    part in the norms, where the code treats them as cells of a map padded with zeros, border="zero". The code is tied
    to one map size. The scales of the last norm start at one: a graft begins as the identity by a zero factor of its
    own, and two zeros in a product would never learn; zero_init=True is the authors' start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import divides, is_tracing, odd, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft._core.sizes import round_up
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast
from attngraft.attention._rows import Cells, Mixture, both, choose, near_rows, pairs, query_cells
from attngraft.attention._tokens import fit_heads
from attngraft.attention._windows import cut, join, pad_end


@register(
    name="cascaded_group",
    family="window self-attention",
    year=2023,
    formula="BN(W_o relu(y)), y_h = softmax(DW(q_h) k_h^T / sqrt(d) + b_h) v_h within windows, "
    "q_h k_h v_h = BN(W_h (x_h + y_{h-1}))",
    cost=(
        "N * C * (2 * key_dim + C // heads + C)"
        " + ceiling(H / window) * ceiling(W / window) * window**2"
        " * (taps + window**2 * (key_dim * heads + C))"
    ),
    row=("key_dim", "heads", "window"),
    aliases=("LocalWindowAttention",),
    signatures=(
        ("key_dim", "heads"),
        ("key_dim", "heads", "_", "_", "kernel_sizes"),
        ("key_dim", "heads", "_", "_", "window", "kernel_sizes"),
    ),
    growth="N",
)
class CascadedGroupAttention(Attention):
    """Attend within windows, one head after the other, each to its own share of the channels.

    In training the batch norms need more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        key_dim: Channels of a head for queries and keys.
        heads: Number of heads; divides C.
        window: Side of a window in cells, M.
        kernel_sizes: Odd sides of the convolutions of the queries: one for all heads, or one a head.
        border: ``"mask"`` keeps the cells that fill up the last windows out of everything; ``"zero"`` treats them as
            cells of a map padded with zeros, as the reference does.
        zero_init: Whether the last norm starts at zero, as the authors' does; never together with a graft's own zero.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C, or an option is out of its range.

    Example:
        >>> import torch
        >>> CascadedGroupAttention(64)(torch.randn(1, 64, 13, 9)).shape
        torch.Size([1, 64, 13, 9])
    """

    mixture = Mixture(enters="mixed")

    def __init__(
        self,
        channels: int,
        *,
        key_dim: int = 16,
        heads: int = 4,
        window: int = 7,
        kernel_sizes: Sequence[int] = (5,),
        border: str = "mask",
        zero_init: bool = False,
    ) -> None:
        super().__init__(channels)
        who = "CascadedGroupAttention"
        divides(who, "heads", heads, channels)
        positive(who, key_dim=key_dim, window=window)
        one_of(who, "border", border, ("mask", "zero"))
        if len(kernel_sizes) not in (1, heads):
            raise OptionError(
                f"{who} needs one of kernel_sizes, or one for each of {heads} heads, got {kernel_sizes!r}"
            )
        for size in kernel_sizes:
            odd(who, kernel_size=size)
        self.key_dim = key_dim
        self.heads = heads
        self.window = window
        self.kernel_sizes = tuple(kernel_sizes)
        self.border = border
        self.zero_init = zero_init
        sizes = self.kernel_sizes * (heads // len(self.kernel_sizes))
        self.taps = sum(size**2 for size in sizes) * key_dim
        self.head_dim = channels // heads
        self.qkv = nn.ModuleList(conv_norm(self.head_dim, 2 * key_dim + self.head_dim) for _ in sizes)
        self.local = nn.ModuleList(conv_norm(key_dim, key_dim, size, groups=key_dim) for size in sizes)
        self.table = nn.Parameter(torch.zeros(heads, window, window))  # by the distances along y and x
        self.mixed = nn.Identity()  # where what each head mixed can be read off, before the next head takes it
        self.proj = conv_norm(channels, channels)
        if zero_init:
            nn.init.zeros_(self.proj.get_parameter("1.weight"))

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width."""
        return fit_heads(channels, 4)

    def macs(self, height: int, width: int) -> int:
        """Count the multiply-adds of one image; with ``border="zero"`` those of the padded map."""
        if self.border == "zero":
            height, width = round_up(height, self.window), round_up(width, self.window)
        return super().macs(height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected results of all heads."""
        self.check(x)
        H, W = x.shape[2:]
        found = torch.cat([out for *_, out in self._cascade(x, self.mixed)], 1)
        projected: Tensor = self.proj(found.relu())
        return projected[:, :, :H, :W]

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero off their window.

        With ``border="zero"`` the mass that a row lacks went to the cells that fill up the map.
        """
        H, W = x.shape[2:]
        M = self.window
        index = query_cells(cells, len(x), H * W, x.device)
        y, column = index // W, index % W  # (B, Q)
        rows, columns = (
            (place // M * M).unsqueeze(2) + torch.arange(M, device=x.device) for place in (y, column)
        )  # (B, Q, M)
        down, right = ((keys - own.unsqueeze(2)).abs() for keys, own in ((rows, y), (columns, column)))
        found = []
        for head, (q, k, _, _) in enumerate(self._cascade(x)):
            height, width = q.shape[2:]  # of the map, or of the padded one
            q, k = (t.flatten(2).transpose(1, 2).unsqueeze(1) for t in (q, k))  # (B, 1, N', d)
            logits = choose(q, y * width + column) * self.key_dim**-0.5 @ k.transpose(2, 3)
            inside = both(rows < height, columns < width).unsqueeze(1)
            bias = self.table[head][down.unsqueeze(3), right.unsqueeze(2)].flatten(2).unsqueeze(1)  # (B, 1, Q, M * M)
            weights = near_rows(logits, pairs(rows, columns, width).unsqueeze(1), inside, bias=bias)
            found.append(torch.unflatten(weights, 3, (height, width))[..., :H, :W].flatten(3))
        return torch.cat(found, 1)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the projection, ``(B, h, N, C / h)``."""
        H, W = x.shape[2:]
        values = [v[:, :, :H, :W].flatten(2) for _, _, v, _ in self._cascade(x)]
        return torch.stack(values, 1).transpose(2, 3)

    def _cascade(self, x: Tensor, mixed: nn.Module | None = None) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Return queries, keys, values and results of each head, as maps; with ``border="zero"`` padded ones.

        Args:
            x: The input.
            mixed: What each result passes through.
        """
        if self.border == "zero":
            x = pad_end(x.permute(0, 2, 3, 1), self.window, 0.0).permute(0, 3, 1, 2)
        widths = (self.key_dim, self.key_dim, self.head_dim)
        found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for head, share in enumerate(x.chunk(self.heads, 1)):
            q, k, v = self.qkv[head](share + found[-1][3] if found else share).split_with_sizes(widths, 1)
            q = self._convolved(q, head)
            out = self._attend(q, k, v, head)
            found.append((q, k, v, mixed(out) if mixed else out))
        return found

    def _convolved(self, q: Tensor, head: int) -> Tensor:
        """Convolve queries within each window, beyond which are zeros, and normalise them on the map."""
        conv, norm = self.local[head].children()
        windows = torch.unflatten(self._cut(q).transpose(1, 2), 2, (self.window, self.window))  # (n, d, M, M)
        normed: Tensor = norm(self._join(conv(windows).flatten(2).transpose(1, 2), q))
        return normed

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, head: int) -> Tensor:
        """Return what each cell of a map gathers from its window, ``(B, C / h, H, W)``."""
        B, _, H, W = q.shape
        queries, keys, values = (self._cut(t) for t in (q, k, v))  # (n, M * M, d)
        with no_autocast(q):
            logits = at_least_single(queries) * self.key_dim**-0.5 @ at_least_single(keys).transpose(1, 2)
            logits = logits + self._bias(head).to(logits.dtype)  # (n, M * M, M * M)
            if is_tracing() or H % self.window or W % self.window:
                on_map = self._cut(q.new_ones(1, 1, H, W)).transpose(1, 2)  # (windows of a map, 1, M * M)
                windows = logits.reshape(B, -1, *logits.shape[1:])
                logits = windows.masked_fill(on_map == 0, -torch.inf).flatten(0, 1)
            weights = logits.softmax(2)
        return self._join(weights.to(v.dtype) @ values, v)

    def _bias(self, head: int) -> Tensor:
        """Return the bias of each pair of cells of a window by their distances, ``(M * M, M * M)``."""
        place = torch.arange(self.window, device=self.table.device)
        apart = (place[:, None] - place).abs()  # (M, M)
        return self.table[head][apart[:, None, :, None], apart[None, :, None]].flatten(2).flatten(0, 1)

    def _cut(self, x: Tensor) -> Tensor:
        """Cut a map ``(B, c, H, W)``, filled up with zeros, into windows ``(n, M * M, c)``."""
        return cut(pad_end(x.permute(0, 2, 3, 1), self.window, 0.0), self.window, 1).squeeze(1)

    def _join(self, windows: Tensor, like: Tensor) -> Tensor:
        """Put windows together to a map of the size of another: undo `_cut`."""
        H, W = like.shape[2:]
        height, width = round_up(H, self.window), round_up(W, self.window)
        return join(windows.unsqueeze(1), self.window, height, width)[:, :H, :W].permute(0, 3, 1, 2)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``CascadedGroupAttention``, whose ``resolution`` is our ``window``.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `CascadedGroupAttention`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    kept = {name: tensor for name, tensor in state.items() if name not in ("attention_bias_idxs", "ab")}
    heads = {name.split(".")[1] for name in kept if name.startswith("qkvs.")}
    names = {"attention_biases": "table", "proj.1.c": "proj.0", "proj.1.bn": "proj.1"}
    for head in heads:
        names |= {f"qkvs.{head}.c": f"qkv.{head}.0", f"qkvs.{head}.bn": f"qkv.{head}.1"}
        names |= {f"dws.{head}.c": f"local.{head}.0", f"dws.{head}.bn": f"local.{head}.1"}
    found = renamed("CascadedGroupAttention", kept, names)
    side = round(found["table"].shape[1] ** 0.5)
    return found | {"table": found["table"].reshape(-1, side, side)}
