"""Images to choose arms by, and others to confirm them on, where there is no fresh split.

The best of many looks better than it is on the images that chose it. The half that an image belongs to is decided by
checksums of the file names, so it is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from attngraft._core.errors import DataError
from attngraft.study.judging.bootstrap import Kept


def choosing(names: Sequence[str]) -> Kept:
    """Say which images arms are chosen by, of files with these names.

    Raises:
        DataError: If there are fewer than two.

    Example:
        >>> choosing(["a/1.jpg", "a/2.jpg", "a/3.jpg", "a/4.jpg"]).tolist() == choosing(
        ...     ["b/1.jpg", "b/2.jpg", "b/3.jpg", "b/4.jpg"]
        ... ).tolist()
        True
    """
    if len(names) < 2:
        raise DataError(
            f"choosing arms by half of the images and confirming them on the other takes 2 images, got {len(names)}; "
            "name a split that chose nothing: held_out=test"
        )
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in names]
    order = sorted(range(len(names)), key=lambda index: (hashlib.sha256(stems[index].encode()).digest(), index))
    found = np.zeros(len(names), dtype=bool)
    found[order[: len(names) // 2]] = True
    return found


def confirming(names: Sequence[str]) -> Kept:
    """Say which images arms are confirmed on: those that did not choose them."""
    return ~choosing(names)
