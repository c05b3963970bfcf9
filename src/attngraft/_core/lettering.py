"""Names in any script in figures of matplotlib, whose own font has Latin, Greek and Cyrillic letters alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHINESE_FONTS = (
    ("Noto Sans CJK SC", "NotoSansCJKsc-Regular.otf", 0), ("Noto Sans CJK JP", "NotoSansCJK-Regular.ttc", 2),
    ("Noto Sans SC", "NotoSansSC-Regular.otf", 0), ("Source Han Sans SC", "SourceHanSansSC-Regular.otf", 0),
    ("WenQuanYi Micro Hei", "wqy-microhei.ttc", 0), ("WenQuanYi Zen Hei", "wqy-zenhei.ttc", 0),
    ("Droid Sans Fallback", "DroidSansFallbackFull.ttf", 0), ("Microsoft YaHei", "msyh.ttc", 0),
    ("SimHei", "simhei.ttf", 0), ("SimSun", "simsun.ttc", 0), ("PingFang SC", "PingFang.ttc", 0),
    ("Hiragino Sans GB", "Hiragino Sans GB.ttc", 0), ("STHeiti", "STHeiti Light.ttc", 0),
    ("Arial Unicode MS", "Arial Unicode.ttf", 0),
)  # fmt: skip
"""Fonts with Chinese characters that systems have: the family by which matplotlib knows one, the file by which Pillow
does, and which of the file's fonts is the one of simplified Chinese."""


@contextmanager
def lettered(figure: Any, *, as_text: bool = False) -> Iterator[None]:
    """Save a figure inside: characters that matplotlib's font lacks are taken from a font of this system.

    Where none has them, one warning says so, in place of one for each character.

    Args:
        figure: The figure.
        as_text: Whether words stay text in the file, so that whoever shows it has the fonts.
    """
    import matplotlib
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    known = {font.name for font in fontManager.ttflist}
    families = [*matplotlib.rcParams["font.family"], *(name for name, _, _ in CHINESE_FONTS if name in known)]
    for text in figure.findobj(Text):
        text.set_fontfamily(families)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing = [one for one in caught if str(one.message).startswith("Glyph ")]
    for one in caught:
        if one not in missing:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing and not as_text:
        warnings.warn(
            "a name has characters that no font of this system has, and a figure shows them as boxes; "
            "install Noto Sans CJK",
            stacklevel=3,
        )
