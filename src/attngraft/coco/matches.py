"""What a bootstrap needs of one run: which detection of which image matched, at each IoU and size.

The table is made once per run by `attngraft.coco.evaluate` and is all that is kept of the predictions: COCO's
matching is done within one image, so resampling images never matches again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.archive import DAMAGED_ARRAYS
from attngraft._core.errors import DataError
from attngraft._core.files import write_whole

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's ten thresholds; bit t of a mask of `Matches` belongs to the t-th."""

SIZES = ("all", "small", "medium", "large")
"""COCO's size ranges in the order of the rows of `Matches`."""

CONFIDENCE = 0.001
"""Detections of a lower score are left out of an evaluation."""

MAX_DETECTIONS = 100
"""Most detections of an image and class that count, by COCO's rule."""

ASKED_DETECTIONS = 300
"""Most detections of an image, over all classes, that a detector is asked for before each class is cut."""

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Matches:
    """The match table of one run: C classes, I images, D detections, G pairs of an image and a class with objects.

    Detections are sorted by class, then falling score, then image, then rank: the order in which COCO walks down a
    precision-recall curve, ties included.

    Attributes:
        images: Image ids, rising, ``(I,)``.
        classes: Class names in the order of their ids, ``(C,)``.
        first: Where each class's detections begin, and D at the end, ``(C + 1,)``.
        score: Confidence, ``(D,)``.
        image: Index into ``images``, ``(D,)``.
        rank: Place among the detections of its image and class, from 0, ``(D,)``.
        matched: Bit t is set where the detection holds an object at ``IOU_THRESHOLDS[t]``; one row a size, ``(4, D)``.
        ignored: Bit t is set where the detection counts neither for nor against, ``(4, D)``.
        object_class: Class index of each image-class pair with objects, ``(G,)``.
        object_image: Image index of each pair, ``(G,)``.
        objects: How many objects to find the pair has; one row a size, ``(4, G)``.
    """

    images: NDArray[np.int64]
    classes: NDArray[np.str_]
    first: NDArray[np.int64]
    score: NDArray[np.float64]
    image: NDArray[np.int32]
    rank: NDArray[np.uint8]
    matched: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    object_class: NDArray[np.int32]
    object_image: NDArray[np.int32]
    objects: NDArray[np.uint16]

    def save(self, path: str | Path) -> None:
        """Write the table as one compressed ``.npz`` file, whole or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}

        def write(partial: Path) -> None:
            with partial.open("wb") as file:  # of a path NumPy changes the suffix
                np.savez_compressed(file, format=np.int64(FORMAT), **arrays)

        write_whole(Path(path), write)

    @classmethod
    def load(cls, path: str | Path) -> Matches:
        """Read a table that `save` wrote.

        Raises:
            DataError: If the file is no match table, or one of another format.
        """
        try:
            with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                found = int(file["format"])
                arrays = {field.name: file[field.name] for field in fields(cls)} if found == FORMAT else {}
        except FileNotFoundError:
            raise
        except DAMAGED_ARRAYS as error:
            raise DataError(f"{path} is not a match table; write it with Matches.save ({error})") from error
        if found != FORMAT:
            raise DataError(
                f"{path} is a match table of format {found} and this release reads {FORMAT}; evaluate the run again"
            )
        return cls(**arrays)

    def comparable(self, other: Matches) -> bool:
        """Say whether two tables rest on the same images, classes and objects, so that pairing them means something."""
        shared = ("images", "classes", "object_class", "object_image", "objects")
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in shared)


def require_comparable(runs: Sequence[Matches]) -> None:
    """Require that every run was evaluated against the same ground truth.

    Raises:
        DataError: If one was not.
    """
    for index, run in enumerate(runs):
        if not run.comparable(runs[0]):
            raise DataError(
                f"a study compares runs on one ground truth, and run {index} rests on other images, classes or objects "
                f"({len(run.images)} images and {int(run.objects[0].sum())} objects, against {len(runs[0].images)} and "
                f"{int(runs[0].objects[0].sum())}); evaluate every run on the same file"
            )


def bits(mask: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Open masks ``(n,)`` into one column a threshold, ``(n, 10)``.

    Example:
        >>> bits(np.array([0b101], dtype=np.uint16))[0, :4].tolist()
        [True, False, True, False]
    """
    return (mask[:, None] >> np.arange(len(IOU_THRESHOLDS), dtype=np.uint16) & 1).astype(bool)
