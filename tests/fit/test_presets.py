"""The presets are the papers' recipes, and a learning rate belongs to its batch."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from attngraft.fit import Options
from attngraft.fit.presets import PRESETS, Preset, Settings
from attngraft.models._registry import Task

BASE = {"model": "tiny_classifier", "data": "flowers"}


def of(**changes: Any) -> Options:
    return Options.of({**BASE, **changes})


def test_every_preset_has_a_recipe_for_every_task() -> None:
    assert set(PRESETS) == set(get_args(Preset))
    for recipes in PRESETS.values():
        assert set(recipes) == set(get_args(Task))
        assert all(isinstance(recipe, Settings) for recipe in recipes.values())


def test_the_papers_recipes() -> None:
    classify = of(preset="paper")
    assert (classify.epochs, classify.batch, classify.ema, classify.label_smoothing) == (350, 4096, 0.9999, 0.1)
    assert (classify.optimizer, classify.momentum, classify.schedule) == ("sgd", 0.9, "cosine")
    assert classify.randaugment > 0
    for model in ("tiny_detector", "tiny_segmenter"):
        detect = of(preset="paper", model=model)
        assert (detect.epochs, detect.imgsz, detect.jitter) == (72, 1024, (0.1, 2.0))
    superres = of(preset="paper", model="tiny_enlarger")
    assert (superres.lr, superres.beta2, superres.batch, superres.imgsz, superres.ema) == (2e-4, 0.99, 32, 64, 0.999)
    assert superres.schedule == "steps"
    assert pytest.approx(superres.epochs, rel=0.003) == 500_000 * 32 / 3450


def test_the_learning_rate_follows_the_batch_unless_it_is_given() -> None:
    recipe = PRESETS["paper"]["classify"]
    assert of(preset="paper", batch=256).lr == pytest.approx(recipe.lr / 16)
    assert of(preset="paper", batch=256, lr=3).lr == 3.0
    assert of().task == "classify"
