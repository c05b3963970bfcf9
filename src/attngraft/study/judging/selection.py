"""Images to choose arms by, and others to confirm them on, where there is no fresh split.

The best of many looks better than it is on the images that chose it. The half that an image belongs to is decided by
checksums of the file names, or of the names of their groups, so it is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from attngraft._core.errors import DataError
from attngraft.study.judging.bootstrap import Kept
from attngraft.study.running.folds import groups


def choosing(names: Sequence[str], group: str | None = None) -> Kept:
    """Say which images arms are chosen by, of files with these names.

    Args:
        names: File names of the images.
        group: A regular expression; what its first group matches in a name is the name of the image's group (patient,
            video, scene). Images of a group are alike, so all of them choose or all confirm, and the halves are as
            equal as whole groups make them.

    Raises:
        DataError: If there are fewer than two images or groups, or a name has no group.

    Example:
        >>> choosing(["a/1.jpg", "a/2.jpg", "a/3.jpg", "a/4.jpg"]).tolist() == choosing(
        ...     ["b/1.jpg", "b/2.jpg", "b/3.jpg", "b/4.jpg"]
        ... ).tolist()
        True
        >>> choosing(["ann-1.jpg", "ann-2.jpg", "bob-1.jpg", "bob-2.jpg"], "([a-z]+)-").tolist()
        [True, True, False, False]
    """
    files = [PurePosixPath(name.replace("\\", "/")) for name in names]
    units = [file.stem for file in files] if group is None else groups([file.name for file in files], group)
    members: dict[tuple[str, int], list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault((unit, index if group is None else 0), []).append(index)
    if len(members) < 2:
        what = "images" if group is None else f"groups of images by group: {group}"
        raise DataError(
            f"choosing arms by half of the images and confirming them on the other takes 2 {what}, got {len(members)}; "
            "name a split that chose nothing: held_out=test"
        )
    found = np.zeros(len(names), dtype=bool)
    dealt = sorted(members, key=lambda unit: (hashlib.sha256(unit[0].encode()).digest(), unit[1]))
    for key in dealt:
        if int(found.sum()) + len(members[key]) <= len(names) // 2:  # the smallest always fits
            found[members[key]] = True
    return found


def confirming(names: Sequence[str], group: str | None = None) -> Kept:
    """Say which images arms are confirmed on: those that did not choose them."""
    return ~choosing(names, group)
