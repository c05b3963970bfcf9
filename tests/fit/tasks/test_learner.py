"""What the runs of all tasks share: schedules, decay, normalization, and what a checkpoint states of itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from attngraft.fit import Options
from attngraft.fit.tasks.learner import _optimizer, normalized, rate
from tests.fit.networks import tiny_classifier

BASE = {"model": "tiny_classifier", "data": "flowers"}


def of(**changes: Any) -> Options:
    return Options.of({**BASE, **changes})


def test_the_schedules() -> None:
    cosine = of(warmup=0.2)
    assert [rate(cosine, p) for p in (0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.5, 1, 0.5, 0])
    assert 0 < rate(cosine, 0.0) < 0.01
    steps = of(warmup=0.0, schedule="steps")
    assert [rate(steps, p) for p in (0, 0.5, 0.8, 0.9, 0.97)] == [1, 0.5, 0.25, 0.125, 0.0625]
    assert math.isclose(rate(of(warmup=0.0), 0.0), 1.0)


def test_images_of_bytes_are_normalized_by_the_figures_of_imagenet() -> None:
    images = torch.tensor([[0, 255], [128, 64]], dtype=torch.uint8).expand(2, 3, 2, 2)
    found = normalized(images)
    for channel, (mean, deviation) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        for value, made in zip((0, 255, 128, 64), found[1, channel].flatten().tolist(), strict=True):
            assert made == pytest.approx((value / 255 - mean) / deviation, abs=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_biases_and_norms_are_not_decayed(kind: str) -> None:
    network = tiny_classifier(num_classes=3)
    for parameter in network.conv.parameters():
        parameter.requires_grad = False
    optimizer = _optimizer(of(optimizer=kind, weight_decay=0.1, lr=0.5, momentum=0.8), network)
    decayed, others = optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"], decayed["lr"]) == (0.1, 0.0, 0.5)
    assert isinstance(network.last, nn.Conv2d)
    assert [p.shape for p in decayed["params"]] == [network.last.weight.shape, network.fc.weight.shape]
    assert all(p.dim() == 1 for p in others["params"])
    assert len(others["params"]) == 4  # two of the norm, and the biases of what still learns
    assert decayed["momentum"] == 0.8 if kind == "sgd" else decayed["betas"] == (0.8, 0.999)
