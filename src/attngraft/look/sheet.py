"""The contact sheet: the maps of one detection beside each other, for papers and notebooks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from attngraft import drawing
from attngraft.look.arrays import Array, Attention, ImageLook, Size
from attngraft.look.drawn import data_url, lay, over, shown_score
from attngraft.look.language import font, say

SIDE, GUTTER, LINE, COLUMNS = 240, 12, 18, 5
PAPER, TEXT = (255, 255, 255), (30, 30, 30)
MOST = 80
SIDES = {"left": "left.side"}
"""Targets whose word is another in the page's table."""


@dataclass(frozen=True)
class Tile:
    """One map of the sheet.

    Attributes:
        title: What it shows, in two lines at most.
        image: The map, `SIDE` pixels along its longer side.
        row: On which row of the sheet it stands, from 0; a row that is full goes on below.
    """

    title: tuple[str, str]
    image: Image.Image
    row: int


def tiles(look: ImageLook, detection: int, names: dict[int, str], language: str = "en") -> list[Tile]:
    """Return the maps of one detection: ODAM of its targets, rows of each attention, gates, and grafts.

    Args:
        look: The image.
        detection: Number of the detection; of an image without any, the middle cell of each attention is shown.
        names: Names of the classes.
        language: ``en`` or ``zh``.
    """
    found = [Tile(_said(look, detection, names, language), _marked(look, detection), 0)]
    # The layers that the head reads come last, from fine to coarse; a box rests on none behind the one it is read from.
    read = next((one for one in reversed(look.relevance) if one.maps[detection].any()), None)
    for relevance in look.relevance:
        for target, heat in zip(relevance.targets, relevance.maps[detection], strict=True):
            if target == "class" or relevance is read:
                title = say(language, "sheet.odam", target=say(language, SIDES.get(target, target)))
                found.append(Tile((title, relevance.layer), _over(look, heat), 0))
    row = 0
    for attention in look.attentions:
        for view, rows, grids in _views(attention, detection):
            row += 1
            maps, _ = lay(rows, grids, MOST)
            scale = float(abs(maps).max())
            for head, one in enumerate(maps):
                title = say(language, "sheet.head", number=head, view=say(language, view))
                found.append(Tile((title, attention.name), over(look.input, one, scale, SIDE), row))
    for gate in look.gates:
        if gate.cells.size > 1:
            title = say(language, "sheet.gate", value=f"{gate.channels.mean():.3f}")
            found.append(Tile((title, gate.name), _over(look, gate.cells), row + 1))
    for graft in look.grafts:
        title = say(language, "sheet.graft", value=f"{graft.strength:.3f}")
        found.append(Tile((title, graft.name), _over(look, graft.cells), row + 1))
    return found


def _views(attention: Attention, detection: int) -> Iterator[tuple[str, Array, Sequence[Size]]]:
    """Yield the rows that are shown of an attention, and their word: of the detection, else of the middle cell."""
    if len(attention.rows):
        yield "sheet.mixed", attention.rows[detection], attention.key_grids
        if attention.weighted is not None:
            yield "weighted", attention.weighted[detection], attention.key_grids
    elif attention.cells.size:
        middle = attention.cells.shape[0] // 2 * attention.cells.shape[1] + attention.cells.shape[1] // 2
        yield "sheet.middle", attention.cell_rows[middle], [attention.cell_grid]


def draw(shown: list[Tile], language: str = "en") -> Image.Image:
    """Return the sheet as an image."""
    places, size = _places(shown)
    sheet = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(sheet)
    for tile, (x, y) in zip(shown, places, strict=True):
        sheet.paste(tile.image, (x, y))
        for line, text in enumerate(tile.title):
            letters = drawing.font_for(text, 13) if language == "en" else font(13, language)
            brush.text(
                (x, y + tile.image.height + 3 + line * LINE), drawing.cut_front(text, letters, SIDE), TEXT, letters
            )
    return sheet


def png(sheet: Image.Image, command: str) -> bytes:
    """Return a sheet as PNG, what made it in its metadata."""
    info = PngInfo()
    info.add_itxt("Command", command)
    info.add_text("Software", "attngraft")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", pnginfo=info, optimize=True)
    return buffer.getvalue()


def svg(shown: list[Tile], command: str) -> str:
    """Return the sheet as SVG: maps as images, words as text, what made it in its metadata."""
    places, (width, height) = _places(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12">',
        f"<title>{escape(' '.join(shown[0].title))}</title>",
        f"<metadata>{escape(command)}</metadata>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for tile, (x, y) in zip(shown, places, strict=True):
        w, h = tile.image.size
        parts.append(f'<image x="{x}" y="{y}" width="{w}" height="{h}" href="{data_url(tile.image)}"/>')
        parts += [
            f'<text x="{x}" y="{y + h + 15 + line * LINE}" fill="#1e1e1e">{escape(text)}</text>'
            for line, text in enumerate(tile.title)
        ]
    return "\n".join([*parts, "</svg>", ""])


def _places(shown: list[Tile]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Return where each tile stands, and the size of the sheet."""
    places, x, y, column, row = [], GUTTER, GUTTER, 0, 0
    step = max(tile.image.height for tile in shown) + 2 * LINE + GUTTER
    for tile in shown:
        if tile.row != row or column == COLUMNS:
            x, y, column, row = GUTTER, y + step, 0, tile.row
        places.append((x, y))
        x, column = x + SIDE + GUTTER, column + 1
    return places, (max(x for x, _ in places) + SIDE + GUTTER, y + step)


def _said(look: ImageLook, detection: int, names: dict[int, str], language: str) -> tuple[str, str]:
    if not look.detections:
        return say(language, "sheet.none"), look.name
    one = look.detections[detection]
    return f"{names.get(one.label, one.label)} {shown_score(one.score)}", look.name


def _marked(look: ImageLook, detection: int) -> Image.Image:
    shown = Image.fromarray(look.input)
    ratio = SIDE / max(shown.size)
    shown = shown.resize((max(1, round(shown.width * ratio)), max(1, round(shown.height * ratio))))
    boxes = []
    for one in look.detections[detection : detection + 1]:
        left, top, right, bottom = (edge * ratio for edge in one.box)
        boxes.append(drawing.Box(left, top, right, bottom, one.label, one.score))
    drawing.mark(shown, boxes, class_names=None)
    return shown


def _over(look: ImageLook, heat: object) -> Image.Image:
    values = np.asarray(heat, np.float32)
    return over(look.input, values, float(np.nan_to_num(abs(values), posinf=0).max()), SIDE)
