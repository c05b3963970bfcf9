"""What was mined, to look at: a contact sheet, and one page that fetches nothing."""

from __future__ import annotations

import base64
import io
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from attngraft import drawing
from attngraft._core.escape import whole
from attngraft.drawing import read_image
from attngraft.retrieve.items import Item
from attngraft.retrieve.parts import box_of, path_of

if TYPE_CHECKING:
    from attngraft.retrieve.mining import Mined, Mining

SIDE, GUTTER, LINE, COLUMNS = 160, 10, 16, 8
PAPER, TEXT = (255, 255, 255), (30, 30, 30)
SHOWN = 96
"""Images on a sheet; the page shows all."""
MISSES = 16
"""Misses on a sheet, the first that images were found by."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#1e1e1e;background:#fff}
main,section div{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:1rem}
figure{margin:0}img{max-width:100%;border:1px solid #ccc}figcaption{font-size:13px;overflow-wrap:anywhere}
table{border-collapse:collapse;font-size:12px}td,th{padding:0 .5em 0 0;text-align:right}a{color:#0b57a4}
@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}a{color:#8ab8ff}img{border-color:#444}}
"""


def sheet(mining: Mining) -> bytes:
    """Return the contact sheet as PNG: the misses, then the first images with the miss and head that found them."""
    found_by = list(dict.fromkeys(one.miss for one in mining.images))
    misses = [(f"miss {at + 1}", _said(mining.misses[at]), _miss(mining.misses[at])) for at in found_by[:MISSES]]
    images = [
        (f"{at}: like miss {one.miss + 1}", f"head {one.why[0].head}, {whole(one.path.name)}", _thumbnail(one))
        for at, one in enumerate(mining.images[:SHOWN], 1)
    ]
    step = SIDE + 2 * LINE + GUTTER
    rows = [-(-len(part) // COLUMNS) for part in (misses, images)]
    canvas = Image.new("RGB", (GUTTER + COLUMNS * (SIDE + GUTTER), GUTTER + sum(rows) * step + 2 * 2 * LINE), PAPER)
    brush = ImageDraw.Draw(canvas)
    top = GUTTER
    titles = sheet_titles(mining, len(found_by))
    for title, part, count in zip(titles, (misses, images), rows, strict=True):
        brush.text((GUTTER, top), title, TEXT, ImageFont.load_default(16))
        top += 2 * LINE
        for at, (first, second, image) in enumerate(part):
            x, y = GUTTER + at % COLUMNS * (SIDE + GUTTER), top + at // COLUMNS * step
            canvas.paste(image, (x, y))
            for line, text in enumerate((first, second)):
                font = drawing.font_for(text, 12)
                brush.text((x, y + SIDE + line * LINE), drawing.cut_front(text, font, SIDE), TEXT, font)
        top += count * step
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def sheet_titles(mining: Mining, found_by: int) -> tuple[str, str]:
    """Return what stands above the misses and above the images of a sheet.

    Args:
        mining: What was found.
        found_by: How many misses images were found by.
    """
    misses, images = said_misses(len(mining.misses)), f"{len(mining.images)} of {mining.searched} images like them"
    if (shown := min(found_by, MISSES)) < len(mining.misses):
        misses += f" (shown: {'the first ' if found_by > MISSES else ''}{shown} that images were found by)"
    if len(mining.images) > SHOWN:
        images += f" (shown: the first {SHOWN})"
    return misses, images


def page(mining: Mining) -> str:
    """Return the page: every image with the votes for it, and the misses that they were found by."""
    images = "".join(_figure(at, one) for at, one in enumerate(mining.images, 1))
    voted = sorted({why.miss for one in mining.images for why in one.why} | {one.miss for one in mining.images})
    misses = "".join(
        f'<figure id="miss{at + 1}"><img alt="miss {at + 1}" src="{_url(_miss(mining.misses[at]))}"><figcaption>'
        f"miss {at + 1}: {escape(_said(mining.misses[at]))}</figcaption></figure>"
        for at in voted
    )
    kinds = Counter(str(miss.fields.get("label", "")) for miss in mining.misses)
    labels = ", ".join(f"{count} of {label}" for label, count in kinds.most_common() if label)
    counted = said_misses(len(mining.misses))
    settings = ", ".join(f"{name}={_plain(value)}" for name, value in mining.settings.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Images like {counted}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{len(mining.images)} images like {counted}</h1><p>Out of {mining.searched} images; "
        f"{escape(settings)}. Each image names the miss whose heads gave it most, and the largest votes: the rank is "
        f"its place among the nearest images of that head, from 0.</p><main>{images}</main>"
        f"<section><h2>What was missed</h2><p>{counted}{escape(f': {labels}' if labels else '')}. "
        f"Shown are the {len(voted)} that the images above were found by; mined.json has all.</p><div>{misses}</div>"
        "</section></html>\n"
    )


def said_misses(count: int) -> str:
    """Say how many misses there are."""
    return "1 miss" if count == 1 else f"{count} misses"


def _plain(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figure(number: int, one: Mined) -> str:
    rows = "".join(
        f'<tr><td><a href="#miss{why.miss + 1}">{why.miss + 1}</a>'
        f"<td>{why.head}<td>{why.rank}<td>{why.similarity:.2f}<td>{why.votes:.3g}</tr>"
        for why in one.why
    )
    return (
        f'<figure><img alt="{escape(one.id)}" src="{_url(_thumbnail(one))}"><figcaption>{number}. {escape(one.id)}<br>'
        f'like <a href="#miss{one.miss + 1}">miss {one.miss + 1}</a>, {one.votes:.3g} votes'
        "<details><summary>why</summary>"
        f"<table><tr><th>miss<th>head<th>rank<th>cosine<th>votes</tr>{rows}</table></details></figcaption></figure>"
    )


def _said(miss: Item) -> str:
    return f"{miss.fields.get('label', '')} {whole(path_of(miss).name)}".strip()


def _miss(miss: Item) -> Image.Image:
    """Return a miss with as much around it as it is wide and high, framed."""
    image = Image.fromarray(read_image(path_of(miss)))
    box = box_of(miss)
    if box is None:
        return _fitted(image)
    left, top, right, bottom = box
    across, down = right - left, bottom - top
    x, y = max(0, round(left - across / 2)), max(0, round(top - down / 2))
    cut = image.crop((x, y, min(image.width, round(right + across / 2)), min(image.height, round(bottom + down / 2))))
    ratio = SIDE / max(cut.size)
    shown = _fitted(cut, enlarge=True)
    left, top, right, bottom = ((edge - (x, y)[at % 2]) * ratio for at, edge in enumerate(box))
    drawing.mark(shown, [drawing.Box(left, top, right, bottom, 0)], class_names=None)
    return shown


def _thumbnail(one: Mined) -> Image.Image:
    return _fitted(Image.fromarray(read_image(one.path)), enlarge=True)


def _fitted(image: Image.Image, *, enlarge: bool = False) -> Image.Image:
    ratio = SIDE / max(image.size)
    if ratio > 1 and not enlarge:
        return image
    return image.resize((max(1, round(image.width * ratio)), max(1, round(image.height * ratio))))


def _url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
