"""The images of a data set's splits, found as Ultralytics finds them and not opened."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS

from attngraft.yolo.host import read_data


def split_images(data: str, split: str) -> list[Path]:
    """List the images of a split, in alphabetical order.

    Args:
        data: A data file of Ultralytics.
        split: ``train``, ``val`` or ``test``.

    Returns:
        Their paths; none where the data file does not name the split.

    Raises:
        DataError: As `read_data` does.
    """
    given = read_data(data).get(split) or []
    homes = [Path(home) for home in (given if isinstance(given, list) else [given])]
    found = (path for home in homes for path in (listed(home) if home.is_file() else _below(home)))
    return sorted(path for path in found if path.suffix[1:].lower() in IMG_FORMATS)


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder as Ultralytics does: no hidden ones, and those of linked folders too."""
    return map(Path, glob.glob(str(folder / "**" / "*.*"), recursive=True))


def listed(file: Path) -> Iterator[Path]:
    """Yield what a text file lists, one path a line; those that start with ``./`` are relative to the file.

    Args:
        file: The text file.
    """
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        if name := line.strip():
            yield file.parent / name[2:] if name.startswith("./") else Path(name)
