"""Networks that were trained here, read from their checkpoints."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attngraft._core.errors import AttngraftError, CheckpointError
from attngraft.fit.learner import MARK, Learner
from attngraft.fit.options import Options
from attngraft.fit.tasks import LEARNERS

BEST, LAST = "best.ckpt", "last.ckpt"
NETWORK = "network."


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
        """Return the same network as its training began, without what ``weights=`` gave it, for comparison."""
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
        options = replace(Options.of(content[MARK]["options"]), weights=None)
        classes = tuple(content[MARK]["classes"])
        learner = LEARNERS[options.task](options, classes)
        learner.load_state_dict(content["state_dict"])
    except AttngraftError:
        raise
    except (KeyError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{file} does not fit the network that it names ({reason})") from error
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
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{file} is not a checkpoint that can be read ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no weights but a {type(content).__name__}")
    return content


def begin_from(network: nn.Module, file: Path) -> str:
    """Give a network the weights of a checkpoint as far as names and shapes agree.

    Args:
        network: The network.
        file: A checkpoint of `Fit`, or a file of the network's own weights.

    Returns:
        A sentence on what was taken.

    Raises:
        CheckpointError: If nothing fits.
    """
    content = read(file)
    found = content.get("state_dict", content)
    prefix = NETWORK if any(str(name).startswith(NETWORK) for name in found) else ""
    weights = {str(name).removeprefix(prefix): value for name, value in found.items() if isinstance(value, Tensor)}
    own = network.state_dict()
    taken = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not taken:
        raise CheckpointError(f"{file} has no weight that fits; it is of another network")
    network.load_state_dict(taken, strict=False)
    anew = [name for name in own if name not in taken]
    beginning = f"; {len(anew)} begin anew, the first is {anew[0]}" if anew else ""
    return f"{len(taken)} of {len(own)} weights are from {file}{beginning}"
