"""What is asked of a model that is looked at; detectors of a host and networks of our own answer alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from attngraft.maps.detections import Detection
from attngraft.maps.readers import Grid
from attngraft.maps.relevance import Predictions

Side = int | Grid
"""Side of the input in pixels, or its height and width."""


@dataclass(frozen=True)
class Prepared:
    """An image as the model is given it, and the way back.

    Attributes:
        tensor: ``(1, 3, H, W)``, from 0 to 1; ``(1, 1, H, W)`` for a model of one channel.
        scale: Pixels of the tensor to one of the image, along x and along y.
        offset: Where the image's left upper corner lies in the tensor, (x, y).
    """

    tensor: Tensor
    scale: tuple[float, float]
    offset: tuple[float, float]

    def back(self, box: Sequence[float]) -> tuple[float, ...]:
        """Return a box or a point, (x, y, x, y, ...), in pixels of the image."""
        return tuple((at - self.offset[i % 2]) / self.scale[i % 2] for i, at in enumerate(box))


class Subject(Protocol):
    """A model as a look at it wants it: a copy that runs with gradients and says which candidate spoke.

    Attributes:
        network: The copy, in evaluation mode; record and explain this one.
        task: What it does, in its host's word.
        names: Names of the classes; empty where it detects nothing.
        title: What a page calls the model.
    """

    network: nn.Module
    task: str
    names: dict[int, str]
    title: str

    @property
    def layers(self) -> list[str]:
        """Paths of the layers that the head reads, from fine to coarse: where relevance is usually asked."""
        ...

    def layers_before(self, names: Sequence[str]) -> list[str]:
        """Return the paths of the layers right before the first attentions or gates, as far as they give one map.

        Args:
            names: Paths of its attentions and gates.
        """
        ...

    def prepare(self, image: NDArray[np.uint8], imgsz: Side | None = None) -> Prepared:
        """Scale an image as the model's own prediction does.

        Args:
            image: ``(H, W, 3)``, red first.
            imgsz: Side of the input, or its height and width; None takes that of the training run.
        """
        ...

    def predict(self, images: Tensor) -> Predictions:
        """Return boxes and scores of all candidates before any is suppressed, with their graph.

        Args:
            images: ``(B, 3, H, W)``, from 0 to 1.
        """
        ...

    def only(self, detections: Sequence[Detection]) -> AbstractContextManager[None]:
        """Let `predict` leave out whatever candidates other than these are costly, in a with block.

        Args:
            detections: Detections of one image.
        """
        ...

    def find(self, images: Tensor, *, confidence: float = 0.25) -> list[list[Detection]]:
        """Return the detections of each image, the surest first.

        Args:
            images: ``(B, 3, H, W)``, from 0 to 1.
            confidence: Least score.
        """
        ...


def surest(predictions: Predictions, confidence: float, limit: int) -> list[list[tuple[int, int]]]:
    """Return candidate and class of the surest pairs of each image, the surest first.

    Args:
        predictions: Raw predictions.
        confidence: Scores are above it.
        limit: Most pairs of an image.
    """
    kept = []
    for scores in predictions.scores:
        best = scores.flatten().topk(min(limit, scores.numel()))
        index = best.indices[best.values > confidence]
        kept.append([divmod(int(i), scores.shape[1]) for i in index])
    return kept
