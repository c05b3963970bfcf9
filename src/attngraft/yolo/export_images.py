"""The images that an export is compared on: the user's or generated ones, at the sizes that the file takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.data.utils import IMG_FORMATS
from ultralytics.utils.patches import imread

from attngraft._core.errors import DataError
from attngraft.data.scenes import beacon_scene, generator
from attngraft.export.exported import Array
from attngraft.yolo.splits import listed, split_images

Size = tuple[int, int]
"""Height and width in pixels."""
SPLITS = ("val", "validation", "test", "train")
"""Folders of a classifier's data, as Ultralytics names them, the one to compare on first."""


def images(source: str | Path | None, data: str | None, count: int, channels: int = 3) -> Iterator[Array]:
    """Yield images ``(H, W, C)`` as Ultralytics reads them.

    Args:
        source: An image, a folder or a list of images; None takes those of ``data``.
        data: A data file, or a classifier's folder; None generates coloured images.
        count: Most images.
        channels: Channels that the model takes; files have as many, but for 1, which is made of three.

    Raises:
        DataError: If there are none, or one cannot be read or has other channels.
    """
    if source is None and data is None:
        for index in range(count):
            yield beacon_scene(generator(0, index)).image[..., ::-1]
        return
    files = _split(str(data)) if source is None else _files(Path(source))
    if not files:
        raise DataError(f"there are no images in {source or data}; name an image, a folder or a data file")
    is_coloured = channels in (1, 3)
    for file in files[:count]:
        image = imread(file, cv2.IMREAD_COLOR if is_coloured else cv2.IMREAD_UNCHANGED)
        if image is None:
            raise DataError(f"{file} is no image that can be read; fix or remove it")
        if not is_coloured and image.shape[2] != channels:
            raise DataError(
                f"{file} has {image.shape[2]} channels and the model takes {channels}; name images like those that it "
                "was trained on"
            )
        yield image


def _split(data: str) -> list[Path]:
    """Return the images of a data set's ``val``: of a data file, or of a classifier's folder of splits."""
    splits = [Path(data, name) for name in SPLITS]
    here = [folder for folder in splits if folder.is_dir()]
    if here and not list(Path(data).glob("*.y*ml")):
        return _files(here[0])
    return split_images(data, "val")


def _files(place: Path) -> list[Path]:
    """Return an image, the images that a text file lists, or those anywhere in a folder."""
    inside = sorted(place.rglob("*")) if place.is_dir() else listed(place) if place.suffix == ".txt" else [place]
    return [file for file in inside if file.suffix[1:].lower() in IMG_FORMATS]


def other_sizes(sides: Size, step: int, fits: Callable[[Size], bool] = lambda _: True) -> list[Size]:
    """Return the exported size, a smaller portrait one and a larger landscape one.

    Args:
        sides: Height and width that the file was exported at.
        step: What sides are multiples of.
        fits: Whether the file takes a size; the portrait one grows until it does.
    """
    height, width = sides
    tall, narrow = max(step, height - step), max(step, width // 2 // step * step)
    while not fits((tall, narrow)):
        tall += step
    return [sides, (tall, narrow), (height, width + 2 * step)]


def batches(found: Sequence[Array], size: tuple[int, int], batch: int, network: Any) -> Iterator[Tensor]:
    """Letterbox images to a size as Ultralytics does, and yield as many at once as the file takes."""
    frame = LetterBox(new_shape=size, auto=False)
    made = np.stack([frame(image=image) for image in found])  # (n, H, W, C)
    made = made[..., ::-1] if made.shape[3] == 3 else made
    x = torch.from_numpy(np.ascontiguousarray(made.transpose(0, 3, 1, 2))).float() / 255
    channels = network.yaml.get("channels", 3)
    x = x if channels == x.shape[1] else x.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    whole = x[torch.arange(-(-len(x) // batch) * batch) % len(x)]
    yield from (whole[start : start + batch] for start in range(0, len(whole), batch))
