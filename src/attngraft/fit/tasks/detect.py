"""Detection and instance segmentation: torchvision's calling convention, COCO's numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from attngraft._core.errors import DataError, FitError
from attngraft.coco.evaluate import evaluate
from attngraft.coco.masks import run_lengths
from attngraft.drawing import PALETTE, Box, mark
from attngraft.fit.data.coco import PREFIX, coco_splits, read_coco
from attngraft.fit.data.images import is_file, is_folder, read_unit
from attngraft.fit.data.loading import Key, chance
from attngraft.fit.data.objects import ObjectSet
from attngraft.fit.data.yolo_folder import read_yolo
from attngraft.fit.options import Options
from attngraft.fit.tasks.learner import Learner

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]

SHOWN_NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
PADDING = (0.485, 0.456, 0.406)
"""The mean that torchvision's detectors take off, so that what is padded is zero to the network."""

LEAST_SIDE = 1.0
"""Pixels; what a random crop leaves of an object has to be larger."""


YAMLS = (".yaml", ".yml")

OPACITY = 0.45
"""Of a mask over its object."""

TAG, LEAST_TAG = 15, 8
"""Height of a tag's text in pixels, and the least that can be read."""


@dataclass
class Sample:
    """An image with its objects while it is being augmented.

    Attributes:
        image: ``(3, H, W)``, from 0 to 1.
        boxes: ``(n, 4)``.
        labels: Counted from 1, as torchvision keeps 0 for the background.
        masks: ``(n, H, W)``, or None.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor | None


class Scenes(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images and targets as torchvision's detectors take them."""

    def __init__(self, data: ObjectSet, options: Options, *, masks: bool, training: bool) -> None:
        self.data = data
        self.options = options
        self.masks = masks
        self.training = training

    def __len__(self) -> int:
        return len(self.data.images)

    def __getitem__(self, key: Key) -> tuple[Tensor, dict[str, Tensor]]:
        entry = self.data.images[key[1]]
        image = read_unit(entry.path, (entry.width, entry.height))
        if not self.training:
            return image, {"image_id": torch.tensor(key[1] + 1)}
        masks = torch.from_numpy(entry.masks()) if self.masks else None
        labels = torch.from_numpy(entry.labels()) + 1
        with chance(self.options.seed, key):
            sample = augment(Sample(image, torch.from_numpy(entry.boxes()), labels, masks), self.options)
        target = {"boxes": sample.boxes, "labels": sample.labels}
        return sample.image, target if sample.masks is None else target | {"masks": sample.masks}


