"""What `attngraft.maps` asks of a detector: its raw predictions with gradients, and which of them a detection is."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox, classify_transforms
from ultralytics.nn.modules.head import Classify, Detect, RTDETRDecoder
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import xywh2xyxy

from attngraft._core.cache import cache_folder
from attngraft._core.errors import MapError
from attngraft.maps import Detection, Predictions, Prepared
from attngraft.maps.recording import require_recordable
from attngraft.maps.subject import Side, surest
from attngraft.yolo.imgsz import largest_stride
from attngraft.yolo.rows import YAML_KEY


class Watched:
    """A model of Ultralytics as `attngraft.maps` wants it: a copy that runs with gradients and says which cell spoke.

    It works for heads of every task: detection, segmentation, pose, oriented boxes (as the upright box around them),
    classification (one candidate, whose box is the image), end-to-end heads before their top k, and RT-DETR, whose
    candidates are the decoder's queries.

    Attributes:
        network: The copy, in evaluation mode; record and explain this one.
        task: Ultralytics' task.
        names: Names of the classes.
        title: The file that the model came from, or its recipe.

    Args:
        model: An opened model, or its network.

    Raises:
        MapError: If it is an exported file, or its head is none of these.
    """

    def __init__(self, model: Any) -> None:
        network: Any = model.model if hasattr(model, "predictor") else model
        if not isinstance(network, nn.Module):
            raise MapError(f"{network} is an exported file whose parts cannot be seen; use the .pt model")
        require_recordable(network := copy.deepcopy(network).eval())
        self.network: Any = network
        layers = getattr(network, "model", None)
        self.head: Any = layers[-1] if isinstance(layers, nn.Sequential) else network
        if not isinstance(self.head, (Detect, RTDETRDecoder, Classify)):
            raise MapError(f"a head {type(self.head).__name__} has no boxes or classes to explain; use a detector")
        self.task = str(getattr(model, "task", None) or getattr(self.network, "task", "detect"))
        self.names: dict[int, str] = dict(self.network.names)
        self.title = title(model, network)
        self._grids: list[tuple[int, int]] = []

    @property
    def layers(self) -> list[str]:
        """Paths of the layers that the head reads, from fine to coarse: where relevance is usually asked."""
        sources = self.head.f if isinstance(self.head.f, list) else [self.head.f]
        return [f"model.{source % self.head.i if source < 0 else source}" for source in sources]

    def layers_before(self, names: Sequence[str]) -> list[str]:
        """Return the layers before the first two attentions or gates.

        A map behind an attention shows the cells that it wrote to; one before it, those that it read from.

        Args:
            names: Paths of attentions and gates.
        """
        layers: Any = self.network.model
        before: dict[str, None] = {}
        for name in names:
            match = re.match(r"model\.(\d+)\.", name)
            if match and 0 < int(match[1]) < len(layers) - 1 and layers[int(match[1])].f == -1:
                before[f"model.{int(match[1]) - 1}"] = None
        return list(before)[:2]

    @property
    def channels(self) -> int:
        """Channels of the image that the network takes: 3, or what the data file that it was trained on says."""
        return int((getattr(self.network, "yaml", None) or {}).get("channels", 3))

    @property
    def imgsz(self) -> Side:
        """The size that the model was trained with, else that of Ultralytics for its task."""
        trained = getattr(self.network, "args", None) or {}
        size = (trained if isinstance(trained, dict) else vars(trained)).get("imgsz")
        if isinstance(size, int):
            return size
        return 224 if self.task == "classify" else 640

    def prepare(self, image: NDArray[np.uint8], imgsz: Side | None = None) -> Prepared:
        """Scale and pad an image as Ultralytics does.

        Args:
            image: ``(H, W, 3)``, red first; a model of one channel is given its brightness.
            imgsz: Side of the input, or its height and width, rounded up to multiples of the largest stride; None
                takes that of the training run.

        Raises:
            MapError: If the model takes neither one channel nor three.
        """
        imgsz = imgsz or self.imgsz
        channels = self.channels
        if channels not in (1, 3):
            raise MapError(
                f"{self.title} takes {channels} channels, and maps are shown of images of 3 or 1; use a model "
                "that was trained with channels: 3 or 1 in its data file"
            )
        if channels == 1:  # cut to one channel at the end: the transforms of classifiers want three
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
        weight = next(self.network.parameters())
        if isinstance(self.head, Classify):
            from PIL import Image

            tensor = classify_transforms(size=height)(Image.fromarray(image))[None]
            scale = height / min(image.shape[:2])
            offset = tuple((height - side * scale) / 2 for side in image.shape[1::-1])
            return Prepared(tensor[:, :channels].to(weight), (scale, scale), (offset[0], offset[1]))
        stride = largest_stride(self.network)
        height, width = (-(-side // stride) * stride for side in (height, width))
        stretch = isinstance(self.head, RTDETRDecoder)  # Ultralytics scales each axis for itself there
        padded = LetterBox((height, width), auto=not stretch, scale_fill=stretch, stride=stride)(image=image)
        tensor = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[None] / 255
        if stretch:
            scales, offsets = (width / image.shape[1], height / image.shape[0]), (0.0, 0.0)
        else:
            ratio = min(height / image.shape[0], width / image.shape[1])
            inner = [max(round(side * ratio), 1) for side in image.shape[1::-1]]
            left, top = ((whole - part) / 2 for whole, part in zip(padded.shape[1::-1], inner, strict=True))
            scales = (inner[0] / image.shape[1], inner[1] / image.shape[0])  # each side is rounded for itself
            offsets = (round(left - 0.1), round(top - 0.1))
        return Prepared(tensor[:, :channels].to(weight), scales, offsets)

    def predict(self, images: Tensor) -> Predictions:
        """Return boxes and scores of all candidates before any is suppressed, with their graph.

        Args:
            images: ``(B, C, H, W)`` of the channels C that the network takes, from 0 to 1.
        """
        return self._predictions(*self._run(images), images)

    def only(self, detections: Sequence[Detection]) -> AbstractContextManager[None]:
        """Do nothing: no candidate costs more than another.

        Args:
            detections: Detections of one image.
        """
        return nullcontext()

    def _predictions(self, decoded: Tensor, raw: Any, images: Tensor) -> Predictions:
        H, W = images.shape[2:]
        if isinstance(self.head, Classify):
            whole = images.new_tensor([0, 0, W, H]).expand(len(images), 1, 4)
            return Predictions(whole, decoded.unsqueeze(1))
        if isinstance(self.head, RTDETRDecoder):
            boxes = xywh2xyxy(raw[0].squeeze(0)) * images.new_tensor([W, H, W, H])
            return Predictions(boxes, raw[1].squeeze(0).sigmoid())
        boxes, scores, *extra = decoded.transpose(1, 2).tensor_split((4, 4 + self.head.nc), 2)
        if self.task == "obb":  # whose head decodes a centre and a size whatever form it is asked for
            boxes = _upright(boxes, extra[0][..., -1:])
        elif not (self.head.end2end or self.head.xyxy):
            boxes = xywh2xyxy(boxes)
        return Predictions(boxes, scores)

    @torch.no_grad()
    def find(
        self, images: Tensor, *, confidence: float = 0.25, iou: float = 0.7, limit: int = 300
    ) -> list[list[Detection]]:
        """Detect as Ultralytics does, and say which candidate each detection is.

        Args:
            images: ``(B, C, H, W)`` of the channels C that the network takes, from 0 to 1.
            confidence: Least score.
            iou: Overlap from which non-maximum suppression drops the lower one; of no effect on end-to-end heads.
            limit: Most detections an image.

        Returns:
            The detections of each image, the surest first.
        """
        decoded, raw = self._run(images)
        predictions = self._predictions(decoded, raw, images)
        if isinstance(self.head, Detect) and not self.head.end2end:
            kept = self._suppressed(decoded, confidence, iou, limit)
        else:
            kept = surest(predictions, confidence, limit)
        return [
            [self._detection(predictions, image, candidate, label, images) for candidate, label in pairs]
            for image, pairs in enumerate(kept)
        ]

    def _suppressed(self, decoded: Tensor, confidence: float, iou: float, limit: int) -> list[list[tuple[int, int]]]:
        """Return candidate and class of what Ultralytics' non-maximum suppression keeps of each image."""
        found, indices = non_max_suppression(
            decoded, confidence, iou, max_det=limit, nc=self.head.nc, rotated=self.task == "obb", return_idxs=True
        )
        return [
            [(int(candidate), int(row[5])) for candidate, row in zip(index.flatten(), rows, strict=True)]
            for rows, index in zip(found, indices, strict=True)
        ]

    def _detection(self, predictions: Predictions, image: int, candidate: int, label: int, images: Tensor) -> Detection:
        box = tuple(predictions.boxes[image, candidate].tolist())
        score = float(predictions.scores[image, candidate, label])
        size = (int(images.shape[2]), int(images.shape[3]))
        place = self._place(candidate, size) or ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        return Detection(image, candidate, label, score, (box[0], box[1], box[2], box[3]), place)

    def _place(self, candidate: int, size: tuple[int, int]) -> tuple[float, float] | None:
        """Return the centre of a candidate's cell, (x, y) in pixels; candidates lie level by level, row by row."""
        for height, width in self._grids:
            if candidate < height * width:
                row, column = divmod(candidate, width)
                return (column + 0.5) * size[1] / width, (row + 0.5) * size[0] / height
            candidate -= height * width
        return None

    def _run(self, images: Tensor) -> tuple[Tensor, Any]:
        """Run the network: what it decodes, before end-to-end heads take their top, and what that is made of."""
        # What a head keeps from an earlier pass may be of inference mode, and cannot be part of a graph.
        self.head.shape = self.head.shapes = None
        decoded, raw = self.network(images)
        decoded = decoded[0] if isinstance(decoded, tuple) else decoded  # segmenters give prototypes beside
        if isinstance(self.head, Detect):
            raw = raw.get("one2one" if self.head.end2end else "one2many", raw)
            self._grids = [(int(f.shape[2]), int(f.shape[3])) for f in raw["feats"]]
            if self.head.end2end:
                decoded = self.head._inference(raw)
        return decoded, raw


def title(model: Any, network: Any) -> str:
    """Return the name of the file that a model came from; of one made here its base and grafts."""
    file = getattr(model, "ckpt_path", None)
    description = getattr(network, "yaml", None) or {}
    if isinstance(file, str) and Path(file).parent.parent != cache_folder() / "seeds":
        return Path(file).name
    base = Path(str(description.get("yaml_file") or type(network).__name__)).name
    return "+".join(filter(None, (base, str(description.get(YAML_KEY) or ""))))


def _upright(boxes: Tensor, angle: Tensor) -> Tensor:
    """Return the upright boxes around oriented ones, ``(..., 4)`` as centre and size, with angles ``(..., 1)``."""
    centre, w, h = boxes[..., :2], boxes[..., 2:3], boxes[..., 3:]
    cos, sin = angle.cos().abs(), angle.sin().abs()
    half = torch.cat((w * cos + h * sin, w * sin + h * cos), -1) / 2
    return torch.cat((centre - half, centre + half), -1)
