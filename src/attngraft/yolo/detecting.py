"""Detecting for a study: Ultralytics' own validation, with its detections and the labels in COCO's format."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import ops

from attngraft._core.errors import DataError, OptionError
from attngraft.coco.masks import run_lengths
from attngraft.coco.matches import ASKED_DETECTIONS, CONFIDENCE
from attngraft.measure import parameters
from attngraft.yolo.model import YOLO

COMPARED: dict[str, Literal["bbox", "segm"]] = {"detect": "bbox", "segment": "segm"}
"""Tasks of Ultralytics that a study compares, and what COCO's evaluation compares of them."""


@dataclass(frozen=True)
class Detections:
    """What a model found on a split, beside what is there, both in COCO's format.

    Attributes:
        truth: Images with ``file_name`` relative to the split's common folder, categories from 0, annotations.
        found: Detections in COCO's results format; unrounded, at most `ASKED_DETECTIONS` per image.
        root: The folder that the file names are relative to.
        task: What a detection is of: ``bbox``, or ``segm`` where the model finds masks.
        parameters: Parameters of the model as it was trained; None where a program detected.
    """

    truth: dict[str, Any]
    found: list[dict[str, Any]]
    root: Path
    task: Literal["bbox", "segm"] = "bbox"
    parameters: int | None = None


def detect(weights: Path, data: str, *, split: str, options: Mapping[str, Any]) -> Detections:
    """Detect on a split as Ultralytics validates, at the confidence and number of detections of the COCO rule.

    Args:
        weights: A checkpoint.
        data: Ultralytics' data file.
        split: ``val``, ``test`` or ``train``.
        options: The training's options; image size, batch and device are taken from them.

    Raises:
        OptionError: If the model finds neither boxes nor masks.
        DataError: If the split has no images, or the data other classes than the model.
    """
    model = YOLO(weights)
    require_compared(weights, model.task)
    masks, count = model.task == "segment", parameters(model.model)  # before Ultralytics fuses it
    datasets: list[Any] = []
    shapes: dict[str, tuple[int, int]] = {}
    found: list[tuple[str, Any]] = []

    class Collecting(model._smart_load("validator")):  # type: ignore[misc]
        def init_metrics(self, network: Any) -> None:
            _require_same_classes(weights, model.names, data, self.data["names"], single=self.args.single_cls)
            super().init_metrics(network)
            if masks:
                self.process = ops.process_mask_native  # Ultralytics' other way makes masks of a quarter of the size

        def update_metrics(self, preds: Any, batch: Any) -> None:
            super().update_metrics(preds, batch)
            datasets[:] = [self.dataloader.dataset]
            for index, pred in enumerate(preds):
                prepared = self._prepare_batch(index, batch)
                shapes[prepared["im_file"]] = prepared["ori_shape"]
                found.append((prepared["im_file"], self.scale_preds(self._prepare_pred(pred), prepared)))

    used = {key: options[key] for key in ("imgsz", "batch", "device", "single_cls", "classes") if key in options}
    used["batch"] = used["batch"] if int(used.get("batch", 0)) > 0 else 16  # -1 lets Ultralytics' training choose
    rule = {"conf": CONFIDENCE, "max_det": ASKED_DETECTIONS}
    quiet = {"plots": False, "verbose": False, "save_json": False, "workers": 0}
    place = {"project": str(weights.parent.parent), "name": "evaluation", "exist_ok": True}
    model.val(validator=Collecting, data=data, split=split, **rule, **quiet, **place, **used)
    if not shapes:
        raise DataError(f"the split {split!r} of {data} has no images; name another")
    truth, ids, root = _truth(datasets[0], shapes, model.names)
    rows = [row for file, boxes in found for row in _rows(ids[file], boxes)]
    return Detections(truth, rows, root, COMPARED[model.task], count)


def require_compared(what: object, task: str) -> None:
    """Require a task that a study compares.

    Args:
        what: The model, for the error.
        task: Its task.

    Raises:
        OptionError: If it is another.
    """
    if task not in COMPARED:
        raise OptionError(
            f"a study compares models that {' or '.join(COMPARED)}, and {what} is for the task {task}; train with a "
            "program of yours that leaves a number for each run (command:), or judge numbers that you have in a table"
        )


def _require_same_classes(
    weights: Path, known: Mapping[int, str], data: str, named: Mapping[int, str], *, single: bool
) -> None:
    """Require that the numbers of classes mean the same in the model and in the data.

    A model without names of its own has each number as a name, and says nothing of what they mean.
    """
    if all(name == str(number) for number, name in known.items()):
        known = {number: named[number] for number in known.keys() & named.keys()}
    if single or dict(known) == dict(named):
        return
    number = next(index for index in itertools.count() if known.get(index) != named.get(index))
    raise DataError(
        f"{weights} and {data} are of different classes: number {number} is {known.get(number, 'none')} in the model "
        f"and {named.get(number, 'none')} in the data; evaluate on data with the classes that it was trained on"
    )


def _truth(
    dataset: Any, shapes: Mapping[str, tuple[int, int]], names: Mapping[int, str]
) -> tuple[dict[str, Any], dict[str, int], Path]:
    """Say in COCO's format what Ultralytics read from the labels: boxes, and outlines where there are any."""
    labels = sorted(dataset.labels, key=lambda label: label["im_file"])
    root = Path(os.path.commonpath([Path(label["im_file"]).parent for label in labels]))
    ids = {label["im_file"]: index for index, label in enumerate(labels, 1)}
    images, annotations = [], []
    for label in labels:
        height, width = shapes[label["im_file"]]
        image, name = ids[label["im_file"]], Path(label["im_file"]).relative_to(root).as_posix()
        images.append({"id": image, "file_name": name, "height": int(height), "width": int(width)})
        outlines = label.get("segments") or itertools.repeat(None)
        kinds, boxes = label["cls"].ravel().tolist(), label["bboxes"].tolist()
        for kind, (x, y, w, h), outline in zip(kinds, boxes, outlines, strict=False):
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            one = {"image_id": image, "category_id": int(kind), "bbox": box, "area": box[2] * box[3]}
            annotations.append(one if outline is None else one | _outlined(outline * (width, height)))
    for index, annotation in enumerate(annotations, 1):
        annotation |= {"id": index, "iscrowd": 0}
    categories = [{"id": int(index), "name": str(name)} for index, name in names.items()]
    return {"images": images, "categories": categories, "annotations": annotations}, ids, root


def _outlined(corners: NDArray[Any]) -> dict[str, Any]:
    """Say in COCO's format what a polygon ``(n, 2)`` in pixels encloses."""
    x, y = corners.T.astype(float)
    area = 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
    return {"segmentation": [corners.ravel().tolist()], "area": area}


def _rows(image: int, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    boxes = ops.xyxy2ltwh(found["bboxes"]).tolist()
    columns = zip(boxes, found["conf"].tolist(), found["cls"].tolist(), strict=True)
    rows = [{"image_id": image, "category_id": int(c), "bbox": box, "score": score} for box, score, c in columns]
    if "masks" not in found:
        return rows
    masks = found["masks"].cpu().numpy()
    return [row | {"segmentation": run_lengths(mask)} for row, mask in zip(rows, masks, strict=True)]
