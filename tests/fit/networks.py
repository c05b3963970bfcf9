"""Networks small enough to train in a test, entered in the table of models for as long as it runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from attngraft.models import _registry
from attngraft.models._registry import model


@contextmanager
def entered() -> Iterator[None]:
    """Let ``tiny_classifier``, ``tiny_detector``, ``tiny_segmenter`` and ``tiny_enlarger`` be known."""
    with patch.dict(_registry._TABLE):
        model("classify")(tiny_classifier)
        model("detect")(tiny_detector)
        model("segment")(tiny_segmenter)
        model("superres")(tiny_enlarger)
        yield


def tiny_classifier(*, num_classes: int, width: int = 8, dropout: float = 0.1) -> nn.Module:
    """Two convolutions; dropout and batch norm, as both have state to resume."""
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(3, width, 3, 2, 1),
        "norm": nn.BatchNorm2d(width),
        "relu": nn.ReLU(),
        "dropout": nn.Dropout(dropout),
        "last": nn.Conv2d(width, width, 3, 2, 1),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "fc": nn.Linear(width, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


class Body(nn.Sequential):
    """Convolutions to stride 4."""

    out_channels = 16

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())


class Head(nn.Module):
    """Features of a region."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16 * 9, 32)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc(x.flatten(1)))


class Predictor(nn.Module):
    """Classes and boxes of a region."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(32, classes)
        self.boxes = nn.Linear(32, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x), self.boxes(x)


def _options(num_classes: int, min_size: int, max_size: int) -> dict[str, Any]:
    return {
        "backbone": Body(),
        "min_size": min_size,
        "max_size": max_size,
        "rpn_anchor_generator": AnchorGenerator(((8, 16, 32),), ((1.0,),)),
        "box_roi_pool": MultiScaleRoIAlign(["0"], 3, 1),
        "box_head": Head(),
        "box_predictor": Predictor(num_classes + 1),
        "rpn_pre_nms_top_n_train": 50,
        "rpn_post_nms_top_n_train": 20,
        "rpn_post_nms_top_n_test": 20,
        "box_batch_size_per_image": 16,
        "box_score_thresh": 0.0,
        "box_detections_per_img": 5,
    }


def tiny_detector(*, num_classes: int, min_size: int = 64, max_size: int = 64) -> nn.Module:
    """A Faster R-CNN."""
    return FasterRCNN(**_options(num_classes, min_size, max_size))


def tiny_segmenter(*, num_classes: int, min_size: int = 64, max_size: int = 64) -> nn.Module:
    """A Mask R-CNN."""
    mask = {
        "mask_roi_pool": MultiScaleRoIAlign(["0"], 4, 1),
        "mask_head": nn.Sequential(nn.Conv2d(16, 8, 3, 1, 1), nn.ReLU()),
        "mask_predictor": nn.Conv2d(8, num_classes + 1, 1),
    }
    return MaskRCNN(**_options(num_classes, min_size, max_size), **mask)


class SuperResolution(nn.Module):
    """Bicubic, and what a convolution adds to it."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, 3 * scale**2, 3, 1, 1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        large = F.interpolate(x, scale_factor=float(self.scale), mode="bicubic", antialias=True)
        return large + torch.pixel_shuffle(self.conv(x), self.scale)


def tiny_enlarger(*, scale: int = 2) -> nn.Module:
    """A network that begins as bicubic enlargement."""
    return SuperResolution(scale)
