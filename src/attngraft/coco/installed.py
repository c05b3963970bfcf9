"""Which library of COCO's is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from attngraft._core.errors import MissingExtraError

HOTCOCO, PYCOCOTOOLS = "hotcoco", "pycocotools"


def installed() -> str:
    """Return the name of the library that is installed; hotcoco where both are.

    Raises:
        MissingExtraError: If none is.
    """
    found = next((name for name in (HOTCOCO, PYCOCOTOOLS) if _is_installed(name)), None)
    if found is None:
        raise MissingExtraError(HOTCOCO, "coco")
    return found


def module(name: str) -> Any:
    """Import a module of a library that may lack types."""
    return importlib.import_module(name)


def mask_module() -> Any:
    """Return the functions on masks of the library that is installed; both have pycocotools' names.

    Raises:
        MissingExtraError: If none is.
    """
    return module("pycocotools.mask") if installed() == PYCOCOTOOLS else module(HOTCOCO).mask


def _is_installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None
