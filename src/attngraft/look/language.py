"""The words of look outside of the page, in the language of who asks."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

from attngraft._core.errors import OptionError
from attngraft.drawing import Font, chinese_font
from attngraft.maps import Verdict

LANGUAGES = ("en", "zh")


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
    found = chinese_font(size)
    if found is None:
        raise OptionError("no font with Chinese characters was found for a .png; install Noto Sans CJK, or write .svg")
    return found


def has_font(language: str) -> bool:
    """Tell whether this system can draw a language."""
    return language == "en" or chinese_font(13) is not None


@cache
def _words() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
    return found
