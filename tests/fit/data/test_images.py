"""Every kind of image file becomes the RGB bytes that a viewer shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attngraft._core.errors import DataError
from attngraft.fit.data.images import images_in, read_rgb, upright_size

RAMP = np.linspace(0, 255, 30).reshape(5, 6)


def test_grey_is_repeated(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "grey.png")
    found = read_rgb(tmp_path / "grey.png")
    assert found.shape == (5, 6, 3)
    np.testing.assert_array_equal(found, np.repeat(RAMP.astype(np.uint8)[..., None], 3, 2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path, suffix: str) -> None:
    Image.fromarray((RAMP * 257).round().astype(np.uint16)).save(tmp_path / f"deep.{suffix}")
    np.testing.assert_allclose(read_rgb(tmp_path / f"deep.{suffix}")[..., 1], RAMP, atol=1)


def test_more_bits_have_no_known_range(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 1 << 20, np.int32)).save(tmp_path / "long.tif")
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="long.tif has pixels of more than 16 bits; save it with"):
        read_rgb(tmp_path / "long.tif")
    with pytest.raises(DataError, match="float.tif has floating-point pixels"):
        read_rgb(tmp_path / "float.tif")


def test_cmyk_palette_and_transparency_keep_their_colour(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (220, 30, 40))
    red.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    red.quantize(4).save(tmp_path / "palette.png")
    red.convert("RGBA").save(tmp_path / "alpha.png")
    red.convert("L").convert("LA").save(tmp_path / "grey-alpha.png")
    for name in ("cmyk.jpg", "palette.png", "alpha.png"):
        np.testing.assert_allclose(read_rgb(tmp_path / name)[4, 4], (220, 30, 40), atol=6)
    assert read_rgb(tmp_path / "grey-alpha.png").shape == (8, 8, 3)


def turned(path: Path) -> None:
    """Save an image 6 wide and 4 high whose EXIF tag says that it stands on its side; the corner mark is red."""
    pixels = np.full((4, 6, 3), 90, np.uint8)
    pixels[0, 0] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif)


def test_a_turned_picture_is_turned_upright(tmp_path: Path) -> None:
    turned(tmp_path / "turned.png")
    assert upright_size(tmp_path / "turned.png") == (4, 6)
    found = read_rgb(tmp_path / "turned.png")
    assert found.shape == (6, 4, 3)
    assert found[0, 3].tolist() == [255, 0, 0]


def test_annotations_of_the_unturned_picture_get_that(tmp_path: Path) -> None:
    turned(tmp_path / "turned.png")
    assert read_rgb(tmp_path / "turned.png", (6, 4))[0, 0].tolist() == [255, 0, 0]
    assert read_rgb(tmp_path / "turned.png", (4, 6))[0, 3].tolist() == [255, 0, 0]
    with pytest.raises(DataError, match="turned.png is 4x6 pixels and its annotations are for 7x6"):
        read_rgb(tmp_path / "turned.png", (7, 6))


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("L", (1, 1), 7).save(tmp_path / "one.png")
    assert read_rgb(tmp_path / "one.png").tolist() == [[[7, 7, 7]]]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.jpg", "empty.png", "text.png"):
        with pytest.raises(DataError, match=f"{name} is not an image that can be read"):
            read_rgb(tmp_path / name)
    with pytest.raises(DataError, match="nowhere.png does not exist"):
        upright_size(tmp_path / "nowhere.png")


def test_pictures_are_found_in_order_and_other_files_are_not(tmp_path: Path) -> None:
    litter = ("._b.png", ".cache/b.png", "__MACOSX/a/._c.jpeg", "a/__MACOSX/c.jpeg", "a/.ipynb_checkpoints/c-1.jpeg")
    for name in ("b.PNG", "a/c.jpeg", "notes.txt", "z.tif", *litter):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in images_in(tmp_path)] == ["a/c.jpeg", "b.PNG", "z.tif"]
    assert images_in(tmp_path / ".cache") == [tmp_path / ".cache/b.png"]  # asked for by name


def test_pages_that_nobody_would_see_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(np.full((8, 10), 200, np.uint8))
    channels, preview = tmp_path / "six.tif", tmp_path / "preview.tif"
    page.save(channels, save_all=True, append_images=[page] * 5)
    page.save(preview, save_all=True, append_images=[page.resize((5, 4))])
    for read in (read_rgb, upright_size):
        with pytest.raises(DataError, match=r"six.tif has 6 pages of one size, such as channels"):
            read(channels)
    assert (read_rgb(preview) == 200).all()
