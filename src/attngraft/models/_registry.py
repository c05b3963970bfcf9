"""The table of whole models: a name, a task and a function that builds it, written beside what they describe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_type_hints

from torch import nn

from attngraft._core.checks import known_options, not_negative
from attngraft._core.errors import RegistrationError, UnknownNameError

Task = Literal["classify", "detect", "segment", "superres"]

_Build = TypeVar("_Build", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class ModelRecord:
    """What is known of one model without building it.

    Attributes:
        name: What `create` calls it, such as ``botnet50``.
        task: What it does.
        build: The function that builds it; everything it takes is a keyword.
        about: The first line of that function's docstring.
    """

    name: str
    task: Task
    build: Callable[..., nn.Module]
    about: str

    @property
    def options(self) -> frozenset[str]:
        """The keywords of the class that it returns, such as ``image_size``, where position tables have a size."""
        return frozenset(inspect.signature(get_type_hints(self.build)["return"]).parameters)

    @property
    def takes(self) -> frozenset[str] | None:
        """The keywords of its function; None where only building it tells, as torchvision's classes are not loaded."""
        own = inspect.signature(self.build).parameters.values()
        named = frozenset(p.name for p in own if p.kind is not p.VAR_KEYWORD) - {"name"}
        if len(named) == len(own):
            return named
        return None if "kwargs" in self.options else named | self.options


_TABLE: dict[str, ModelRecord] = {}


def model(task: Task, *names: str) -> Callable[[_Build], _Build]:
    """Enter a function that builds a model in the table, under its own name or under several.

    A function with several names is called with the keyword ``name``.

    Args:
        task: What the model does.
        *names: The names, where they are not the function's own.

    Raises:
        RegistrationError: If a name is taken.
    """

    def enter(build: _Build) -> _Build:
        for name in names or (build.__name__,):
            if name in _TABLE:
                raise RegistrationError(f"the model name {name!r} is taken; give the new one another name")
            about = (build.__doc__ or "").strip().partition("\n")[0]
            _TABLE[name] = ModelRecord(name, task, _named(build, name) if names else build, about)
        return build

    return enter


def create(name: str, **options: Any) -> nn.Module:
    """Build a model by name.

    Args:
        name: One of `names`.
        **options: What its function takes, such as ``num_classes=10``.

    Raises:
        UnknownNameError: If there is no such model; names the nearest.
        OptionError: If it has no such option, naming the nearest, or ``num_classes`` is no number of classes.
    """
    found = record(name)
    if found.takes is not None:
        known_options(name, options, found.takes)
    not_negative(name, num_classes=options.get("num_classes", 0))
    return found.build(**options)


def record(name: str) -> ModelRecord:
    """Look up a model.

    Raises:
        UnknownNameError: If there is none of that name; names the nearest.
    """
    if name not in _TABLE:
        raise UnknownNameError("model", name, _TABLE)
    return _TABLE[name]


def names(task: Task | None = None) -> list[str]:
    """List the models in alphabetical order, all or those of one task."""
    return sorted(name for name, found in _TABLE.items() if task in (None, found.task))


def models() -> Mapping[str, ModelRecord]:
    """Return a read-only view of the table."""
    return MappingProxyType(_TABLE)


def _named(build: Callable[..., nn.Module], name: str) -> Callable[..., nn.Module]:
    @wraps(build)
    def build_named(**options: Any) -> nn.Module:
        return build(name=name, **options)

    return build_named