class Detector(Learner):
    """Train a network that detects objects."""

    monitor = "AP"
    fractions: ClassVar[tuple[str, ...]] = SHOWN_NUMBERS
    file = "predictions.json"
    masks = False

    def __init__(self, options: Options, classes: Sequence[str] = ()) -> None:
        super().__init__(options, classes)
        self.category_ids: tuple[int | str, ...] = tuple(range(1, len(self.classes) + 1))
        self.truth: Mapping[str, Any] = {}
        self.found: list[dict[str, Any]] = []

    @classmethod
    def read(cls, options: Options, split: str) -> ObjectSet:
        """Read a split, whichever of the formats it is in."""
        data = Path(options.data)
        if data.suffix.lower() in YAMLS or is_file(data / "data.yaml"):
            given = next((name for name in ("val", "images") if getattr(options, name) is not None), None)
            if given is not None:
                raise FitError(f"{given} is for COCO's JSON, and {data} is a data.yaml, which names both; leave it out")
        if data.suffix.lower() in YAMLS:
            return read_yolo(data, split, masks=cls.masks)
        if is_file(data / "data.yaml"):
            return read_yolo(data / "data.yaml", split, masks=cls.masks)
        if not (is_file(data) or is_folder(data)):
            raise DataError(f"{data} does not exist; give COCO's JSON, its folder, or a data.yaml")
        files = coco_splits(data)
        if options.val is not None:
            files["val"] = Path(options.val)
        if split not in files:
            how = "name it with val=FILE.json" if split == "val" else f"call it {PREFIX}{split}.json"
            raise DataError(f"{data} has no JSON of the split {split!r} beside it; {how}")
        return read_coco(files[split], Path(options.images) if options.images else None, masks=cls.masks)

    @classmethod
    def note(cls, data: ObjectSet) -> str:
        """Say how many objects were left out, and which images are elsewhere."""
        dropped = f"objects left out, without area or outside their image: {data.dropped}" if data.dropped else ""
        return "; ".join(filter(None, (dropped, *data.notes)))

    def network_options(self) -> dict[str, Any]:
        """Return the number of classes."""
        return {"num_classes": len(self.classes)}

    def network_suggestions(self) -> dict[str, Any]:
        """Return the size that images are fitted into, as they are in training."""
        return {"min_size": self.options.imgsz, "max_size": self.options.imgsz}

    def loader(self, data: ObjectSet, *, training: bool, parts: int) -> DataLoader[Any]:
        """Load a split."""
        if training:
            self.category_ids = data.category_ids
        else:
            self.truth = data.truth(masks=self.masks)
        scenes = Scenes(data, self.options, masks=self.masks, training=training)
        return self.batches(scenes, training=training, size=self.options.batch // parts, collate_fn=_as_lists)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the sum of the detector's losses."""
        images, targets = batch
        losses: dict[str, Tensor] = self.network(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        named = {name if name.startswith("loss") else f"loss_{name}": value.detach() for name, value in losses.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        self.noted(loss, len(images))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget what was found before."""
        self.found = []

    def validation_step(self, batch: Batch, index: int) -> None:
        """Keep what is found in a batch."""
        images, targets = batch
        for target, output in zip(targets, self.network(images), strict=True):
            self.found += coco_results(int(target["image_id"]), output)

    def on_validation_epoch_end(self) -> None:
        """Score what was found, on all devices together."""
        found = _gathered(self.found)
        numbers = evaluate(self.truth, found).numbers
        self.log_dict({name: numbers[name] for name in SHOWN_NUMBERS if not math.isnan(numbers[name])})

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return boxes, labels (from 1), scores and, of a segmenter, masks ``(n, 1, H, W)``, for each image."""
        found: list[dict[str, Tensor]] = self.network([image.to(self.device).float() / 255 for image in images])
        return [{name: value.cpu() for name, value in one.items()} for one in found]

    def kept(self, result: dict[str, Tensor], confidence: float) -> dict[str, Tensor]:
        """Return the detections of that score or more."""
        return {name: value[result["scores"] >= confidence] for name, value in result.items()}

    def describe(self, result: dict[str, Tensor]) -> str:
        """Count the detections of each class."""
        labels = result["labels"].tolist()
        counts = {name: labels.count(index) for index, name in enumerate(self.classes, 1)}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no detections"

    def draw(self, image: Tensor, result: dict[str, Tensor]) -> Image.Image:
        """Draw masks and boxes."""
        return drawn(image, result, self.classes)

    def rows(self, key: int | str, path: str, result: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Return a row for each detection, as COCO's evaluation takes it, under the data set's own category ids."""
        return [
            {
                **row,
                "category_id": self.category_ids[row["category_id"] - 1],
                "file_name": path,
                "category_name": self.classes[row["category_id"] - 1],
            }
            for row in coco_results(key, result)
        ]

    def saved(self) -> dict[str, Any]:
        """Return the category ids."""
        return {"category_ids": list(self.category_ids)}

    def restored(self, content: Mapping[str, Any]) -> None:
        """Take the category ids."""
        self.category_ids = tuple(content.get("category_ids", self.category_ids))


class Segmenter(Detector):
    """Train a network that detects objects and their outlines; its AP is that of the masks."""

    masks = True
    fractions = (*SHOWN_NUMBERS, *(f"box_{name}" for name in SHOWN_NUMBERS))

    def on_validation_epoch_end(self) -> None:
        """Score masks and boxes."""
        found = _gathered(self.found)
        boxes = evaluate(self.truth, found).numbers
        outlines = evaluate(self.truth, found, task="segm").numbers
        scores = {name: outlines[name] for name in SHOWN_NUMBERS} | {f"box_{n}": boxes[n] for n in SHOWN_NUMBERS}
        self.log_dict({name: value for name, value in scores.items() if not math.isnan(value)})


def coco_results(image_id: int | str, output: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Write what a detector found in an image as COCO's evaluation takes it."""
    boxes = output["boxes"].float().cpu().clone()
    boxes[:, 2:] -= boxes[:, :2]
    rows: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
        for box, label, score in zip(
            boxes.tolist(), output["labels"].tolist(), output["scores"].float().tolist(), strict=True
        )
    ]
    if "masks" in output:
        masks = (output["masks"][:, 0] > 0.5).cpu().numpy()
        rows = [row | {"segmentation": run_lengths(mask)} for row, mask in zip(rows, masks, strict=True)]
    return rows


def drawn(image: Tensor, result: Mapping[str, Tensor], classes: Sequence[str]) -> Image.Image:
    """Draw masks and boxes onto an image, with tags where there is more than one class and room for text.

    Args:
        image: Bytes ``(3, H, W)``.
        result: Boxes, labels (from 1), scores and, of a segmenter, masks ``(n, 1, H, W)``.
        classes: The class names.
    """
    image = image.clone()
    found = [label - 1 for label in result["labels"].tolist()]
    for label, mask in zip(found, result["masks"], strict=True) if "masks" in result else ():
        shade = image.new_tensor(PALETTE[label % len(PALETTE)])[:, None]  # where masks overlap, it is deeper
        inside = mask[0] > 0.5
        image[:, inside] = ((1 - OPACITY) * image[:, inside] + OPACITY * shade).byte()
    picture: Image.Image = TF.to_pil_image(image)
    rows = zip(result["boxes"].tolist(), found, result["scores"].tolist(), strict=True)
    boxes = [Box(left, top, right, bottom, label, score) for (left, top, right, bottom), label, score in rows]
    tag = min(TAG, min(picture.size) // 10)  # larger ones hide a small image
    tagged = len(classes) > 1 and tag >= LEAST_TAG
    mark(picture, boxes, class_names=classes if tagged else None, tag_size=tag)
    return picture


def augment(sample: Sample, options: Options) -> Sample:
    """Scale an image at random, cut it to a square or pad it to one, and mirror it at random.

    Without the padding the detector would scale a small image up again, and the jitter would go no lower than 1.
    """
    side = options.imgsz
    sample = scaled(sample, side, float(torch.empty(1).uniform_(*options.jitter)))
    height, width = sample.image.shape[-2:]
    top, left = (int(torch.randint(max(0, length - side) + 1, (1,))) for length in (height, width))
    sample = framed(sample, top, left, side)
    return mirrored(sample) if options.flip and torch.rand(1) < 0.5 else sample


def scaled(sample: Sample, side: int, factor: float) -> Sample:
    """Scale an image to ``factor`` times what fits into a square of ``side`` pixels."""
    height, width = sample.image.shape[-2:]
    ratio = factor * side / max(height, width)
    size = [max(1, round(height * ratio)), max(1, round(width * ratio))]
    stretch = torch.tensor([size[1] / width, size[0] / height] * 2)
    masks = sample.masks
    if masks is not None:
        masks = TF.resize(masks, size, TF.InterpolationMode.NEAREST_EXACT) if len(masks) else masks.new_zeros(0, *size)
    return Sample(TF.resize(sample.image, size, antialias=True), sample.boxes * stretch, sample.labels, masks)


def framed(sample: Sample, top: int, left: int, side: int) -> Sample:
    """Cut a square out of an image, padded below and to the right, with the objects that are left in it."""
    image = sample.image[:, top : top + side, left : left + side]
    square = image.new_tensor(PADDING)[:, None, None].repeat(1, side, side)
    square[:, : image.shape[1], : image.shape[2]] = image
    bound = torch.tensor([image.shape[2], image.shape[1]] * 2, dtype=sample.boxes.dtype)
    boxes = (sample.boxes - torch.tensor([left, top] * 2)).clamp(min=torch.zeros(4), max=bound)
    kept = ((boxes[:, 2:] - boxes[:, :2]) > LEAST_SIDE).all(1)
    masks = sample.masks
    if masks is not None:
        cut = masks[:, top : top + side, left : left + side]
        masks = masks.new_zeros(len(masks), side, side)
        masks[:, : cut.shape[1], : cut.shape[2]] = cut
        kept &= masks.bool().flatten(1).any(1)
    return Sample(square, boxes[kept], sample.labels[kept], None if masks is None else masks[kept])


def mirrored(sample: Sample) -> Sample:
    """Swap left and right."""
    boxes = sample.boxes.clone()
    boxes[:, [0, 2]] = sample.image.shape[-1] - sample.boxes[:, [2, 0]]
    masks = None if sample.masks is None else sample.masks.flip(-1)
    return Sample(sample.image.flip(-1), boxes, sample.labels, masks)


def _as_lists(rows: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> Batch:
    images, targets = zip(*rows, strict=True)
    return list(images), list(targets)


def _gathered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the detections of all devices together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return found
    shares: list[list[dict[str, Any]]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(shares, found)
    return [row for share in shares for row in share]
