"""Images to look at: whatever holds one gives the pixels that its file does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from attngraft._core.errors import DataError, OptionError
from attngraft._core.files import IMAGES
from attngraft._core.progress import Lines
from attngraft.fit.data.images import read_rgb
from attngraft.look.images import read_all
from attngraft.look.video import film


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_opened_image_is_turned_as_its_file_is(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = 255
    Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    ((_, of_file),) = read_all(tmp_path / "image.png")
    ((_, opened),) = read_all(Image.open(tmp_path / "image.png"))
    assert of_file.shape == ((30, 20, 3) if orientation == 6 else (20, 30, 3))
    np.testing.assert_array_equal(opened, of_file)


def test_an_opened_image_of_16_bits_is_scaled_as_its_file_is(tmp_path: Path) -> None:
    pixels = (np.arange(64 * 4, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    ((_, of_file),) = read_all(tmp_path / "image.png")
    ((_, opened),) = read_all(Image.open(tmp_path / "image.png"))
    assert opened[-1, -1].tolist() == [255] * 3
    assert opened[8, 0].tolist() == [128] * 3
    np.testing.assert_array_equal(opened, of_file)


def test_images_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / folder / "image.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "one" / "own.png")
    names = [name for name, _ in read_all([tmp_path / "one", tmp_path / "other" / "image.png"])]
    assert names == [str(tmp_path / "one" / "image.png"), "own.png", str(tmp_path / "other" / "image.png")]


@pytest.mark.parametrize("suffix", IMAGES)
def test_every_suffix_of_a_folder_is_read(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    pixels = np.full((32, 48, 3), (200, 100, 20), np.uint8)
    file = tmp_path / f"image{suffix.upper()}"
    Image.fromarray(pixels).save(file)
    for _, read in (*read_all(tmp_path), ("image", read_rgb(file))):
        np.testing.assert_allclose(read, pixels, atol=6)  # of files that lose some; one colour, lest they lose more


def test_what_cannot_be_read_in_a_folder_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    with (
        pytest.raises(DataError, match="no image to look at"),
        pytest.warns(UserWarning, match=r"a\.jpg is not an image"),
    ):
        read_all(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    said: list[str] = []
    assert [name for name, _ in read_all(tmp_path, Lines(said.append))] == ["b.png"]
    (line,) = said
    assert line.startswith(f"{tmp_path / 'a.jpg'} is not an image")
    assert line.endswith("; it is left out")
    with pytest.raises(DataError, match=r"a\.jpg is not an image"):
        read_all([tmp_path / "b.png", tmp_path / "a.jpg"])


def test_addresses_are_refused_in_a_sentence() -> None:
    """A path would have lost one of the two slashes, and the sentence with it."""
    said = "look reads files and downloads nothing, got https://host/a.%s; download it and name the file"
    with pytest.raises(DataError, match=re.escape(said % "jpg")):
        read_all(["https://host/a.jpg"])
    with pytest.raises(DataError, match=re.escape(said % "mp4")):
        film("attngraft-micro.yaml", "https://host/a.mp4")


def test_frames_count_from_zero() -> None:
    for numbers in ({"frame": -1}, {"detection": -1}):
        with pytest.raises(OptionError, match="look needs (frame|detection) to be an integer of 0 or more, got -1"):
            film("attngraft-micro.yaml", "a.mp4", **numbers)  # type: ignore[arg-type]
