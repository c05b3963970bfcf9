"""What Ultralytics makes of a checkpoint when it builds the model from its YAML again, to train it."""

from __future__ import annotations

import copy
from typing import Any

import torch

from attngraft.yolo.texts import copy_embeddings


def rebuilt(model: Any) -> Any:
    """Return what Ultralytics makes of a model to train it: built from its YAML, and its weights loaded.

    Newer releases give a head the widths of the weights, which go by the classes of the model they come from.

    Args:
        model: A host model such as ``DetectionModel``, in single precision.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yaml = copy.deepcopy(model.yaml)
        again = type(model)(yaml, ch=yaml.get("channels", 3), nc=len(model.names), verbose=False)
        again.args = {}  # of a model that is here to be compared, all weights are loaded
        again.load(model, verbose=False)
        copy_embeddings(model, again)
    return again


def changed_by_rebuild(model: Any) -> tuple[list[str], list[str]]:
    """List what Ultralytics loses of a checkpoint when it rebuilds the model from its YAML to train it.

    A checkpoint may differ from its own YAML: it was edited, or written by another release.

    Args:
        model: A host model such as ``DetectionModel``.

    Returns:
        The tensors that are dropped, and the layers without tensors, such as activations, that another class replaces.
    """
    again = rebuilt(model)
    there = {name: tensor.shape for name, tensor in again.state_dict().items()}
    dropped = [name for name, tensor in model.state_dict().items() if there.get(name) != tensor.shape]
    # Ultralytics' convolutions share one activation, which stands at the path of each.
    classes = {path: type(part) for path, part in again.named_modules(remove_duplicate=False)}
    replaced = [
        path
        for path, part in model.named_modules(remove_duplicate=False)
        if not part.state_dict() and classes.get(path, type(part)) is not type(part)
    ]
    return dropped, replaced
