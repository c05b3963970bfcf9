"""Training and detecting for a study: the host's own work, with a note of what two paired runs must have in common.

A study compares arms of one seed. That is fair only if they start from the same weights where the keys match and see
the same batches; so both are written down as checksums while the host trains, and can be compared afterwards.
"""

from __future__ import annotations

import itertools
import json
import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset
from ultralytics.nn.modules import OBB, Classify, Pose
from ultralytics.utils import DEFAULT_CFG_DICT, RANK, ops

from attngraft._core.errors import DataError, OptionError
from attngraft._core.files import write_text
from attngraft.coco.masks import run_lengths
from attngraft.yolo.checkpoint import inspect_file
from attngraft.yolo.devices import devices
from attngraft.yolo.model import YOLO

CONFIDENCE = 0.001
MAX_DETECTIONS = 100
COMPARED: dict[str, Literal["bbox", "segm"]] = {"detect": "bbox", "segment": "segm"}
"""Tasks of the host that a study compares, and what COCO's evaluation compares of them."""

RESERVED = (
    "model", "data", "mode", "task", "seed", "split", "project", "name", "exist_ok", "resume", "save", "cfg", "time",
)  # fmt: skip
"""Training options that a study sets itself, or cannot allow."""

OTHER_MODES = (
    "source", "vid_stride", "stream_buffer", "visualize", "augment", "agnostic_nms", "retina_masks", "embed", "show",
    "save_frames", "save_txt", "save_conf", "save_crop", "save_json", "show_labels", "show_conf", "show_boxes",
    "line_width", "format", "optimize", "dynamic", "simplify", "opset", "workspace", "tracker", "dnn", "quantize",
    "conf", "iou", "max_det", "nms",
)  # fmt: skip
"""Options of the host's other modes; detection for a study follows the COCO rule."""

OWN_DEFAULTS = {"patience": 0, "plots": False}
"""Where a study's default is not the host's: the last epoch counts, so no training ends early."""

PIXEL_STEP = 8
"""Only every eighth pixel of a batch enters its checksum: a different crop or flip changes those too."""


def training_defaults() -> dict[str, Any]:
    """Return the host's training options that a study leaves to its plan, with their defaults."""
    own = {*RESERVED, *OTHER_MODES}
    return {key: value for key, value in DEFAULT_CFG_DICT.items() if key not in own} | OWN_DEFAULTS


@dataclass
class Watch:
    """What the host did that pairing rests on, kept in a file so that a training that is resumed adds to it.

    Attributes:
        file: Where it is kept.
        weights: Checksum of the initial weights outside grafts, and how many tensors that were.
        pictures: Checksum of the training files' names and sizes, and how many there were.
        batches: Checksum of each epoch's batches, in order.
        batch: Pictures in a batch; the host lowers it when memory runs out.
        resumed: The epochs, counted from 0, at which a killed training went on.
        nondeterministic: What PyTorch said it could not make deterministic.
    """

    file: Path
    weights: tuple[str, int] = ("", 0)
    pictures: tuple[str, int] = ("", 0)
    batches: list[str] = field(default_factory=list)
    batch: int = 0
    resumed: list[int] = field(default_factory=list)
    nondeterministic: list[str] = field(default_factory=list)
    _sum: int = field(default=0, repr=False)

    @classmethod
    def of(cls, file: Path) -> Watch:
        """Read the file, or start anew where there is none that can be read."""
        try:
            noted = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(file)
        return cls(file, **noted)

    def facts(self) -> dict[str, Any]:
        """Return everything but the file's own name."""
        return {key: value for key, value in asdict(self).items() if key not in ("file", "_sum")}

    def callbacks(self) -> dict[str, Any]:
        """Return what to hang on the host's events."""
        return {
            "on_train_start": self._started,
            "on_train_epoch_start": self._epoch_starts,
            "on_train_epoch_end": self._epoch_ends,
        }

    def _started(self, trainer: Any) -> None:
        if trainer.start_epoch:
            self.resumed.append(trainer.start_epoch)
            del self.batches[trainer.start_epoch :]
        else:
            self.weights = checksum(trainer.model)
            self.batches.clear()
            self.resumed.clear()
        self.pictures = _fingerprint(trainer.train_loader.dataset.im_files)
        self._keep()
        prepare = trainer.preprocess_batch

        def noting(batch: dict[str, Any]) -> dict[str, Any]:
            picture = batch["img"][..., ::PIXEL_STEP, ::PIXEL_STEP].contiguous().cpu().numpy()
            self._sum = zlib.crc32(picture.tobytes(), zlib.crc32("".join(batch["im_file"]).encode(), self._sum))
            prepared: dict[str, Any] = prepare(batch)
            return prepared

        trainer.preprocess_batch = noting

    def _epoch_starts(self, _: Any) -> None:
        self._sum = 0

    def _epoch_ends(self, trainer: Any) -> None:
        self.batch = trainer.batch_size
        self.batches[trainer.epoch :] = [f"{self._sum:08x}"]
        self._keep()  # before the checkpoint, so that it may be ahead of it and never behind

    def _keep(self) -> None:
        if RANK in (-1, 0):
            write_text(self.file, json.dumps(self.facts()))


