"""The words of look outside of the page, in the language of who asks."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

from attngraft._core.errors import OptionError
from attngraft.maps import Verdict

LANGUAGES = ("en", "zh")
FONTS = (
    ("NotoSansCJK-Regular.ttc", 2), ("NotoSansCJKsc-Regular.otf", 0), ("NotoSansSC-Regular.otf", 0),
    ("SourceHanSansSC-Regular.otf", 0), ("wqy-microhei.ttc", 0), ("wqy-zenhei.ttc", 0),
    ("DroidSansFallbackFull.ttf", 0), ("msyh.ttc", 0), ("simhei.ttf", 0), ("simsun.ttc", 0), ("PingFang.ttc", 0),
    ("Hiragino Sans GB.ttc", 0), ("STHeiti Light.ttc", 0), ("Arial Unicode.ttf", 0),
)  # fmt: skip
"""Fonts with Chinese characters that systems have, and which of a file's fonts is the one of simplified Chinese."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def checked_language(language: Any) -> str | None:
    """Return a language that there is, or None for the one of the locale.

    Raises:
        OptionError: If there is no such language.
    """
    if language is not None and language not in LANGUAGES:
        raise OptionError(f"look speaks {' or '.join(f'language={one}' for one in LANGUAGES)}, got language={language}")
    return language


def spoken() -> str:
    """Return the language of the locale, English where it is another than those that look speaks."""
    named = next(filter(None, (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return "zh" if named.lower().startswith("zh") else "en"


def say(language: str, key: str, **given: object) -> str:
    """Say a sentence of the page's table."""
    return _words()[language][key].format(**given)


def said(verdict: Verdict, language: str) -> str:
    """Say a verdict over images as the page does."""
    sentence = say(
        language,
        "beats.over" if verdict.beats else "loses.over",
        control=say(language, verdict.control),
        direction=say(language, verdict.metric.split()[0]),
        **{end: f"{getattr(verdict, end):+.3f}" for end in ("difference", "low", "high")},
    )
    return f"{say(language, 'over', count=verdict.images)}{'：' if language == 'zh' else ': '}{sentence}"


def font(size: float, language: str) -> Font:
    """Return a font that has the characters of a language.

    Raises:
        OptionError: If this system has none for Chinese.
    """
    if language == "en":
        return ImageFont.load_default(size)
    found = _chinese(size)
    if found is None:
        raise OptionError("no font with Chinese characters was found for a .png; install Noto Sans CJK, or write .svg")
    return found


def has_font(language: str) -> bool:
    """Tell whether this system can draw a language."""
    return language == "en" or _chinese(13) is not None


@cache
def _chinese(size: float) -> Font | None:
    for name, index in FONTS:
        try:
            return ImageFont.truetype(name, size, index)
        except OSError:
            continue
    return None


@cache
def _words() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
    return found
