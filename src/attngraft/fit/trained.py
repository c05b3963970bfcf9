"""Networks that were trained here, read from their checkpoints."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attngraft._core.errors import CheckpointError
from attngraft.fit.files import BEST
from attngraft.fit.options import Options
from attngraft.fit.tasks.learner import MARK, Learner
from attngraft.fit.tasks.tasks import LEARNERS
from attngraft.models import load_shared

NETWORK = "network."

BROKEN = (
    *(RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError),
    *(struct.error, pickle.UnpicklingError),
)
"""What PyTorch raises for a file that is cut short or is no checkpoint: it takes a text for instructions."""


class Trained(NamedTuple):
    """A trained network and what belongs to it.

    Attributes:
        learner: The network with its measures, ready to predict: ``learner.network`` is the network itself.
        options: The options it was trained with.
        classes: Its class names.
        path: The checkpoint.
    """

    learner: Learner
    options: Options
    classes: tuple[str, ...]
    path: Path

    def untrained(self) -> Trained:
        """Return the same network as its run started, without what ``weights=`` gave it, for comparison."""
        return self._replace(learner=LEARNERS[self.options.task](self.options, self.classes).eval())


def load(path: str | Path) -> Trained:
    """Load a checkpoint of `Fit`, or the best one of its folder.

    Args:
        path: The checkpoint or the folder.

    Raises:
        CheckpointError: If there is none, or it is not one of ours.
    """
    file = Path(path) / BEST if Path(path).is_dir() else Path(path)
    content = read(file)
    if not isinstance(content.get(MARK), dict):
        raise CheckpointError(f"{file} was not written by attngraft fit; give a best.ckpt or last.ckpt of a run")
    try:
        options = replace(Options.stored(content[MARK]["options"]), weights=None)
        classes = tuple(content[MARK]["classes"])
        learner = LEARNERS[options.task](options, classes)
        learner.restored(content[MARK])
        _fill(learner, content["state_dict"], file)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} lacks a part of what attngraft fit writes ({error}); train again") from error
    return Trained(learner.eval(), options, classes, file)


def read(file: Path) -> dict[str, Any]:
    """Read a file of tensors and plain values; nothing in it is run.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{file} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    except BROKEN as error:  # whose text advises weights_only=False
        raise CheckpointError(
            f"{file} is not a checkpoint that can be read: it is broken, or holds more than tensors and plain values, "
            "which would be run; give a best.ckpt or last.ckpt of a run, or a file of weights alone"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no weights but a {type(content).__name__}")
    return content


def begin_from(network: nn.Module, file: Path) -> str:
    """Give a network the weights of a checkpoint, as far as they share layers.

    Args:
        network: The network.
        file: A checkpoint of `Fit`, or a file of weights of this network or, for a detector, of its classifier.

    Returns:
        A sentence on what was taken and what is re-initialized.

    Raises:
        CheckpointError: If nothing is shared, or what is shared has another shape.
    """
    content = read(file)
    found = content.get("state_dict", content)
    prefix = NETWORK if any(str(name).startswith(NETWORK) for name in found) else ""
    weights = {str(name).removeprefix(prefix): value for name, value in found.items() if isinstance(value, Tensor)}
    try:
        shared = load_shared(network, weights)
    except CheckpointError as error:
        raise CheckpointError(f"cannot initialize from weights={file}: {error}") from error
    resized = f", {len(shared.resized)} position tables among them resized" if shared.resized else ""
    missing = f"; {len(shared.missing)} are re-initialized, the first is {shared.missing[0]}" if shared.missing else ""
    whole = len(shared.taken) + len(shared.missing)
    return f"{len(shared.taken)} of {whole} weights are from {file}{resized}{missing}"


def _fill(learner: Learner, state: Mapping[str, Tensor], file: Path) -> None:
    """Load a whole state.

    Raises:
        CheckpointError: If it is of another network; names the first layer that differs.
    """
    own = learner.state_dict()
    who = f"{file} names {learner.options.model} with {len(learner.classes)} classes"
    for name in dict.fromkeys([*own, *state]):
        tensor = name.removeprefix(NETWORK)
        if name not in state or name not in own:
            which = "lack" if name not in state else "also have"
            raise CheckpointError(f"{who}, and its weights {which} {tensor}; load it with the version that wrote it")
        if own[name].shape != state[name].shape:
            raise CheckpointError(
                f"{who}, and its {tensor} is {tuple(state[name].shape)} where that needs {tuple(own[name].shape)}; "
                "take the file as it was written, or train again"
            )
    learner.load_state_dict(state)