def train(recipe: str, data: str, *, seed: int, folder: Path, options: Mapping[str, Any]) -> Watch:
    """Train a recipe, or go on with a training that was cut off.

    Args:
        recipe: What to train.
        data: The host's data file.
        seed: Of initial weights, data order and augmentation; also of a graft onto given weights.
        folder: The training's own folder; a checkpoint in it is gone on from.
        options: The host's training options.

    Returns:
        What pairing rests on.
    """
    watch = Watch.of(folder / "watch.json")
    last = folder / "weights" / "last.pt"
    epoch = _epoch(last)
    if epoch is not None and (epoch < 0 or epoch + 1 >= options["epochs"]):
        return watch
    if epoch is None:
        (folder / "results.csv").unlink(missing_ok=True)
        (folder / "watch.json").unlink(missing_ok=True)
        watch = Watch(folder / "watch.json")
    torch.manual_seed(seed)
    model = YOLO(recipe if epoch is None else last)
    for event, function in watch.callbacks().items():
        model.add_callback(event, function)
    options = dict(options)
    if options.get("pretrained") is True:
        del options["pretrained"]  # the model itself knows whether its base has weights to start from
    own = {"data": data, "seed": seed, "project": str(folder.parent), "name": folder.name, "exist_ok": True}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.train(**options, **own, save=True, resume=epoch is not None)
    said = {str(w.message).partition(" does not have a deterministic")[0] for w in caught if _nondeterministic(w)}
    watch = Watch.of(watch.file)  # several GPUs train in processes of their own, with a copy of it
    watch.nondeterministic = sorted({*watch.nondeterministic, *said})
    watch._keep()
    return watch


def checksum(model: nn.Module) -> tuple[str, int]:
    """Return a checksum of the tensors outside grafts, and how many there are.

    Args:
        model: A host model.
    """
    shared = {key: value for key, value in model.state_dict().items() if ".grafts." not in key}
    total = 0
    for key in sorted(shared):
        total = zlib.crc32(shared[key].detach().cpu().contiguous().numpy().tobytes(), zlib.crc32(key.encode(), total))
    return f"{total:08x}", len(shared)


@dataclass(frozen=True)
class Detections:
    """What a model found on a split, beside what is there, both in COCO's format.

    Attributes:
        truth: Images with ``file_name`` relative to the split's common folder, categories from 0, annotations.
        found: Detections in COCO's results format; unrounded, at most `MAX_DETECTIONS` an image.
        root: The folder that the file names are relative to.
        task: What a detection is of: ``bbox``, or ``segm`` where the model finds masks.
    """

    truth: dict[str, Any]
    found: list[dict[str, Any]]
    root: Path
    task: Literal["bbox", "segm"] = "bbox"


