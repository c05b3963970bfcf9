"""What the attentions within windows share: cutting a map, blocking cells, positions relative to each other.

Legend: B images of H × W cells and C channels, in h heads of d channels; windows of M × M cells; keys may come from
larger windows of K × K cells; n windows in all images together. Maps are laid out ``(B, H, W, C)``, windows
``(n, h, M * M, d)``.

**How cells are blocked.** A fused kernel takes one additive mask, and the position bias needs that place with a shape
that all windows share; a mask for every window would cost h·M² numbers a cell. Where a few groups of windows share one
each, as on a shifted map of whole windows, it is added to the bias. Elsewhere a blocked pair travels inside the
product: each query and key gets a few more channels, a code, whose product is 0 for a pair that may meet and
``-BLOCKED`` or less for one that may not. Each single term is 0 for a pair that may meet, so its logit is not even
rounded differently. A key outside the map has ones for a code (the map is padded with ones), and the code of every
query has a channel with ``-BLOCKED``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attngraft._core.checks import is_tracing
from attngraft._core.sizes import round_up

BLOCKED = 2.0**14
"""Far beyond any logit, yet finite in half precision even after two of them are added."""


def padded_width(head_dim: int, code: int) -> int:
    """Return the width of a head with its code, rounded up to what the fused kernels of every device take.

    Example:
        >>> padded_width(30, 1), padded_width(30, 4)
        (32, 40)
    """
    return round_up(head_dim + code, 8)


def wants_filling(head_dim: int, device: torch.device) -> bool:
    """Tell whether heads are to be filled up to the next width that the fused kernels of a device take."""
    return device.type not in ("cpu", "meta") and head_dim % 8 > 0


def with_code(qkv: Tensor, heads: int, code: Tensor) -> Tensor:
    """Append a code to every query, key and value.

    Values get one of zeros, because kernels for the CPU want one width for all three.

    Shape:
        - Input: ``(B, H, W, 3 * h * d)`` and a code that broadcasts to ``(B, H, W, 3, 1, e)``
        - Output: ``(B, H, W, 3 * h * (d + e))``
    """
    B, H, W, C = qkv.shape
    vectors = qkv.reshape(B, H, W, 3, heads, C // (3 * heads))
    return torch.cat([vectors, code.expand(B, H, W, 3, heads, -1)], -1).flatten(3)


def open_code(like: Tensor, length: int) -> Tensor:
    """Return the code ``(3, 1, length)`` that blocks no cell of the map, only those it is padded with."""
    return like.new_tensor([[[-BLOCKED] + [0.0] * (length - 1)], [[0.0] * length], [[0.0] * length]])


def pad_end(x: Tensor, step: int, value: float) -> Tensor:
    """Pad a map ``(B, H, W, C)`` with rows and columns at its end, so that ``step`` divides both sides."""
    down, right = round_up(x.shape[1], step) - x.shape[1], round_up(x.shape[2], step) - x.shape[2]
    if not is_tracing() and down == right == 0:
        return x
    return F.pad(x, (0, 0, 0, right, 0, down), value=value)


def inside(height: int, width: int, padded: Tensor) -> Tensor:
    """Return which cells of a map ``(B, H', W', C)``, padded at its end, lie on the map proper, as ``(H', W')``."""
    rows = torch.arange(padded.shape[1], device=padded.device) < height
    columns = torch.arange(padded.shape[2], device=padded.device) < width
    return rows[:, None] & columns


def cut(x: Tensor, window: int, heads: int) -> Tensor:
    """Cut a map whose sides are multiples of ``window`` into windows.

    Shape:
        - Input: ``(B, H, W, h * d)``
        - Output: ``(n, h, M * M, d)``
    """
    B, H, W, C = x.shape
    tiles = x.reshape(B, H // window, window, W // window, window, heads, C // heads)
    return tiles.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(0, 2)


def join(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Put windows together to a map: undo `cut`.

    Shape:
        - Input: ``(n, h, M * M, d)``
        - Output: ``(B, H, W, h * d)``
    """
    _, heads, _, d = windows.shape
    tiles = windows.reshape(-1, height // window, width // window, heads, window, window, d)
    return tiles.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4).flatten(1, 2)


def cut_overlapping(x: Tensor, window: int, stride: int, heads: int) -> Tensor:
    """Cut a map into windows that start every ``stride`` cells and overlap.

    One gather of whole cells: `torch.Tensor.unfold` has a slow gradient and cannot be exported.

    Shape:
        - Input: ``(B, H, W, h * d)``
        - Output: ``(n, h, K * K, d)``
    """
    _, H, W, C = x.shape
    rows = _starts(H, window, stride, x)[:, None, :, None]  # (ny, 1, K, 1)
    columns = _starts(W, window, stride, x)[None, :, None, :]  # (1, nx, 1, K)
    cells = x.flatten(1, 2).index_select(1, (rows * W + columns).flatten())  # (B, ny * nx * K * K, h * d)
    return cells.reshape(-1, window * window, heads, C // heads).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, head_dim: int) -> Tensor:
    """Attend within each window.

    Args:
        q: Queries with their code, ``(n, h, M * M, d + e)``.
        k: Keys with their code, ``(n, h, K * K, d + e)``.
        v: Values, as wide as the keys.
        bias: Position bias, ``(h, M * M, K * K)``.
        head_dim: Channels of a head without its code, d.

    Returns:
        ``(n, h, M * M, d)``.
    """
    bias = bias.to(q.dtype)
    if q.device.type == "cpu" and bias.requires_grad and torch.is_grad_enabled() and not is_tracing():
        # No fused kernel for the CPU gives the bias a gradient, and what PyTorch falls back to looks twice over all
        # logits for rows without a key; here every query that counts has one.
        logits: Tensor = (q * head_dim**-0.5) @ k.transpose(2, 3)  # (n, h, M * M, K * K)
        return logits.add_(bias).softmax(-1) @ v[..., :head_dim]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=head_dim**-0.5)[..., :head_dim]


def relative_bias(table: Tensor, window: int, key_window: int) -> Tensor:
    """Spread a table of relative positions over all pairs of a query's cell and a key's cell in a window.

    Row ``key - query + window - 1`` of the table belongs to a pair, counted along y, and the same column along x; each
    counts from the first cell of its own window.

    Shape:
        - Input: ``(h, M + K - 1, M + K - 1)``
        - Output: ``(h, M * M, K * K)``
    """
    tiles = table.unfold(1, key_window, 1).unfold(2, key_window, 1)  # (h, M, M, K, K), the last query first
    return tiles.flip(1, 2).reshape(-1, window * window, key_window * key_window)


def ends_apart(window: int, rows: int, columns: int, like: Tensor) -> Tensor:
    """Return what to add to the logits of a window whose last rows and columns are from the other end of the map.

    Args:
        window: Side of the window in cells, M.
        rows: How many of its rows are, 0 for none.
        columns: How many of its columns are.
        like: A tensor of the type and on the device wanted.

    Returns:
        ``(M * M, M * M)``.
    """
    cells = torch.arange(window, device=like.device)
    end = 2 * (cells >= window - rows)[:, None] + (cells >= window - columns)  # (M, M)
    end = end.flatten()
    return (end[:, None] != end).to(like.dtype) * -BLOCKED


def _starts(size: int, window: int, stride: int, like: Tensor) -> Tensor:
    """Return the cells of each window along one axis, ``(ny, K)``."""
    first = torch.arange((size - window) // stride + 1, device=like.device) * stride
    return first[:, None] + torch.arange(window, device=like.device)
