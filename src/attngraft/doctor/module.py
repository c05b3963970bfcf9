"""A mechanism under examination: a class that keeps the shape of a map, from the registry or from a user's file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import attngraft.attention as zoo
from attngraft._core.errors import OptionError, UnknownNameError
from attngraft.doctor.findings import said

NOISE = 0.1
"""How far weights are moved from where they start: gates that start at zero would hide what is behind them."""


@dataclass(frozen=True)
class Subject:
    """A module class and the circumstances that it has to work in.

    Attributes:
        name: What it is called.
        cls: The class; its first argument is the number of channels.
        channels: Width of the maps it is examined on.
        options: Keyword arguments it is built with.
        folder: Folder of the file it came from, which every process that loads it needs on its path.
        largest: Height and width of the largest map it will see; 80 x 80 is P3 of a 640 px image.
        batch: Images in a training step.
    """

    name: str
    cls: type[nn.Module]
    channels: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    largest: tuple[int, int] = (80, 80)
    batch: int = 16

    def fresh(self, channels: int | None = None) -> nn.Module:
        """Build the module as it starts, at a width."""
        width = self.channels if channels is None else channels
        fit = getattr(self.cls, "fit", None)
        fitted = fit(width) if callable(fit) else {}
        return self.cls(width, **{**fitted, **self.options})

    def shaken(self) -> nn.Module:
        """Build the module with weights moved from where they start."""
        module = self.fresh()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * NOISE)
        return module

    def map(self, height: int, width: int, batch: int = 2) -> Tensor:
        """Return a random map of the subject's width."""
        return torch.randn(batch, self.channels, height, width)


def subject(target: str | type[nn.Module], *, name: str = "", **circumstances: Any) -> Subject:
    """Find what to examine.

    Args:
        target: A registry name (``"eca"``), a class in a file (``"my/attention.py:MyAttention"``), or a class.
        name: What to call it; empty takes the target's.
        **circumstances: Fields of `Subject`.

    Raises:
        UnknownNameError: If the registry or the file has no such name.
        OptionError: If the file is not there, cannot be imported, or the class is no module.

    Example:
        >>> subject("eca", channels=128).fresh().kernel_size
        5
    """
    if not isinstance(target, str):
        return Subject(name or target.__name__, target, **circumstances)
    file, colon, class_name = target.rpartition(":")
    if not colon:
        record = zoo.mechanism(target)
        return Subject(name or record.name, record.cls, **circumstances)
    path = Path(file).resolve()
    found = getattr(_import_file(path), class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        classes = [key for key, value in vars(_import_file(path)).items() if isinstance(value, type)]
        raise UnknownNameError(f"module class in {path.name}", class_name, classes)
    return Subject(name or target, found, folder=path.parent, **circumstances)


def _import_file(path: Path) -> ModuleType:
    """Import a file under the name that another process would import it by, as pickles need."""
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "") == path:
        return known
    if known is not None or not path.stem.isidentifier():
        raise OptionError(f"{path} cannot be imported as {path.stem!r}, which is taken or not a name; rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise OptionError(f"doctor looks for FILE.py:CLASS, got {path}, which is no Python file; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        with _on_path(path.parent):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        raise OptionError(f"{path} cannot be imported: {said(error)}; run it alone to see where") from error
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Let a file import its neighbours."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
