"""Why detections fail: TIDE's six error types, how many there are and how much AP50 each costs.

A false positive is of the first type that fits, by its largest overlap with an object, 0.5 being a hit and 0.1 a miss:

    localisation     right class, overlap in [0.1, 0.5)
    classification   wrong class, overlap >= 0.5
    duplicate        right class, overlap >= 0.5 with an object that a better detection holds
    background       overlap <= 0.1 with everything
    both             wrong class, overlap in [0.1, 0.5)

and an object that nothing found, not even a localisation or classification error, is missed. The cost of a type is how
far AP50 would rise if its errors alone were fixed.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020; computed by hotcoco.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attngraft._core.extras import extra_package
from attngraft.coco.evaluate import load_predictions, load_truth
from attngraft.coco.installed import HOTCOCO
from attngraft.coco.libraries import Task
from attngraft.coco.matches import CONFIDENCE

ERROR_TYPES = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
"""Our words and hotcoco's keys."""


@dataclass(frozen=True)
class ErrorTypes:
    """The errors of one run.

    Attributes:
        counts: How many errors there are of each type.
        costs: How many AP50 points (0 to 100) each type costs.
        ap50: AP50 as it is, in points.
    """

    counts: dict[str, int]
    costs: dict[str, float]
    ap50: float


def error_types(
    truth: str | Path | Mapping[str, Any],
    predictions: str | Path | Sequence[Mapping[str, Any]],
    *,
    task: Task = "bbox",
    confidence: float = CONFIDENCE,
) -> ErrorTypes:
    """Sort the errors of one run; the arguments are those of `attngraft.coco.evaluate.evaluate`.

    Raises:
        MissingExtraError: If hotcoco is not installed; pycocotools does not know them.

    Example:
        >>> truth = {
        ...     "images": [{"id": 1, "width": 100, "height": 100, "file_name": "1.jpg"}],
        ...     "categories": [{"id": 7, "name": "cat"}],
        ...     "annotations": [
        ...         {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
        ...     ],
        ... }
        >>> half = {"image_id": 1, "category_id": 7, "bbox": [10, 10, 50, 20], "score": 0.9}
        >>> found = error_types(truth, [half])
        >>> found.counts["localisation"], round(found.costs["localisation"])
        (1, 100)
    """
    hotcoco = extra_package(HOTCOCO, "coco")
    objects = load_truth(truth, task)
    evaluation = hotcoco.COCOeval(objects, load_predictions(predictions, objects, confidence, task), task)
    evaluation.evaluate()
    found = evaluation.tide_errors(pos_thr=0.5, bg_thr=0.1)
    return ErrorTypes(
        counts={name: int(found["counts"][key]) for name, key in ERROR_TYPES.items()},
        costs={name: 100 * float(found["delta_ap"][key]) for name, key in ERROR_TYPES.items()},
        ap50=100 * float(found["ap_base"]),
    )
