"""What a look found: arrays first, then a page, a figure or a file of arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attngraft._core.errors import OptionError
from attngraft._core.files import free_file, write_bytes, write_text, write_whole
from attngraft.look.arrays import ImageLook
from attngraft.maps import Verdict, judge

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".html", ".png", ".svg", ".npz")


class Look:
    """What a model did on some images.

    Attributes:
        images: A look for each image, arrays first.
        model: The model's name.
        task: The task of Ultralytics.
        names: Names of the classes.
        base: Name of the model beside; empty if there is none.
        language: Of figures and of the page, ``en`` or ``zh``; None takes that of the locale, and in the page of the
            browser. A ``.png`` is then in English where this system has no font for Chinese.
        command: The command line that it was made by, for the metadata of figures; empty in Python.
    """

    def __init__(
        self, images: Sequence[ImageLook], *, model: str, task: str, names: dict[int, str], base: str = ""
    ) -> None:
        self.images = list(images)
        self.model, self.task, self.names, self.base = model, task, names, base
        self.language: str | None = None
        self.command = ""

    def __repr__(self) -> str:
        found = sum(len(image.detections) for image in self.images)
        return f"Look({self.model}: {len(self.images)} images, {found} detections)"

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return every array, named ``IMAGE/LAYER/WHAT`` with the image's number from 0."""
        return {f"{i}/{name}": array for i, image in enumerate(self.images) for name, array in image.arrays()}

    def verdicts(self) -> list[Verdict]:
        """Judge ODAM beside the controls over all images; empty where fewer than two were scored."""
        images = [image.curves for image in self.images if image.curves]
        if len(images) < 2:
            return []
        found = []
        for direction in ("deletion", "insertion"):
            methods = images[0][0].areas[direction]
            areas = {m: [[one.areas[direction][m] for one in curves] for curves in images] for m in methods}
            found += judge(f"{direction} blur", areas)
        return found

    def figure(self, image: int = 0, detection: int = 0) -> Image.Image:
        """Draw the maps of one detection beside each other.

        Args:
            image: Number of the image, from 0.
            detection: Number of the detection, from 0; an image without any shows its middle cell.

        Raises:
            OptionError: If there is no such image or detection, or no font for the language that was asked for.
        """
        from attngraft.look.language import has_font, spoken
        from attngraft.look.sheet import draw

        language = self.language or (spoken() if has_font(spoken()) else "en")
        return draw(self._tiles(image, detection, language), language)

    def save(self, path: str | Path, *, image: int = 0, detection: int = 0) -> Path:
        """Write a page (``.html``), a contact sheet (``.png``, ``.svg``) or all arrays (``.npz``).

        Args:
            path: The file; if there is one, the next free name is taken: ``look-2.html``.
            image: Which image a contact sheet shows.
            detection: Which of its detections.

        Returns:
            The file that was written.

        Raises:
            OptionError: If the suffix is another, or there is no such image or detection.
            OutputError: If it cannot be written.
        """
        file = free_file(require_suffix(path))
        if file.suffix == ".html":
            from attngraft.look.page import page

            write_text(file, page(self))
        elif file.suffix == ".npz":
            write_whole(file, lambda partial: np.savez_compressed(partial, **self.arrays()))  # type: ignore[arg-type]
        elif file.suffix == ".svg":
            from attngraft.look.language import spoken
            from attngraft.look.sheet import svg

            write_text(file, svg(self._tiles(image, detection, self.language or spoken()), self.command or repr(self)))
        else:
            from attngraft.look.sheet import png

            write_bytes(file, png(self.figure(image, detection), self.command or repr(self)))
        return file

    def _repr_png_(self) -> bytes:
        """Show itself in a notebook."""
        buffer = io.BytesIO()
        self.figure().save(buffer, "PNG")
        return buffer.getvalue()

    def _tiles(self, image: int, detection: int, language: str) -> Any:
        from attngraft.look.sheet import tiles

        if not 0 <= image < len(self.images):
            raise OptionError(f"there are {len(self.images)} images, counted from 0; got image={image}")
        found = self.images[image]
        if not 0 <= detection < max(1, len(found.detections)):
            raise OptionError(
                f"{found.name} has {len(found.detections)} detections, counted from 0; got detection={detection}"
            )
        return tiles(found, detection, self.names, language)


def require_suffix(path: str | Path) -> Path:
    """Return a path that has one of our suffixes.

    Raises:
        OptionError: If it has another.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise OptionError(f"look writes {', '.join(SUFFIXES)}, got {file}; choose one of these suffixes")
    return file