def detect(weights: Path, data: str, *, split: str, options: Mapping[str, Any]) -> Detections:
    """Detect on a split as the host validates, at the confidence and number of detections of the COCO rule.

    Args:
        weights: A checkpoint.
        data: The host's data file.
        split: ``val``, ``test`` or ``train``.
        options: The training's options; picture size, batch and device are taken from them.

    Raises:
        OptionError: If the model finds neither boxes nor masks.
        DataError: If the split has no pictures.
    """
    model = YOLO(weights)
    if model.task not in COMPARED:
        raise OptionError(
            f"a study compares models that {' or '.join(COMPARED)}, and {weights} is for the task {model.task}"
        )
    masks = model.task == "segment"
    datasets: list[Any] = []
    shapes: dict[str, tuple[int, int]] = {}
    found: list[tuple[str, Any]] = []

    class Collecting(model._smart_load("validator")):  # type: ignore[misc]
        def init_metrics(self, network: Any) -> None:
            super().init_metrics(network)
            if masks:
                self.process = ops.process_mask_native  # the host's other way makes masks of a quarter of the size

        def update_metrics(self, preds: Any, batch: Any) -> None:
            super().update_metrics(preds, batch)
            datasets[:] = [self.dataloader.dataset]
            for index, pred in enumerate(preds):
                prepared = self._prepare_batch(index, batch)
                shapes[prepared["im_file"]] = prepared["ori_shape"]
                found.append((prepared["im_file"], self.scale_preds(self._prepare_pred(pred), prepared)))

    used = {key: options[key] for key in ("imgsz", "batch", "device", "single_cls", "classes") if key in options}
    used["batch"] = used["batch"] if int(used.get("batch", 0)) > 0 else 16  # -1 lets the host's training choose
    rule = {"conf": CONFIDENCE, "max_det": MAX_DETECTIONS}
    quiet = {"plots": False, "verbose": False, "save_json": False, "workers": 0}
    place = {"project": str(weights.parent.parent), "name": "evaluation", "exist_ok": True}
    model.val(validator=Collecting, data=data, split=split, **rule, **quiet, **place, **used)
    if not shapes:
        raise DataError(f"the split {split!r} of {data} has no pictures; name another")
    truth, ids, root = _truth(datasets[0], shapes, model.names)
    rows = [row for file, boxes in found for row in _rows(ids[file], boxes)]
    return Detections(truth, rows, root, COMPARED[model.task])


def _truth(
    dataset: Any, shapes: Mapping[str, tuple[int, int]], names: Mapping[int, str]
) -> tuple[dict[str, Any], dict[str, int], Path]:
    """Say in COCO's format what the host read from the labels: boxes, and outlines where there are any."""
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


def _epoch(last: Path) -> int | None:
    """Return the last epoch that a checkpoint holds, -1 for a finished training, None where none can be read."""
    if not last.is_file():
        return None
    try:
        inspect_file(last)
        epoch: int = torch.load(last, map_location="cpu", weights_only=False)["epoch"]
    except Exception:  # noqa: BLE001  # cut off in the middle of writing: whatever that raises, the training starts anew
        return None
    return epoch


def _fingerprint(files: list[str]) -> tuple[str, int]:
    total = 0
    for file in sorted(files):
        total = zlib.crc32(f"{Path(file).name} {Path(file).stat().st_size}".encode(), total)
    return f"{total:08x}", len(files)


def _nondeterministic(warning: warnings.WarningMessage) -> bool:
    return "does not have a deterministic implementation" in str(warning.message)


def pictures(data: str, split: str) -> int:
    """Count the pictures of a split, without opening them.

    Args:
        data: The host's data file.
        split: ``train``, ``val`` or ``test``.
    """
    given = check_det_dataset(data, autodownload=False).get(split) or []
    homes = [Path(home) for home in (given if isinstance(given, list) else [given])]
    return sum(len(home.read_text().split()) if home.is_file() else _files(home) for home in homes)


def _files(folder: Path) -> int:
    return sum(file.suffix[1:].lower() in IMG_FORMATS for file in folder.rglob("*"))


