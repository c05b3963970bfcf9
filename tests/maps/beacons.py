"""The trained micro detectors, and scenes on which the place of the cue is known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from attngraft.data.scenes import Scene, beacon_scene, generator
from attngraft.yolo import YOLO
from attngraft.yolo.looking import Watched

FIXTURES = Path(__file__).parent / "fixtures"
RECIPE = "attngraft-micro.yaml+mhsa(init=paper)@P3"
ATTENTION = "model.3.grafts.0.mechanism"
UNSEEN = 12345
"""A seed of scenes that no model was trained on."""


@cache
def watched(rule: str) -> Watched:
    """Return the trained detector of a rule, ``global`` or ``local``; made by ``tools/beacon_models.py``."""
    stock = YOLO(RECIPE)
    network = DetectionModel(stock.model.yaml, nc=2, verbose=False)
    network.load_state_dict(torch.load(FIXTURES / f"beacons-{rule}.pt", weights_only=True))
    network.names = {0: "red", 1: "green"}
    return Watched(network.float())


@cache
def scenes(count: int) -> list[Scene]:
    return [beacon_scene(generator(UNSEEN, index)) for index in range(count)]


def tensors(count: int) -> Tensor:
    """Return the images of the first scenes, ``(B, 3, 96, 96)`` from 0 to 1."""
    return torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes(count)]) / 255
