"""Which library of COCO's is used: hotcoco where it is installed, else pycocotools, which attngraft depends on."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

HOTCOCO, PYCOCOTOOLS = "hotcoco", "pycocotools"


def installed() -> str:
    """Return the name of the library that is used."""
    return HOTCOCO if importlib.util.find_spec(HOTCOCO) else PYCOCOTOOLS


def module(name: str) -> Any:
    """Import a module of a library that may lack types."""
    return importlib.import_module(name)


def mask_module() -> Any:
    """Return the functions on masks of the library that is used; both have pycocotools' names."""
    return module("pycocotools.mask") if installed() == PYCOCOTOOLS else module(HOTCOCO).mask
