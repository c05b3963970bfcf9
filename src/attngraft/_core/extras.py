"""Packages that only some of the work needs, imported where it begins."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from attngraft._core.errors import MissingExtraError

BROUGHT_BY = {
    "jinja2": "study",
    "matplotlib": "study",
    "hotcoco": "coco",
    "onnx": "export",
    "onnxruntime": "export",
    "openvino": "export",
    "lightning": "fit",
    "lightning_utilities": "fit",
    "tensorboard": "fit",
    "torchmetrics": "fit",
    "ray": "ray",
    "safetensors": "share",
    "tokenizers": "retrieve",
    "transformers": "retrieve",
    "lancedb": "retrieve-db",
}
"""Which of our extras installs a package."""


def missing_extra(error: BaseException) -> MissingExtraError | None:
    """Return the error that names the extra, where a package is missing that one of ours brings; None otherwise."""
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if type(error) is not ModuleNotFoundError or package not in BROUGHT_BY:
        return None
    return MissingExtraError(package, BROUGHT_BY[package])


def extra_package(name: str, extra: str) -> ModuleType:
    """Import a package that one of our extras installs.

    Args:
        name: What to import, a package or a module in one.
        extra: The extra that installs it.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name not in (name, package):
            raise
        raise MissingExtraError(package, extra) from error


def naming_extra(attribute: Callable[[str], Any], extra: str, *others: str) -> Callable[[str], Any]:
    """Let a package's ``__getattr__``, which loads its modules, name the extra where one of its packages is missing.

    Args:
        attribute: What loads a name.
        extra: The extra that installs the packages.
        others: Packages that another extra brings too, and that are missed for want of this one here.

    Returns:
        The same, raising `MissingExtraError` in place of ``ModuleNotFoundError``.
    """
    packages = {*others, *(package for package, brings in BROUGHT_BY.items() if brings == extra)}

    def named(name: str) -> Any:
        try:
            return attribute(name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in packages:
                raise
            raise MissingExtraError(missing, extra) from error

    return named
