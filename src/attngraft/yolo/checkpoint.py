"""Checkpoints: inspected before Ultralytics opens them, written in the form that the stock host can use."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn

from attngraft._core import plugins
from attngraft._core.archive import check_unpacked, is_torchscript
from attngraft._core.cache import cache_folder
from attngraft._core.errors import CheckpointError
from attngraft._core.files import CHOOSE, write_whole
from attngraft._core.imports import has_attribute
from attngraft.yolo import copied
from attngraft.yolo.recipe import Recipe
from attngraft.yolo.rows import GUARD, YAML_KEY

HOST_ALIASES = (
    "ultralytics.nn.modules.block.Silence",
    "ultralytics.nn.tasks.YOLOv10DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss",
)
"""Names in older official checkpoints that Ultralytics maps to today's."""


def inspect_file(file: Path) -> None:
    """Require a file that Ultralytics can open, before it tries: it would install missing modules by their names.

    Nothing that the file names is imported for it, but for a plugin's file, and that not under safe loading.

    Args:
        file: A ``.pt`` file.

    Raises:
        CheckpointError: If it is damaged, would fill the memory, holds classes or plugins that are not to be had here,
            or, under safe loading, any that are not known to be data; names them.
    """
    check_unpacked(file)
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        if is_torchscript(file):
            raise CheckpointError(
                f"{file} is an export to TorchScript and no checkpoint; give the .pt it came from, or name it "
                f"{file.stem}.torchscript to predict and validate with it"
            ) from error
        raise CheckpointError(
            f"{file} is not a checkpoint, or a damaged one ({file.stat().st_size:,} bytes); copy or train it again"
        ) from error
    for path in plugins.in_checkpoint(file):
        plugins.find(path)
    if plugins.safe_loading():
        return  # Ultralytics keeps a list of what it takes
    missing = sorted(name for name in named if not _is_here(name))
    left = [name for name in missing if not copied.may_be_ours(name)]
    if missing and not left:
        with copied.stand_ins(missing):
            loaded = torch.load(file, map_location="cpu", weights_only=False)
        copied.replace_pasted(file, loaded)
        left = copied.left_over(loaded)
    if left:
        raise CheckpointError(not_here(file, left))


def require_model(file: Path, loaded: Any) -> None:
    """Require what was read from a checkpoint to hold a model.

    Args:
        file: Where it was read from.
        loaded: What is in it.

    Raises:
        CheckpointError: If there is none, as in a file of weights alone.
    """
    parts = loaded if isinstance(loaded, dict) else {}
    models = [parts[key] for key in ("ema", "model") if isinstance(parts.get(key), nn.Module)]
    if models and type(models[0]) is nn.Sequential:  # Ultralytics takes the layers out of a model that stands alone
        raise CheckpointError(
            f"{file} holds a bare module and no checkpoint; write it with the save() of the YOLO that it belongs to"
        )
    if models:
        return
    held = [parts, *(value for value in parts.values() if isinstance(value, dict))]
    tensors = max(sum(isinstance(value, torch.Tensor) for value in one.values()) for one in held)
    if not tensors:
        raise CheckpointError(
            f"{file} holds a {type(loaded).__name__} and no model; give the best.pt or last.pt of a training run"
        )
    raise CheckpointError(
        f"{file} holds {tensors} tensors and no model (a state dict); give the best.pt or last.pt of the training run, "
        "or load it into the model that it belongs to: model = attngraft.YOLO('yolo11n.yaml'); "
        "model.model.load_state_dict(torch.load(FILE)); model.save('best.pt')"
    )


def missing_classes(file: Path) -> list[str]:
    """List the classes that a checkpoint names and that are not to be had here, in alphabetical order.

    Args:
        file: A ``.pt`` file; one that cannot be read names none.
    """
    try:
        check_unpacked(file)
        named = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError):
        return []  # whoever loads it says why
    return sorted(name for name in named if not _is_here(name))


def not_here(file: Path, names: Sequence[str]) -> str:
    """Say that a checkpoint holds classes that are not to be had here."""
    return (
        f"{file} holds {', '.join(names[:3])}{' and more' if names[3:] else ''}, which is not installed here; "
        "import the code that it was trained with first, or open it where it was trained"
    )


def _is_here(name: str) -> bool:
    """Tell whether a pickled ``module.Class`` can be had without installing anything."""
    module, _, attribute = name.rpartition(".")
    if module.startswith(("ultralytics.yolo", "__builtin__")) or name in HOST_ALIASES:
        return True  # Ultralytics' own older names, which it maps itself
    return has_attribute(module, attribute)


def is_grafted(description: dict[str, Any]) -> bool:
    """Tell whether a model's YAML holds grafts."""
    return bool(description.get(YAML_KEY)) or any(row[2] == GUARD for row in description["head"])


def save(model: nn.Module, file: Path, *, arguments: dict[str, Any], advice: str = CHOOSE) -> None:
    """Write a checkpoint in Ultralytics' form, in full precision, whole or not at all.

    Args:
        model: Ultralytics model.
        file: Where to; an existing file is replaced in one step.
        arguments: Ultralytics' training arguments that belong to it, at least ``task`` and ``model``.
        advice: What to do where the folder cannot be written.

    Raises:
        OutputError: If the file cannot be written.
    """
    checkpoint = {
        "epoch": -1,
        "best_fitness": None,
        "model": deepcopy(model),
        "ema": None,
        "optimizer": None,
        "train_args": arguments,
        "date": datetime.now().astimezone().isoformat(),
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    }
    write_whole(file, lambda partial: torch.save(checkpoint, partial), advice=advice)


def seed_file(recipe: Recipe) -> Path:
    """Return where in the user's cache the seed checkpoint of a recipe is kept.

    Workers of multi-GPU training and of the tuner rebuild a model from a path, so a grafted model needs a file from
    the start.
    """
    name = Path(recipe.base).stem + "".join(f"+{spec}" for spec in recipe.grafts)
    safe = "".join(char if char.isalnum() or char in "+-_.@," else "-" for char in name)[:120]
    base = Path(recipe.base)
    place = f"{recipe.hash}-{base.resolve()}" if base.exists() else recipe.hash
    return cache_folder() / "seeds" / hashlib.sha256(place.encode()).hexdigest()[:12] / f"{safe}.pt"