class TrainingLoss(nn.Module):
    """Forward of a model in training with the host's loss, on made-up objects: what a training step is made of.

    Args:
        model: The host's model; every parameter of it is set free to learn, as a training does.
        batch: Pictures at once.
        sides: Their height and width, in pixels.
        options: The host's training options.

    Shape:
        ``(batch, channels, height, width)``, the pictures -> ``()``
    """

    def __init__(self, model: Any, batch: int, sides: tuple[int, int], options: Mapping[str, Any]) -> None:
        super().__init__()
        model.args = host_arguments(options)
        model.nc = len(model.names)
        self.model = in_place(model, wanted=False).train().requires_grad_(True)
        self.made = training_batch(model, batch, sides)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the loss."""
        made = {key: value.to(pictures.device) for key, value in self.made.items()}
        loss, _ = self.model({**made, "img": pictures})
        summed: Tensor = loss.sum()
        return summed

    def step(self, pictures: Tensor) -> Callable[[], None]:
        """Return a function that does forward and backward."""
        return lambda: self(pictures).backward()


def step(recipe: str, options: Mapping[str, Any]) -> Callable[[], None]:
    """Return a function that does the forward and backward of one training step on made-up pictures.

    Args:
        recipe: What to train.
        options: The host's training options; of several devices the first is taken.

    Raises:
        OptionError: If the device is not here.
    """
    batch, side = max(int(options["batch"]), 1), int(options["imgsz"])
    device = devices("a training step", options.get("device"))[0]
    model: Any = YOLO(recipe).model
    loss = TrainingLoss(model, batch, (side, side), options).to(device)
    return loss.step(torch.rand(batch, model.yaml.get("channels", 3), side, side, device=device))


def in_place(model: nn.Module, *, wanted: bool) -> nn.Module:
    """Let a model's activations overwrite their input, as the host does when it loads a checkpoint, or not.

    A model that was built from a YAML, and every model in training, does not: two are compared fairly only alike.
    """
    for part in model.modules():
        if hasattr(part, "inplace") and type(part).__module__.startswith("torch."):
            part.inplace = wanted  # type: ignore[assignment]
    return model


def training_batch(model: Any, batch: int, sides: tuple[int, int]) -> dict[str, Tensor]:
    """Make up a batch without its pictures, one object in each, as the host's loss of a model's task takes it.

    Args:
        model: The host's model.
        batch: How many pictures.
        sides: Their height and width, in pixels.
    """
    made = detection_batch(batch, *sides)
    del made["img"]
    made["resized_shape"] = torch.tensor([sides] * batch)  # older releases look at it for rotated boxes
    head = model.model[-1]
    if isinstance(head, Classify):
        made["cls"] = torch.zeros(batch, dtype=torch.long)
    if isinstance(head, OBB):
        made["bboxes"] = torch.cat([made["bboxes"], torch.zeros(batch, 1)], 1)  # lying straight
    if isinstance(head, Pose):
        made["keypoints"] = torch.full((batch, *head.kpt_shape), 0.5)
    return made


def detection_batch(batch: int, height: int, width: int | None = None) -> dict[str, Tensor]:
    """Make up a batch of pictures with one object each, as the host's loss takes it.

    Args:
        batch: How many pictures.
        height: Of a picture, in pixels.
        width: Of a picture; None for a square.
    """
    width = width or height
    return {
        "img": torch.rand(batch, 3, height, width),
        "batch_idx": torch.arange(batch, dtype=torch.float32),
        "cls": torch.zeros(batch, 1),
        "bboxes": torch.full((batch, 4), 0.5),
        "masks": torch.ones(batch, height // 4, width // 4),  # these three only segmenters look at
        "sem_masks": torch.zeros(batch, height // 4, width // 4),
        "semantic_mask": torch.zeros(batch, height, width, dtype=torch.long),
    }


def host_arguments(options: Mapping[str, Any]) -> Any:
    """Return the host's training arguments, which its losses read."""
    return get_cfg(overrides=dict(options))


def network(recipe: str | Path) -> nn.Module:
    """Return a model as it is deployed: fused, in evaluation mode, on the CPU, in full precision.

    Args:
        recipe: A recipe or a checkpoint.
    """
    model: Any = YOLO(recipe).model
    fused: nn.Module = model.float().fuse(verbose=False).eval()
    return in_place(fused, wanted=True)


def parameters(recipe: str) -> int:
    """Count the parameters of a recipe's model, not fused."""
    return sum(p.numel() for p in YOLO(recipe).model.parameters())
