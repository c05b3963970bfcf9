"""Images from disk, whatever they were saved as, as RGB."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from attngraft._core.errors import DataError
from attngraft._core.files import IMAGES

SUFFIXES = frozenset({*IMAGES, ".gif"})
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises, depending on the format, for a file that is cut short or is no image."""

_Got = TypeVar("_Got")


def read_rgb(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an image as it is meant to be seen: turned as its EXIF tag says, every mode and depth as 8-bit RGB.

    Args:
        path: The file.
        size: Width and height that its annotations speak of, where they say. Annotations made on the unturned image
            get the unturned image.

    Returns:
        Pixels ``(H, W, 3)``; transparency is left out.

    Raises:
        DataError: If it cannot be read, or is not of that size.
    """
    image = _opened(path, lambda image: _upright(image, size))
    if size is not None and image.size != size:
        width, height = image.size
        raise DataError(f"{path} is {width}x{height} pixels and its annotations are for {size[0]}x{size[1]}")
    return np.array(_eight_bit(image, path).convert("RGB"))


def read_bytes(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read an image as bytes ``(3, H, W)``; the arguments are those of `read_rgb`."""
    return torch.from_numpy(read_rgb(path, size)).permute(2, 0, 1)


def read_unit(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read an image ``(3, H, W)`` from 0 to 1; the arguments are those of `read_rgb`."""
    return read_bytes(path, size).float() / 255


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height as `read_rgb` gives them, from the head of the file.

    Raises:
        DataError: If it cannot be read.
    """
    width, height = _opened(path, lambda image: image.size if not _lies(image) else image.size[::-1])
    return width, height


def stored_size(path: Path) -> tuple[int, int]:
    """Return width and height before any turning; of a PNG, the EXIF tag may stand behind the pixels.

    Raises:
        DataError: If it cannot be read.
    """
    width, height = _opened(path, lambda image: image.size)
    return width, height


def images_in(folder: Path) -> list[Path]:
    """List the image files under a folder, in alphabetical order, without what programs leave there.

    Raises:
        DataError: If a name is not text, which reports and tables could not hold.
    """
    return sorted(
        named(file)
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and not any(map(is_hidden, file.relative_to(folder).parts)) and is_file(file)
    )


def named(path: Path) -> Path:
    """Return a path whose name is text.

    Raises:
        DataError: If its bytes are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"{str(path)!r} has a name that is not UTF-8; rename it") from None
    return path


def is_file(path: Path) -> bool:
    """Tell whether there is a file, for names that no file can have too: `Path.is_file` raises for a long one."""
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder, for names that no folder can have too."""
    return os.path.isdir(path)


def is_hidden(name: str) -> bool:
    """Tell whether a program left a file or folder of this name, not the user: ``.ipynb_checkpoints``, ``._x.jpg``.

    Example:
        >>> [name for name in (".DS_Store", "._a.jpg", "__MACOSX", "_a.jpg") if not is_hidden(name)]
        ['_a.jpg']
    """
    return name.startswith(".") or name == "__MACOSX"


def _opened(path: Path, use: Callable[[Image.Image], _Got]) -> _Got:
    try:
        # Where Ultralytics is loaded, Image.open is its own, which pip-installs pi-heif for a file that is no image.
        if Image.open.__module__ != Image.__name__ and path.is_file() and not cv2.haveImageReader(str(path)):
            raise UnidentifiedImageError("of no known format")
        with Image.open(path) as image:
            _require_one_page(path, image)
            return use(image)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except DataError:  # a ValueError too
        raise
    except BROKEN as error:
        raise DataError(
            f"{path} is not an image that can be read ({error}); replace the file or leave it out"
        ) from error


def _require_one_page(path: Path, image: Image.Image) -> None:
    """Require a TIFF without further pages of its size, which are channels or slices; a preview is smaller.

    Raises:
        DataError: If it has some.
    """
    if image.format != "TIFF" or (pages := getattr(image, "n_frames", 1)) == 1:
        return
    size = image.size
    image.seek(1)
    if image.size == size:
        raise DataError(
            f"{path} has {pages} pages of one size, such as channels, and fit would see the first alone; save what it "
            "is to see as one RGB image"
        )
    image.seek(0)


def _upright(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    image.load()
    unturned = size is not None and _lies(image) and image.size == size and size[0] != size[1]
    return image.copy() if unturned else ImageOps.exif_transpose(image)


def _lies(image: Image.Image) -> bool:
    """Say whether the EXIF orientation swaps width and height."""
    return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    """Scale more than 8 bits down; Pillow's own conversion would cut everything above 255 off."""
    if image.mode == "F":
        raise DataError(f"{path} has floating-point pixels, whose range is unknown; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image).astype(np.int64)
    if deep.size and (deep.min() < 0 or deep.max() > 0xFFFF):
        raise DataError(f"{path} has pixels of more than 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
