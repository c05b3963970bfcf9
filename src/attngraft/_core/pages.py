"""Pages of one HTML file: a template, with its data, styles and script put in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


def embedded(data: Any) -> str:
    r"""Return data as JSON that may stand in a script element.

    Example:
        >>> embedded({"a": "</script>"})
        '{"a":"\\u003c/script>"}'
    """
    # "<" could end the script; no other sign means anything there.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def filled(folder: Path, parts: Mapping[str, str]) -> str:
    """Return the template ``page.html`` of a folder, with its style and script and other parts in their places.

    Args:
        folder: Where ``page.html``, ``page.css`` and ``page.js`` are.
        parts: What takes the place of ``[[NAME]]``, by name; what is put in is not searched.
    """
    inside = {"STYLE": part(folder / "page.css"), "SCRIPT": part(folder / "page.js"), **parts}
    return re.sub(r"\[\[([A-Z]+)\]\]", lambda place: inside[place[1]], part(folder / "page.html"))


@cache
def part(file: Path) -> str:
    """Return a file of a page."""
    return file.read_text(encoding="utf-8")
