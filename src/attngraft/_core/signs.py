"""Signs of Chinese and Japanese keyboards, read as the plain ones."""

from __future__ import annotations

FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x3001: 0x2C, 0x3002: 0x2E}
"""Full-width forms of the printable ASCII signs; the ideographic space, comma and full stop."""


def half_width(text: str) -> str:
    """Return a text with full-width signs as plain ones, each at its place.

    Example:
        >>> half_width("yolo11n＋mhsa（heads＝4）＠P4，P5")
        'yolo11n+mhsa(heads=4)@P4,P5'
    """
    return text.translate(FULL_WIDTH)
