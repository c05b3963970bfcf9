"""The networks of ``attngraft fit`` as `attngraft.maps` wants them: prepared as in prediction, with gradients.

A classifier has one candidate, whose box is the image. An R-CNN's candidates are its proposals, each with a box for
every class; a map follows the second stage, with the proposals held fixed, as torchvision detaches them. A network that
enlarges images detects nothing: what it mixed can be seen, and there is nothing for a map to rest on.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image

from attngraft._core.errors import MapError
from attngraft.fit.map_layers import last_map, stages
from attngraft.fit.tasks.classify import SHOWN, plain
from attngraft.fit.tasks.learner import Learner, normalized
from attngraft.fit.tasks.tiling import unit
from attngraft.fit.trained import Trained, load
from attngraft.maps import Detection, Predictions, Prepared
from attngraft.maps.recording import require_recordable
from attngraft.maps.subject import Side, surest
from attngraft.models.hat import reflect_to

LEAST_BOX = 1e-2
"""Pixels; torchvision drops detections with a shorter side."""


class Watched:
    """A trained network that is looked at: a copy that runs with gradients and says which candidate spoke.

    Attributes:
        network: The copy, in evaluation mode; record and explain this one.
        task: ``"classify"``, ``"detect"``, ``"segment"`` or ``"superres"``.
        names: Names of the classes.
        title: The model's name and its checkpoint's.

    Args:
        trained: What `load` returned.
    """

    def __init__(self, trained: Trained) -> None:
        self._learner: Learner = trained.learner
        self.network: Any = copy.deepcopy(trained.learner.network).cpu().eval()
        require_recordable(self.network)
        self.task: str = trained.options.task
        self.names = dict(enumerate(trained.classes))
        self.title = f"{trained.options.model} ({trained.path.name})"

    @cached_property
    def _maps(self) -> list[str]:
        """Paths of the stages of the body, from fine to coarse, or of whatever else gives maps."""
        prefix, body = self._body()
        return [f"{prefix}{name}" for name in stages(body)]

    def _body(self) -> tuple[str, nn.Module]:
        return "", self.network

    def layers_before(self, names: Sequence[str]) -> list[str]:
        """Return the path of the last stage but one: what attentions of the last stage read.

        Args:
            names: Paths of attentions and gates.
        """
        return self._maps[-2:-1]

    def only(self, detections: Sequence[Detection]) -> AbstractContextManager[None]:
        """Do nothing: no candidate costs more than another.

        Args:
            detections: Detections of one image.
        """
        return nullcontext()

    def side(self, imgsz: Side | None) -> int:
        """Return the side of the input.

        Raises:
            MapError: If it is given as height and width.
        """
        if isinstance(imgsz, tuple):
            raise MapError(f"{self.title} takes one side, as in imgsz={imgsz[0]}, got {imgsz[0]},{imgsz[1]}")
        return int(imgsz or self._learner.options.imgsz)


class WatchedClassifier(Watched):
    """A classifier."""

    @cached_property
    def layers(self) -> list[str]:
        """The path of what the classes are read from."""
        return [last_map(self.network)]

    def prepare(self, image: NDArray[np.uint8], imgsz: Side | None = None) -> Prepared:
        """Scale an image and cut out its middle, as validation does.

        Args:
            image: ``(H, W, 3)``, red first.
            imgsz: Side of the input; None takes that of the training run.
        """
        side = self.side(imgsz)
        tensor = plain(side)(tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)))[None].float() / 255
        scale = round(side / SHOWN) / min(image.shape[:2])
        offset = tuple((side - length * scale) / 2 for length in image.shape[1::-1])
        return Prepared(tensor, (scale, scale), (offset[0], offset[1]))

    def predict(self, images: Tensor) -> Predictions:
        """Return the probability of every class, of one candidate an image.

        Args:
            images: ``(B, 3, H, W)``, from 0 to 1.
        """
        H, W = images.shape[2:]
        whole = images.new_tensor([0, 0, W, H]).expand(len(images), 1, 4)
        logits: Tensor = self.network(normalized(images * 255))
        return Predictions(whole, logits.float().softmax(1).unsqueeze(1))

    @torch.no_grad()
    def find(self, images: Tensor, *, confidence: float = 0.25) -> list[list[Detection]]:
        """Return the classes of each image, the surest first.

        Args:
            images: ``(B, 3, H, W)``, from 0 to 1.
            confidence: Least probability.
        """
        predictions = self.predict(images)
        H, W = images.shape[2:]
        return [
            [
                Detection(i, 0, label, float(predictions.scores[i, 0, label]), (0.0, 0.0, W, H), (W / 2, H / 2))
                for _, label in pairs
            ]
            for i, pairs in enumerate(surest(predictions, confidence, len(self.names)))
        ]


class WatchedDetector(Watched):
    """A Faster or Mask R-CNN, in its boxes and classes.

    `prepare` notes how far the image reaches in its padding, which boxes are cut to: run the tensors of one image
    before the next is prepared.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__(trained)
        self._extent: tuple[int, int] = (0, 0)
        self._padded: tuple[int, int] = (0, 0)
        self._only: list[int] | None = None

    @property
    def layers(self) -> list[str]:
        """Paths of the body's last stage, which reaches every detection, and of the pyramid's levels."""
        fpn = getattr(self.network.backbone, "fpn", None)
        levels = len(getattr(fpn, "layer_blocks", ()))
        return self._maps[-1:] + [f"backbone.fpn.layer_blocks.{level}" for level in range(levels)]

    def _body(self) -> tuple[str, nn.Module]:
        body = getattr(self.network.backbone, "body", None)
        return ("backbone.", self.network.backbone) if body is None else ("backbone.body.", body)

    def prepare(self, image: NDArray[np.uint8], imgsz: Side | None = None) -> Prepared:
        """Scale and pad an image as torchvision's detectors do.

        Args:
            image: ``(H, W, 3)``, red first.
            imgsz: Side of the square that it is fitted into; None takes that of the training run.
        """
        transform = self.network.transform
        if imgsz is not None:
            transform.min_size, transform.max_size = (self.side(imgsz),), self.side(imgsz)
        listed, _ = transform([torch.from_numpy(image).permute(2, 0, 1).float() / 255])
        mean, deviation = self._colours(listed.tensors)
        (self._extent,) = listed.image_sizes
        self._padded = (int(listed.tensors.shape[2]), int(listed.tensors.shape[3]))
        height, width = self._extent
        scale = (width / image.shape[1], height / image.shape[0])
        return Prepared((listed.tensors * deviation + mean).clamp(0, 1), scale, (0.0, 0.0))

    def _colours(self, like: Tensor) -> tuple[Tensor, Tensor]:
        transform = self.network.transform
        mean, deviation = (
            like.new_tensor(numbers).view(3, 1, 1) for numbers in (transform.image_mean, transform.image_std)
        )
        return mean, deviation

    def predict(self, images: Tensor) -> Predictions:
        """Return the boxes and probabilities of every class for each proposal; images with fewer are filled up.

        Args:
            images: ``(B, 3, H, W)``, from 0 to 1.

        Raises:
            MapError: If no image of this size was prepared.
        """
        if tuple(images.shape[2:]) != self._padded:
            raise MapError(
                f"{self.title} was prepared for images of {self._padded[0]} x {self._padded[1]} pixels, "
                f"got {images.shape[2]} x {images.shape[3]}; prepare the image with this model first"
            )
        mean, deviation = self._colours(images)
        sizes = [self._extent] * len(images)
        x = (images - mean) / deviation
        maps = self.network.backbone(x)
        maps = OrderedDict([("0", maps)]) if isinstance(maps, Tensor) else maps
        with torch.no_grad():
            proposals, _ = self.network.rpn(ImageList(x, sizes), maps, None)
        asked = [one if self._only is None else one[self._only] for one in proposals]
        heads = self.network.roi_heads
        logits, moves = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, asked, sizes)))
        counts = [len(one) for one in asked]
        boxes = heads.box_coder.decode(moves, asked).split(counts)  # each (P, K + 1, 4)
        scores = logits.softmax(1).split(counts)
        return Predictions(
            self._filled([clip_boxes_to_image(one, self._extent)[:, 1:] for one in boxes], proposals),
            self._filled([one[:, 1:] for one in scores], proposals),
        )

    @contextmanager
    def only(self, detections: Sequence[Detection]) -> Iterator[None]:
        """Compute the candidates of some detections alone, the others being zero: a backward pass costs as much less.

        Args:
            detections: Detections of one image.
        """
        self._only = sorted({detection.candidate for detection in detections})
        try:
            yield
        finally:
            self._only = None

    def _filled(self, parts: Sequence[Tensor], proposals: Sequence[Tensor]) -> Tensor:
        """Stack tensors of the images, ``(B, P, ...)``, with zeros where there is no proposal or it was not asked."""
        if self._only is not None:
            parts = [
                part.new_zeros(len(all_), *part.shape[1:]).index_put((torch.tensor(self._only),), part)
                for part, all_ in zip(parts, proposals, strict=True)
            ]
        return nn.utils.rnn.pad_sequence(list(parts), batch_first=True)

    @torch.no_grad()
    def find(self, images: Tensor, *, confidence: float = 0.25) -> list[list[Detection]]:
        """Return the detections that the network's own prediction gives.

        Args:
            images: ``(B, 3, H, W)``, from 0 to 1.
            confidence: Least score.
        """
        predictions = self.predict(images)
        return [
            self._kept(i, boxes, scores, confidence)
            for i, (boxes, scores) in enumerate(zip(predictions.boxes, predictions.scores, strict=True))
        ]

    def _kept(self, image: int, boxes: Tensor, scores: Tensor, confidence: float) -> list[Detection]:
        """Suppress overlaps as torchvision does, boxes ``(P, K, 4)`` and scores ``(P, K)``."""
        heads = self.network.roi_heads
        pairs = (scores > heads.score_thresh).nonzero()  # (M, 2), a proposal and a class each
        boxes, scores = boxes[pairs[:, 0], pairs[:, 1]], scores[pairs[:, 0], pairs[:, 1]]
        large = ((boxes[:, 2:] - boxes[:, :2]) >= LEAST_BOX).all(1).nonzero()[:, 0]
        pairs, boxes, scores = pairs[large], boxes[large], scores[large]
        kept = batched_nms(boxes, scores, pairs[:, 1], heads.nms_thresh)[: heads.detections_per_img]
        rows = zip(pairs[kept].tolist(), boxes[kept].tolist(), scores[kept].tolist(), strict=True)
        return [
            Detection(image, proposal, label, score, tuple(box), ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            for (proposal, label), box, score in rows
            if score >= confidence
        ]


class WatchedEnlarger(Watched):
    """A network that enlarges images: it detects nothing, so that only what it mixed and gated is there to see."""

    @property
    def layers(self) -> list[str]:
        """Return nothing: no detection rests on any layer."""
        return []

    def layers_before(self, names: Sequence[str]) -> list[str]:
        """Return nothing.

        Args:
            names: Paths of attentions and gates.
        """
        return []

    def prepare(self, image: NDArray[np.uint8], imgsz: Side | None = None) -> Prepared:
        """Cut out the middle of an image, continued to whole windows by reflection as the network does it.

        Nothing is scaled: each pixel is a cell. The whole of a large image would take minutes.

        Args:
            image: ``(H, W, 3)``, red first.
            imgsz: Side of the part, or its height and width; None takes that of the training run.
        """
        side = self._learner.options.imgsz if imgsz is None else imgsz
        height, width = (side, side) if isinstance(side, int) else side
        top, left = (max(0, (whole - part) // 2) for whole, part in zip(image.shape, (height, width), strict=False))
        part = torch.from_numpy(image[top : top + height, left : left + width].copy())
        tensor = reflect_to(part.permute(2, 0, 1)[None].float() / 255, unit(self.network))
        return Prepared(tensor, (1.0, 1.0), (-float(left), -float(top)))

    def predict(self, images: Tensor) -> Predictions:
        """Run the network; there are no candidates.

        Args:
            images: ``(B, 3, H, W)``, from 0 to 1.
        """
        with torch.no_grad():
            self.network(images)
        return Predictions(images.new_zeros(len(images), 0, 4), images.new_zeros(len(images), 0, 0))

    def find(self, images: Tensor, *, confidence: float = 0.25) -> list[list[Detection]]:
        """Return no detection for each image.

        Args:
            images: ``(B, 3, H, W)``.
            confidence: Of no effect.
        """
        return [[] for _ in images]


KINDS: dict[str, type[WatchedClassifier | WatchedDetector | WatchedEnlarger]] = {
    "classify": WatchedClassifier,
    "detect": WatchedDetector,
    "segment": WatchedDetector,
    "superres": WatchedEnlarger,
}


def watched(trained: Trained | str | Path) -> WatchedClassifier | WatchedDetector | WatchedEnlarger:
    """Return a network as `attngraft.maps` wants it.

    Args:
        trained: What `load` returned, a checkpoint of `Fit`, or its folder.

    Raises:
        CheckpointError: If there is no such checkpoint.
        MapError: If the network cannot be recorded.
    """
    trained = trained if isinstance(trained, Trained) else load(trained)
    return KINDS[trained.options.task](trained)
