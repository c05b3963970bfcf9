"""Make the Markdown page and the live page of one language from one text, so that they cannot differ.

A text is Markdown with a few marks. ``{{name}}`` is a number of `tools.attention.facts`.
``[[panel NAME FIGURE | ALT]]`` is a live panel on the live page and a still figure in Markdown; without a figure it
stands on the live page alone. ``[[figure NAME | ALT]]`` is a figure on both. A paragraph that begins with ``@page`` or
``@markdown``, and what stands between ``@@page`` or ``@@markdown`` and ``@@``, is for one of them only.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
from markdown_it import MarkdownIt
from tools.attention.arrays import Arrays
from tools.attention.facts import asked
from tools.attention.operator import HEADS

from attngraft.look.drawn import NEGATIVE, POSITIVE
from attngraft.look.page import HERE as LOOK

HERE = Path(__file__).parent
LANGUAGES = {"en": "English", "zh-CN": "中文"}
PANEL = re.compile(r"^\[\[(panel|figure) (\w+)(?: (\w+))?(?: \| ([^\]]+))?\]\]$", re.MULTILINE)
MADE = "<!-- Made by tools/attention_page.py from tools/attention/text.{language}.txt: change that. -->\n"


def name(language: str, suffix: str) -> str:
    """Return the file name of a page; the site makes ``attention.html`` of the Markdown page."""
    stem = "attention-live" if suffix == ".html" else "attention"
    return f"{stem}{'' if language == 'en' else f'.{language}'}{suffix}"


def text(language: str, values: dict[str, str]) -> str:
    """Return the text of a language with its numbers.

    Raises:
        KeyError: If it asks for a number that is not computed.
    """
    source = (HERE / f"text.{language}.txt").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], source)


def words(language: str) -> dict[str, str]:
    """Return what the panels say."""
    found: dict[str, str] = json.loads((HERE / f"words.{language}.json").read_text(encoding="utf-8"))
    return found


def only(kind: str, source: str) -> str:
    """Keep what is for one kind of page: ``page`` or ``markdown``."""
    other = "markdown" if kind == "page" else "page"
    source = re.sub(rf"^@{other} .*\n\n?", "", source, flags=re.MULTILINE)
    source = re.sub(rf"^@{kind} ", "", source, flags=re.MULTILINE)
    source = re.sub(rf"@@{other} .*?@@", "", source)
    source = re.sub(rf"@@{kind} (.*?)@@", r"\1", source)
    return re.sub(r" +$", "", source, flags=re.MULTILINE)


def markdown(language: str, values: dict[str, str]) -> str:
    """Return the Markdown page."""

    def still(found: re.Match[str]) -> str:
        kind, panel, figure, alt = found.groups()
        drawn = panel if kind == "figure" else figure
        return f"![{alt}](images/attention-{drawn}.svg)" if drawn else ""

    source = PANEL.sub(still, only("markdown", text(language, values)))
    source = re.sub(r"^```math\n(.*?)^```", r"$$\n\1$$", source, flags=re.DOTALL | re.MULTILINE)
    return MADE.format(language=language) + re.sub(r"\n{3,}", "\n\n", source)


def page(language: str, values: dict[str, str], arrays: Arrays, figures: dict[str, str]) -> str:
    """Return the live page, one HTML file."""
    other = next(one for one in LANGUAGES if one != language)
    said = words(language)
    source = only("page", text(language, values))
    parts = {
        "LANG": language, "TITLE": source.partition("\n")[0].removeprefix("# "),
        "SKIP": said["skip"], "THEME": said["theme"], "NOSCRIPT": said["noscript"],
        "BAR": said["bar"], "FOOTER": said["footer"],
        "OTHER": name(other, ".html"), "OTHER_LANG": other, "OTHER_NAME": LANGUAGES[other],
        "STYLE": (LOOK / "page.css").read_text(encoding="utf-8") + (HERE / "page.css").read_text(encoding="utf-8"),
        "TEXT": body(source, said, figures),
        "DATA": _safe(json.dumps(_data(arrays, said), ensure_ascii=False, separators=(",", ":"))),
        "SCRIPT": "".join((HERE / file).read_text(encoding="utf-8") for file in ("operator.js", "page.js")),
    }  # fmt: skip
    return re.sub(r"\[\[([A-Z_]+)\]\]", lambda found: parts[found[1]], (HERE / "page.html").read_text(encoding="utf-8"))


def body(source: str, said: dict[str, str], figures: dict[str, str]) -> str:
    """Return the text as HTML: formulas as MathML, panels as the sections that the script fills."""
    kept: list[str] = []

    def keep(html: str) -> str:
        kept.append(html)
        return f"\ue000{len(kept) - 1}\ue001"

    def place(found: re.Match[str]) -> str:
        kind, panel, _, alt = found.groups()
        if kind == "panel":
            return keep(f'<section class="panel live" data-panel="{panel}"></section>')
        svg = figures[panel].replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        return keep(f'<div class="plain" tabindex="0" role="group" aria-label="{alt}">{svg}</div>')

    def formula(found: re.Match[str]) -> str:
        return keep(f'<div class="formula" tabindex="0">{mathml(found[1].strip(), display=True)}</div>')

    def formula_in_line(found: re.Match[str]) -> str:
        return found[1] + keep(_unbroken(*found.groups()[1:]))

    source = PANEL.sub(place, source)
    source = re.sub(r"^```math\n(.*?)^```", formula, source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"(^| ?)(\(?)\$([^$\n]+)\$(?: (?=[，。：；、）]))?([.,;:)，。：；、）]*)", formula_in_line, source)
    html = MarkdownIt("commonmark").enable("table").render(source)
    html, contents = _numbered(html, said["contents"])
    html = re.sub("<p>\ue000(\\d+)\ue001</p>", lambda found: kept[int(found[1])], html)
    html = re.sub("\ue000(\\d+)\ue001", lambda found: kept[int(found[1])], html)
    return html.replace("<h2", f"{contents}\n<h2", 1)


def mathml(tex: str, *, display: bool = False) -> str:
    """Return a formula as MathML, words as words and not letter by letter."""
    found = latex2mathml.converter.convert(tex, display="block" if display else "inline").replace("&#x000B7;", "⋅")
    letters = r'(?:<mi mathvariant="normal">\w</mi>){2,}'
    return re.sub(letters, lambda word: f"<mi>{re.sub('<[^>]+>', '', word[0])}</mi>", found)


def _unbroken(before: str, tex: str, after: str) -> str:
    """Return a formula in a line, which keeps what stands next to it."""
    return f'<span class="with">{before}{mathml(tex)}{after}</span>' if before or after else mathml(tex)


def _numbered(html: str, title: str) -> tuple[str, str]:
    """Give each section an anchor, and return the list of them."""
    links: list[str] = []

    def head(found: re.Match[str]) -> str:
        links.append(f'<li><a href="#part-{len(links) + 1}">{found[1]}</a></li>')
        return f'<h2 id="part-{len(links)}">{found[1]}</h2>'

    html = re.sub(r"<h2>(.*?)</h2>", head, html)
    return html, f'<nav aria-label="{title}"><ol>{"".join(links)}</ol></nav>'


def _data(arrays: Arrays, said: dict[str, str]) -> dict[str, Any]:
    """Return what the script is given."""
    return {
        "side": 12, "pixels": 96, "heads": HEADS, "channels": arrays["x"].shape[1], "head": asked(arrays).head,
        "reach": int(arrays["reach"]), "words": said, "palette": {"positive": POSITIVE, "negative": NEGATIVE},
        "gammas": [round(float(g), 4) for g in arrays["gammas"]],
        **{name: _base64(arrays[name].astype("<f4").tobytes()) for name in ("qkv", "height", "width")},
        "scenes": [_scene(arrays, n) for n in range(len(arrays["scene"]))],
    }  # fmt: skip


def _scene(arrays: Arrays, number: int) -> dict[str, Any]:
    places = [n for n, (scene, _, _) in enumerate(arrays["object"]) if scene == number]
    return {
        "x": _base64(arrays["x"][number].astype("<f4").tobytes()),
        "image": "data:image/png;base64," + _base64(arrays[f"png{number}"].tobytes()),
        "cue": arrays["cue"][number].tolist(),
        "objects": [
            {
                "cell": int(arrays["object"][n, 1]),
                "label": int(arrays["object"][n, 2]),
                "box": _rounded(arrays["box"][n], 1),
                "scores": _rounded(arrays["scores"][:, :, n]),
                "copied": _rounded(arrays["copied"][n]),
                "byGamma": _rounded(arrays["by_gamma"][:, n]),
            }
            for n in places
        ],
    }  # fmt: skip


def _rounded(values: Any, digits: int = 3) -> Any:
    return [_rounded(value, digits) for value in values] if values.ndim else round(float(values), digits)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _safe(data: str) -> str:
    """Return JSON in which nothing can end the script element."""
    return data.replace("<", "\\u003c")
