"""The sheet of images: boxes lie on what they were found on, and what cannot be read is left out."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from attngraft.study.judging.samples import Sample
from attngraft.study.reporting.sheet import sheet

ORIENTATION, QUARTER_LEFT = 0x0112, 6
"""The EXIF tag, and its value of a file whose pixels lie a quarter turn to the left of upright."""


def drawn(file: Path) -> Image.Image:
    box = (10.0, 120.0, 40.0, 30.0, 0, None)
    url = sheet([Sample(str(file), 100, {"truth": [box], "stock": [box]})], ["a"])
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    upright = Image.new("RGB", (100, 200), (200, 30, 30))
    upright.paste((30, 30, 200), (0, 100, 100, 200))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_LEFT
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    wanted, found = drawn(tmp_path / "upright.png"), drawn(tmp_path / "turned.jpg")
    assert found.size == wanted.size
    assert np.abs(np.asarray(found, float) - np.asarray(wanted, float)).mean() < 2


def test_no_sheet_of_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"half an image")
    assert sheet([Sample(str(file), 100, {"truth": []})], ["a"]) == ""
    file.unlink()
    assert sheet([Sample(str(file), 100, {"truth": []})], ["a"]) == sheet([], ["a"]) == ""
