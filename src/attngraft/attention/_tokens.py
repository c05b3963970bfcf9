"""The tokens of attention heads."""

from __future__ import annotations

from torch import Tensor


def to_heads(tokens: Tensor, heads: int) -> Tensor:
    """Cut the channels of tokens into heads, without a copy.

    Args:
        tokens: Tokens ``(B, N, heads * d)``.
        heads: Number of heads.

    Returns:
        Tokens of each head, ``(B, heads, N, d)``.
    """
    B, N, _ = tokens.shape
    return tokens.reshape(B, N, heads, -1).transpose(1, 2)
