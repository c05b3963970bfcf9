"""Packages that only some of the work needs, imported where it begins."""

from __future__ import annotations

import importlib
from types import ModuleType

from attngraft._core.errors import MissingExtraError


def extra_package(name: str, extra: str) -> ModuleType:
    """Import a package that one of our extras installs.

    Args:
        name: What to import.
        extra: The extra that installs it.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtraError(name, extra) from error
