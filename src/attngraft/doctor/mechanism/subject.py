"""A mechanism under examination: a class that keeps the shape of a map, from the registry or from a user's file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import attngraft.attention as zoo
from attngraft._core.errors import OptionError, UnknownNameError, first_line, suggest
from attngraft._core.imports import import_file
from attngraft._core.registry import fitted

NOISE = 0.1
"""How far weights are moved from where they start: gates that start at zero would hide what is behind them."""
SAME = ("input kept", "repeats")
"""What a check needs that compares two calls on one input."""

STATE_REMEDY = "register what it needs as parameters and buffers, made in __init__"


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
        return self.cls(width, **{**fitted(self.cls, width), **self.options})

    def perturbed(self) -> nn.Module:
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
        target: A registry name (``"eca"``), a class in a file (``"my/attention.py:MyAttention"``) or in an installed
            package (``"package.module:MyAttention"``), or a class.
        name: What to call it; empty takes the target's.
        **circumstances: Fields of `Subject`.

    Raises:
        UnknownNameError: If the registry or the file has no such name, or the class no such option.
        OptionError: If the file or the package is not there or cannot be imported, or no class of it is named.

    Example:
        >>> subject("eca", channels=128).fresh().kernel_size
        5
    """
    found = _find(target, name, circumstances)
    known = options_of(found.cls)
    unknown = [] if known is None else [key for key in found.options if key not in known]
    if unknown:
        raise UnknownNameError(f"option of {found.cls.__name__}", unknown[0], known or ())
    return found


def options_of(cls: type[nn.Module]) -> list[str] | None:
    """List the keyword arguments of a class besides its first argument; None where it takes any."""
    rest = list(inspect.signature(cls).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in rest):
        return None
    return [parameter.name for parameter in rest if parameter.kind is not parameter.VAR_POSITIONAL]


def names_class(target: str) -> bool:
    """Tell whether a target names a file, or a class in a file or an installed package.

    Example:
        >>> [names_class(t) for t in ("mine.py", "mine.py:Mine", "package.module:Mine", "eca", "yolo11n+eca@P4")]
        [True, True, True, False, False]
    """
    home, _, name = target.rpartition(":")
    in_package = name.isidentifier() and all(part.isidentifier() for part in home.split("."))
    return target.endswith(".py") or home.endswith(".py") or in_package


def _find(target: str | type[nn.Module], name: str, circumstances: Mapping[str, Any]) -> Subject:
    if not isinstance(target, str):
        return Subject(name or target.__name__, target, **circumstances)
    if not names_class(target):
        record = zoo.mechanism(target)
        return Subject(name or record.name, record.cls, **circumstances)
    home, _, class_name = (target, "", "") if target.endswith(".py") else target.rpartition(":")
    in_file = home.endswith(".py")
    module = import_file(Path(home).resolve()) if in_file else _import_package(home)
    classes = {key: value for key, value in vars(module).items() if _is_module_of(value, module)}
    if not class_name:
        raise OptionError(f"{home} names a file and no class; say which, as in {home}:NAME; {suggest('', classes)}")
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UnknownNameError(f"module class in {Path(home).name}", class_name, classes)
    return Subject(name or target, found, folder=Path(home).resolve().parent if in_file else None, **circumstances)


def _import_package(name: str) -> ModuleType:
    """Import a module of an installed package.

    Raises:
        OptionError: If there is none, or it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise OptionError(f"{name} needs the package {error.name}, which is not installed; install it") from error
        raise OptionError(
            f"no installed package has a module {name}; install the package, or give a file, as in mine.py:NAME"
        ) from error
    except Exception as error:
        raise OptionError(f"{name} cannot be imported: {first_line(error)}; import it alone to see where") from error


def _is_module_of(value: object, home: ModuleType) -> bool:
    """Tell whether something is a module class that a file defines."""
    return isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == home.__name__
