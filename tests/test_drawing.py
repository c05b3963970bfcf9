"""The sheet of images: boxes where they belong, in their class's colour, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft.drawing import PALETTE, Box, chinese_font, mark, side_by_side
from tests.limits import largest_file

NAMES = ["red", "green"]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for index, path in enumerate(paths):
        Image.fromarray(np.full((40, 60, 3), 90 + index, np.uint8)).save(path)
    return paths


def pixels(sheet: Path) -> np.ndarray:
    with Image.open(sheet) as image:
        return np.asarray(image).astype(int)


def corner(sheet: np.ndarray, value: int, column: int) -> tuple[int, int]:
    """Find the upper left pixel of an image by the even grey it was filled with."""
    _rows, columns = np.nonzero((sheet == value).all(2))
    starts = [c for c in np.unique(columns) if c - 1 not in columns]
    left = starts[column]
    return int(np.nonzero((sheet[:, left] == value).all(1))[0][0]), int(left)


def test_boxes_are_drawn_around_their_objects(images: list[Path], tmp_path: Path) -> None:
    columns = {
        "truth": [[Box(20, 10, 40, 30, 0)], []],
        "model": [[Box(20, 10, 40, 30, 1, 0.9)], []],
    }
    out = side_by_side(images, columns, tmp_path / "new" / "sheet.png", class_names=NAMES, zoom=4)
    sheet = pixels(out)
    for column, colour in enumerate(PALETTE[:2]):
        top, left = corner(sheet, 90, column)
        picture = sheet[top : top + 160, left : left + 240]
        assert (picture[70:90, 77:80] == colour).all()  # three pixels left of the object, outside it
        assert (picture[40:120, 80:160] == 90).all()  # the object itself is not covered
        assert (picture[70:90, 160:163] == colour).all()
        assert (picture[120:123, 100:140] == colour).all()
    for column in range(2):
        top, left = corner(sheet, 91, column)
        assert (sheet[top : top + 160, left : left + 240] == 91).all()


def test_tags_stay_inside_and_hide_neither_box_nor_tag(images: list[Path], tmp_path: Path) -> None:
    boxes = [
        Box(20, 8, 30, 18, 0, 0.5),
        Box(20, 22, 30, 32, 1, 0.6),
        Box(1, 1, 8, 8, 1, 0.7),
        Box(52, 32, 59, 39, 0, 0.8),
    ]
    sheet = pixels(side_by_side(images, {"m": [boxes, []]}, tmp_path / "s.png", class_names=NAMES, zoom=8))
    top, left = corner(sheet, 91, 0)
    top, left = top - 8 * 40 - 14, left
    picture = sheet[top : top + 320, left : left + 480]
    for box in boxes:
        inside = picture[int(box.top) * 8 : int(box.bottom) * 8, int(box.left) * 8 : int(box.right) * 8]
        assert (inside == 90).all()
    margins = sheet[top : top + 320, :left], sheet[top : top + 320, left + 480 :]
    assert all((margin == sheet[0, 0]).all() for margin in margins)


def test_a_long_title_stays_in_its_column(images: list[Path], tmp_path: Path) -> None:
    columns = {"a title much wider than sixty pixels": [[], []], "b": [[], []]}
    sheet = pixels(side_by_side(images, columns, tmp_path / "s.png", class_names=NAMES, zoom=1))
    top, left = corner(sheet, 90, 1)
    assert (sheet[:top, left - 14 : left] == sheet[0, 0]).all()


def test_more_classes_than_colours(images: list[Path], tmp_path: Path) -> None:
    names = [f"c{index}" for index in range(9)]
    assert side_by_side(images, {"m": [[Box(1, 1, 9, 9, 8, 1.0)], []]}, tmp_path / "s.png", class_names=names).is_file()


def test_a_box_beyond_the_picture_is_drawn_along_its_border() -> None:
    picture = Image.new("RGB", (40, 30))
    mark(picture, [Box(-9, -9, 99, 99, 0)], class_names=None)
    assert {picture.getpixel(corner) for corner in ((0, 0), (39, 0), (0, 29), (39, 29))} == {PALETTE[0]}
    assert picture.getpixel((20, 15)) == (0, 0, 0)


def test_degenerate_boxes_are_drawn(images: list[Path], tmp_path: Path) -> None:
    boxes = [Box(30, 20, 30, 20, 0, 0.1), Box(30, 20, 10, 5, 0, 0.1), Box(-50, -50, 900, 900, 1, 0.2)]
    assert side_by_side(images, {"m": [boxes, []]}, tmp_path / "s.png", class_names=NAMES).is_file()


def test_refusals(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "s.png"
    with pytest.raises(OptionError, match=r"one list of boxes for each of the 2 images, got 1 in the column 'm'"):
        side_by_side(images, {"m": [[]]}, out, class_names=NAMES)
    with pytest.raises(OptionError, match=r"boxes of class 2 and 2 class_names"):
        side_by_side(images, {"m": [[Box(1, 1, 9, 9, 2)], []]}, out, class_names=NAMES)
    with pytest.raises(OptionError, match=r"needs an image, a column"):
        side_by_side([], {"m": []}, out, class_names=NAMES)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("broken.png", "empty.png"):
        with pytest.raises(DataError, match=rf"{name} is not an image that can be read; give PNG or JPEG files"):
            side_by_side([tmp_path / name], {"m": [[]]}, out, class_names=NAMES)
    with pytest.raises(DataError, match=r"absent.png cannot be read: No such file"):
        side_by_side([tmp_path / "absent.png"], {"m": [[]]}, out, class_names=NAMES)
    with pytest.raises(OutputError, match=r"cannot write the sheet of images to .*s.nonsense"):
        side_by_side(images, {"m": [[], []]}, tmp_path / "s.nonsense", class_names=NAMES)
    with pytest.raises(OutputError, match=r"cannot write the sheet of images"):
        side_by_side(images, {"m": [[], []]}, images[0] / "s.png", class_names=NAMES)
    assert not out.exists()


def test_a_sheet_that_is_cut_short_is_none_and_costs_no_older_one(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "sheets").mkdir()
    out = tmp_path / "sheets" / "s.png"
    out.write_bytes(b"an older one")
    with largest_file(100), pytest.raises(OutputError, match=r"cannot write the sheet of images to .*s.png"):
        side_by_side(images, {"m": [[], []]}, out, class_names=NAMES)
    assert [(file.name, file.read_bytes()) for file in out.parent.iterdir()] == [("s.png", b"an older one")]


@pytest.mark.skipif(chinese_font(15) is None, reason="needs a font with Chinese characters, such as Noto Sans CJK")
@pytest.mark.parametrize(("one", "other"), [("红细胞", "白细胞"), ("épi", "api"), ("кот", "кит")])
def test_names_in_any_script_are_told_apart(one: str, other: str) -> None:
    drawn = []
    for name in (one, other):
        picture = Image.new("RGB", (120, 90))
        mark(picture, [Box(30, 40, 90, 80, 0)], class_names=[name])
        drawn.append(np.asarray(picture))
    assert drawn[0].shape == drawn[1].shape
    assert (drawn[0] != drawn[1]).any()  # boxes in place of letters would be alike
