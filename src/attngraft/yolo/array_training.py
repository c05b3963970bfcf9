"""A detector with one map, trained step by step on images in memory: Ultralytics' model, loss and detection.

What Ultralytics' own trainer adds around a step (files, augmentation, averaging of weights, validation) is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.nms import non_max_suppression

from attngraft._core.errors import RecipeError
from attngraft._core.signs import half_width
from attngraft.coco.matches import CONFIDENCE
from attngraft.yolo.joining import graft_model
from attngraft.yolo.model import quiet
from attngraft.yolo.recipe import GraftSpec, Recipe
from attngraft.yolo.step import host_arguments

IOU = 0.7
"""Overlap above which Ultralytics' detection drops the weaker of two boxes."""

_SAYS_INIT = re.compile(r"[(,]\s*init\s*=")


def one_graft(base: str, mechanism: str, place: str) -> GraftSpec:
    """Read one mechanism as recipes write it, to be grafted in its paper's form unless it says otherwise.

    The paper's form is what a base without pretrained weights is given: there is nothing that a start as the identity
    would protect.

    Args:
        base: The base model, for the message of an error.
        mechanism: Such as ``mhsa`` or ``mhsa(heads=8)``.
        place: Where to.

    Raises:
        RecipeError: If it cannot be read, or is not one mechanism; points at the character.
    """
    text = f"{base}+{mechanism}@{place}"
    grafts = Recipe.parse(text).grafts
    if len(grafts) != 1:
        raise RecipeError(
            f"expected one mechanism such as mhsa or mhsa(heads=8), got {mechanism!r}", text, len(base) + 1
        )
    # Not an option that ends like it, such as zero_init=.
    if grafts[0].mode != "after" or _SAYS_INIT.search(half_width(mechanism)):
        return grafts[0]
    return replace(grafts[0], init="paper")


class ArrayDetector:
    """A detector with one map on images that are given as arrays.

    Equal seeds give equal weights outside the graft, whatever is grafted.

    Args:
        base: A model YAML whose head reads one map.
        grafts: What to join to it.
        classes: How many classes.
        seed: Of the initial weights.
        gains: Weights of the parts of the loss, ``box``, ``cls`` and ``dfl``, where they are not Ultralytics' own.

    Raises:
        OptionError: If a mechanism cannot be built at that width.
    """

    def __init__(
        self, base: str, grafts: Sequence[GraftSpec], *, classes: int, seed: int, gains: Mapping[str, float]
    ) -> None:
        torch.manual_seed(seed)
        with quiet():
            self.model: Any = DetectionModel(base, nc=classes, verbose=False)
            bare = sum(p.numel() for p in self.model.parameters())
            graft_model(self.model, grafts)
        self.model.args = host_arguments(gains)
        self.classes = classes
        self.stride = int(self.model.stride.max())
        self.grafted_parameters = sum(p.numel() for p in self.model.parameters()) - bare

    def loss(self, images: Tensor, owners: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return Ultralytics' loss of a batch.

        Args:
            images: Of 0 to 1.
            owners: The image of each object.
            boxes: Left, top, right and bottom of each object, in pixels.
            labels: Its class.

        Shape:
            - images: ``(B, 3, side, side)``
            - owners, labels: ``(n,)``
            - boxes: ``(n, 4)``
            - Output: ``()``
        """
        side = images.shape[-1]
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        batch = {
            "img": images,
            "batch_idx": owners.float(),
            "cls": labels.float()[:, None],
            "bboxes": torch.cat([centres, sizes], 1) / side,
        }
        parts, _ = self.model.train()(batch)
        summed: Tensor = parts.sum()
        return summed

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the class logits of every cell, and what Ultralytics' detection makes of the image.

        Args:
            images: Of 0 to 1.

        Shape:
            - images: ``(B, 3, side, side)``
            - Output: ``(B, classes, side / stride, side / stride)``, and for each image ``(n, 6)``: left, top, right,
              bottom in pixels, score, class
        """
        decoded, raw = self.model.eval()(images)
        cells = math.isqrt(raw["scores"].shape[-1])
        logits = raw["scores"].unflatten(-1, (cells, cells))
        # Without a limit of time, which on a busy machine would drop the boxes of the last images.
        found = non_max_suppression(decoded, CONFIDENCE, IOU, max_det=100, nc=self.classes, max_time_img=math.inf)
        return logits, found
