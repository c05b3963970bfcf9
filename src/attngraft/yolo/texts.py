"""Models that find what texts name, YOLO-World and YOLOE: the embeddings of their classes are in no ``state_dict``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from ultralytics.nn.tasks import WorldModel, YOLOEModel

EMBEDDINGS = ("txt_feats", "pe")
"""Attributes of the two models that hold the embeddings of their classes."""
WIDTH = 512
"""Channels of an embedding."""


def reads_texts(model: Any) -> bool:
    """Tell whether a model finds what texts name; its training loads an encoder of texts."""
    return isinstance(model, (WorldModel, YOLOEModel))


def copy_embeddings(source: Any, model: Any) -> None:
    """Give a model the embeddings of the classes of another, as a trainer does by encoding their names again."""
    for name in EMBEDDINGS:
        if isinstance(found := getattr(source, name, None), Tensor):
            setattr(model, name, found)


def embed_classes(model: Any) -> None:
    """Make up embeddings of a model's classes where it has none: a new YOLOE takes zeros, without a direction."""
    if isinstance(model, YOLOEModel) and not hasattr(model, "pe"):
        model.pe = class_embeddings(model, 1)


def class_embeddings(model: Any, batch: int) -> Tensor:
    """Make up embeddings ``(batch, classes, channels)`` of length 1, as encoders of texts give them."""
    return normalize(torch.randn(1, model.model[-1].nc, WIDTH), dim=-1).expand(batch, -1, -1)
