"""Show beside each other what is on some images and what several models find on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft._core.files import write_whole
from attngraft._core.lettering import CHINESE_FONTS

Rgb = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Frame = tuple[int, int, int, int]

PALETTE: tuple[Rgb, ...] = (
    (213, 60, 30),
    (0, 140, 90),
    (0, 114, 178),
    (204, 121, 167),
    (150, 100, 0),
    (86, 130, 200),
)
"""Colours of the classes, told apart by most colour-blind readers; white text is legible on each."""

_WIDE = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
"""Fonts with the letters of other alphabets, where there is none with Chinese characters, which have those too."""
_DEFAULT_HAS = frozenset("…·‘’“”")
"""What Pillow's own font has beside ASCII."""

_PAPER = (250, 250, 248)
_TEXT = (40, 40, 40)
_GUTTER = 14
_LINE = 3
_TITLE_SIZE = 20
_TAG_SIZE = 15


class Box(NamedTuple):
    """A box to draw, in pixels of its image.

    Attributes:
        left: Left edge.
        top: Upper edge.
        right: Right edge.
        bottom: Lower edge.
        label: Index of the class.
        confidence: How sure the model is, from 0 to 1; None for the truth.
    """

    left: float
    top: float
    right: float
    bottom: float
    label: int
    confidence: float | None = None


def font_for(text: str, size: float) -> Font:
    """Return a font that has the characters of a text: Pillow's own, else one that this system has.

    Names of classes and files are written in any script, and Pillow's own font draws a box for all but ASCII.

    Args:
        text: What is to be drawn.
        size: Height in pixels.
    """
    if all(sign.isascii() or sign in _DEFAULT_HAS for sign in text):
        return ImageFont.load_default(size)
    return chinese_font(size) or _installed([(name, 0) for name in _WIDE], size) or ImageFont.load_default(size)


@cache
def chinese_font(size: float) -> Font | None:
    """Return a font of this system with Chinese characters; None where there is none."""
    return _installed([(file, index) for _, file, index in CHINESE_FONTS], size)


def _installed(fonts: Sequence[tuple[str, int]], size: float) -> Font | None:
    for name, index in fonts:
        try:
            return ImageFont.truetype(name, size, index)
        except OSError:
            continue
    return None


def cut_front(text: str, font: Font, width: float) -> str:
    """Return a text without so much of its front as keeps it from a width in pixels; a path is told by its end."""
    while font.getlength(text) > width and len(text) > 4:
        text = "…" + text[2:]
    return text


