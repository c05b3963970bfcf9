"""Packages that can be called: ``attngraft.doctor(...)`` beside ``from attngraft.doctor import check``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module with one function that calling it means."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["__wrapped__"](*args, **kwargs)


def call_package(name: str, function: Callable[..., Any]) -> None:
    """Let a package be called as one of its functions, whichever of the two a name turns out to be bound to.

    Importing a sub-package binds its name in the parent, over a function of the same name. So the package stands for
    the function: it is called alike, and is found under the function's name in itself.

    Args:
        name: The package's ``__name__``.
        function: What a call means; has the package's own last name.
    """
    package = sys.modules[name]
    package.__class__ = _Callable
    package.__dict__["__wrapped__"] = function
    package.__dict__["__signature__"] = inspect.signature(function)
    package.__dict__[function.__name__] = package
