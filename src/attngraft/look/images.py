"""Images to look at: files, folders, arrays and PIL images, all as ``(H, W, 3)``, red first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from attngraft._core.errors import DataError
from attngraft._core.escape import whole
from attngraft._core.files import IMAGES
from attngraft._core.progress import SILENT, Progress, tell
from attngraft.drawing import read_image

Pixels = NDArray[np.uint8]


def read_all(images: Any, progress: Progress = SILENT) -> list[tuple[str, Pixels]]:
    """Return every image with its name; what cannot be read in a folder is left out and named.

    Args:
        images: A path, a folder, an array ``(H, W, 3)`` of bytes, red first, a PIL image, or a sequence of these.
        progress: Whom to tell what is left out.

    Raises:
        DataError: If one that is named or given is missing, unreadable or of another shape, or if there is none.
    """
    several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    found = [one for number, image in enumerate(several, 1) for one in _read(image, number, progress)]
    if not found:
        raise DataError("there is no image to look at; name a file, or a folder with images")
    named = Counter(name for name, _, _ in found)
    return [(name if named[name] == 1 else path, pixels) for name, path, pixels in found]


def _read(image: Any, number: int, progress: Progress) -> list[tuple[str, str, Pixels]]:
    """Return each image with its name, and with its path, which tells it from one of the same name."""
    if isinstance(image, (str, os.PathLike)):
        path = local(image)
        files = _readable(path, progress) if path.is_dir() else [(path, read_image(path))]
        return [(whole(file.name), whole(str(file)), pixels) for file, pixels in files]
    if isinstance(image, Image.Image):
        return [(f"image {number}", f"image {number}", _upright(image))]
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        shape = f" of {image.dtype}, shape {image.shape}" if isinstance(image, np.ndarray) else ""
        raise DataError(f"look takes paths, PIL images or uint8 arrays (H, W, 3), got {type(image).__name__}{shape}")
    if not image.size:
        raise DataError(f"image {number} has no pixels, shape {image.shape}")
    return [(f"image {number}", f"image {number}", image)]


def _readable(folder: Path, progress: Progress) -> list[tuple[Path, Pixels]]:
    found = []
    for file in sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES):
        try:
            found.append((file, read_image(file)))
        except DataError as error:
            tell(progress, f"{error}; it is left out")
    return found


def local(name: str | os.PathLike[str]) -> Path:
    """Return the path of a file of this machine.

    Raises:
        DataError: If it is an address, which Ultralytics would download; look fetches nothing.
    """
    if "://" in (address := os.fspath(name)):
        raise DataError(f"look reads files and downloads nothing, got {address}; download it and name the file")
    return Path(name)


def _upright(image: Image.Image) -> Pixels:
    """Return the pixels of a PIL image as its file would be read: turned as its EXIF says, 16 bits scaled to 8."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I;16"):
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    return np.array(turned.convert("RGB"))
