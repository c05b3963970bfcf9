"""Arithmetic on sizes."""

from __future__ import annotations


def round_up(size: int, step: int) -> int:
    """Return the first multiple of ``step`` at or above ``size``.

    Example:
        >>> round_up(20, 16), round_up(32, 16)
        (32, 32)
    """
    return (size + step - 1) // step * step
