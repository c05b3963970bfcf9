"""The sheet of images on which the arms disagree most: the truth, the baseline and the arms, side by side."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from attngraft._core.errors import DataError
from attngraft.drawing import Box, read_image, side_by_side
from attngraft.study.judging.samples import Sample

THUMBNAIL = 300
"""Pixels of the longer side of a sample image."""


def sheet(samples: Sequence[Sample], classes: Sequence[str]) -> str:
    """Draw the sheet as a data URL; empty where there are no samples, or their files are gone or cannot be read."""
    try:
        images = [Image.fromarray(read_image(sample.file)) for sample in samples]  # upright, as boxes are
    except DataError:
        return ""
    if not images:
        return ""
    with tempfile.TemporaryDirectory() as home:
        files, scales = [], []
        for index, (sample, image) in enumerate(zip(samples, images, strict=True)):
            scale = min(1.0, THUMBNAIL / max(image.size))
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            files.append(Path(home) / f"{index}.png")
            image.resize(size).save(files[-1])
            scales.append(size[0] / sample.width)
        titles = list(dict.fromkeys(title for sample in samples for title in sample.boxes))
        columns = {
            title.replace("stock", "baseline"): [
                _boxes(sample.boxes.get(title, []), scale) for sample, scale in zip(samples, scales, strict=True)
            ]
            for title in titles
        }
        zoom = max(1, 2 * THUMBNAIL // 3 // max(sample.width for sample in samples))
        return _data_url(side_by_side(files, columns, Path(home) / "sheet.png", class_names=classes, zoom=zoom))


def _boxes(found: Sequence[tuple[float, float, float, float, int, float | None]], scale: float) -> list[Box]:
    return [
        Box(x * scale, y * scale, (x + w) * scale, (y + h) * scale, kind, score) for x, y, w, h, kind, score in found
    ]


def _data_url(file: Path) -> str:
    packed = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").save(packed, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"