def side_by_side(
    images: Sequence[str | os.PathLike[str]],
    columns: Mapping[str, Sequence[Sequence[Box]]],
    out: str | os.PathLike[str],
    *,
    class_names: Sequence[str],
    colours: Sequence[Rgb] = PALETTE,
    zoom: int = 3,
) -> Path:
    """Write a sheet with a row for each image and a column for each set of boxes.

    Args:
        images: The images.
        columns: For each title, from left to right, the boxes on each image; the truth usually comes first.
        out: The image file to write; its folder is made if it is not there.
        class_names: Names of the classes.
        colours: Colour of each class; taken from the start again when there are more classes.
        zoom: Whole factor by which the images are enlarged, each pixel kept sharp.

    Returns:
        The path of the sheet.

    Raises:
        OptionError: If a column has not one list of boxes for each image, if a class has no name, or if there is
            nothing to show.
        DataError: If an image cannot be read.
        OutputError: If the sheet cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (96, 96), "gray").save(folder / "0.png")
        >>> columns = {"truth": [[Box(9, 9, 30, 30, 0)]], "model": [[Box(8, 9, 31, 30, 1, 0.93)]]}
        >>> side_by_side([folder / "0.png"], columns, folder / "sheet.png", class_names=["red", "green"]).name
        'sheet.png'
    """
    _check(images, columns, class_names, colours, zoom)
    pictures = [_open(path, zoom) for path in images]
    width = max(picture.width for picture in pictures)
    header = _TITLE_SIZE + _GUTTER
    left_edges = [_GUTTER + number * (width + _GUTTER) for number in range(len(columns))]

    height = _GUTTER + header + sum(picture.height + _GUTTER for picture in pictures) + header
    sheet = Image.new("RGB", (left_edges[-1] + width + _GUTTER, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for left, (title, boxes_by_picture) in zip(left_edges, columns.items(), strict=True):
        draw.text((left + width / 2, _GUTTER + header / 2), title, _TEXT, _fitting(title, width), anchor="mm")
        top = _GUTTER + header
        for picture, boxes in zip(pictures, boxes_by_picture, strict=True):
            marked = picture.copy()
            mark(marked, boxes, class_names=class_names, colours=colours, zoom=zoom)
            sheet.paste(marked, (left, top))
            top += picture.height + _GUTTER
    _legend(draw, _GUTTER, height - _GUTTER - _TITLE_SIZE // 2, class_names, colours)

    out = Path(out)
    try:
        write_whole(out, sheet.save)
    except (OutputError, ValueError) as error:  # ValueError: a suffix that names no image format
        raise OutputError(f"cannot write the sheet of images to {out}: {error}") from error
    return out


def mark(
    picture: Image.Image,
    boxes: Sequence[Box],
    *,
    class_names: Sequence[str] | None,
    colours: Sequence[Rgb] = PALETTE,
    zoom: int = 1,
    tag_size: int = _TAG_SIZE,
) -> None:
    """Draw boxes just outside their objects, then their tags where they hide least; the surest come last, on top.

    Lines that would lie outside the image are drawn along its border.

    Args:
        picture: What to draw on, an RGB image.
        boxes: The boxes, in pixels of the image before it was enlarged.
        class_names: Names of the classes; None leaves the tags out.
        colours: Colour of each class; taken from the start again when there are more classes.
        zoom: Factor by which the image was enlarged.
        tag_size: Height of the tags' text in pixels.
    """
    draw = ImageDraw.Draw(picture)
    boxes = sorted(boxes, key=lambda box: box.confidence or 0)
    frames = [_frame(box, zoom, picture.size) for box in boxes]
    for box, frame in zip(boxes, frames, strict=True):
        draw.rectangle(frame, outline=colours[box.label % len(colours)], width=_LINE)
    if class_names is None:
        return
    tags: list[Frame] = []
    for box, frame in zip(boxes, frames, strict=True):
        text = class_names[box.label] + ("" if box.confidence is None else f" {box.confidence:.2f}")
        font = font_for(text, tag_size)
        size = round(draw.textlength(text, font)) + 8, tag_size + 4
        spots = _spots(frame, size, picture.size)
        left, top, right, bottom = min(spots, key=lambda spot: sum(_overlap(spot, other) for other in frames + tags))
        tags.append((left, top, right, bottom))
        draw.rectangle(tags[-1], fill=colours[box.label % len(colours)])
        draw.text(((left + right + 1) / 2, (top + bottom + 1) / 2), text, "white", font, anchor="mm")


def _check(
    images: Sequence[object],
    columns: Mapping[str, Sequence[Sequence[Box]]],
    class_names: Sequence[str],
    colours: Sequence[Rgb],
    zoom: int,
) -> None:
    if not images or not columns or not colours or zoom < 1:
        raise OptionError("side_by_side needs an image, a column, a colour and a zoom of 1 or more")
    for title, boxes_by_picture in columns.items():
        if len(boxes_by_picture) != len(images):
            raise OptionError(
                f"side_by_side needs one list of boxes for each of the {len(images)} images, "
                f"got {len(boxes_by_picture)} in the column {title!r}"
            )
        labels = {box.label for boxes in boxes_by_picture for box in boxes}
        nameless = sorted(labels - set(range(len(class_names))))
        if nameless:
            raise OptionError(f"side_by_side got boxes of class {nameless[0]} and {len(class_names)} class_names")


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image as ``(H, W, 3)``, red first.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read, or is no image.
    """
    try:
        # Not Image.open, which Ultralytics replaces by one that pip-installs pi-heif when a file is no image.
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if pixels is None:
        raise DataError(f"{path} is not an image that can be read; give PNG or JPEG files")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _open(path: str | os.PathLike[str], zoom: int) -> Image.Image:
    picture = Image.fromarray(read_image(path))
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def _frame(box: Box, zoom: int, within: tuple[int, int]) -> Frame:
    left, top, right, bottom = (round(edge * zoom) for edge in box[:4])
    x, y = max(0, min(left - _LINE, within[0] - 1)), max(0, min(top - _LINE, within[1] - 1))
    right, bottom = max(left, right) + _LINE - 1, max(top, bottom) + _LINE - 1
    return x, y, max(x, min(right, within[0] - 1)), max(y, min(bottom, within[1] - 1))


def _spots(frame: Frame, size: tuple[int, int], within: tuple[int, int]) -> list[Frame]:
    """Return where a tag may stand: above or below its frame, flush with either side, moved into the image."""
    left, top, right, bottom = frame
    width, height = size
    spots = []
    for y in (top - height, bottom + 1):
        for x in (left, right - width + 1):
            x, y = max(0, min(x, within[0] - width)), max(0, min(y, within[1] - height))
            spots.append((x, y, x + width - 1, y + height - 1))
    return spots


def _overlap(one: Frame, other: Frame) -> int:
    """Return how many pixels two frames, last row and column included, have in common."""
    across = min(one[2], other[2]) - max(one[0], other[0]) + 1
    down = min(one[3], other[3]) - max(one[1], other[1]) + 1
    return max(0, across) * max(0, down)


def _fitting(title: str, width: int) -> Font:
    """Return the title font, made smaller where the title is wider than its column."""
    font = font_for(title, _TITLE_SIZE)
    return font_for(title, min(1.0, width / max(1.0, font.getlength(title))) * _TITLE_SIZE)


def _legend(draw: ImageDraw.ImageDraw, x: float, y: float, class_names: Sequence[str], colours: Sequence[Rgb]) -> None:
    """Name the classes beside their colours, from ``x`` to the right, centred at the height ``y``."""
    font = ImageFont.load_default(_TITLE_SIZE)
    draw.text((x, y), "class:", _TEXT, font, anchor="lm")
    x += font.getlength("class:") + _GUTTER
    for index, name in enumerate(class_names):
        swatch = (x, y - _TITLE_SIZE / 2, x + _TITLE_SIZE, y + _TITLE_SIZE / 2)
        draw.rectangle(swatch, outline=colours[index % len(colours)], width=_LINE)
        x += _TITLE_SIZE + _GUTTER / 2
        font = font_for(name, _TITLE_SIZE)
        draw.text((x, y), name, _TEXT, font, anchor="lm")
        x += font.getlength(name) + _GUTTER
