"""Modules of mechanisms, imported from a file or an installed package, and what of them another process can find."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from attngraft._core.errors import AttngraftError, OptionError, first_line

registered: list[type] = []
"""Every class that was ever registered."""
_packages: set[str] = set()
"""Names of modules that every process finds by their name, since they are installed."""


def import_file(path: Path) -> ModuleType:
    """Import a file under the name that another process would import it by, as pickles need.

    Raises:
        OptionError: If it is not there, cannot be imported, or its name is taken.
    """
    path = path.resolve()
    name = module_name(path)
    known = sys.modules.get(name)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path:
        return known
    if known is not None:
        raise OptionError(f"cannot import {path} as {name!r}: a module of that name is loaded already; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise OptionError(f"expected a Python file, got {path}; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _on_path(path.parent):
            spec.loader.exec_module(module)
    except AttngraftError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise _unimportable(str(path), error) from error
    return module


def import_named(name: str) -> ModuleType:
    """Import an installed module, whose classes every process finds by its name.

    Raises:
        OptionError: If there is none of that name, or it cannot be imported.
    """
    if not is_installed(name):
        raise OptionError(f"{name} is neither a Python file nor an installed module; check the name, or install it")
    _packages.add(name)
    try:
        return importlib.import_module(name)
    except AttngraftError:
        raise
    except Exception as error:
        raise _unimportable(name, error) from error


def is_installed(name: str) -> bool:
    """Tell whether a module can be imported by its name; of a dotted name, the packages before are."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def has_attribute(module: str, attribute: str) -> bool:
    """Tell whether a module can be imported and has an attribute, without importing it or a package it lies in.

    What is loaded is asked; of any other module, its source is looked at for the name. The working folder, where
    whatever was downloaded may lie, is looked at as the interpreter would.

    Args:
        module: Dotted name of the module.
        attribute: Name in it.

    Example:
        >>> has_attribute("os", "sep"), has_attribute("this", "d"), has_attribute("this", "e"), has_attribute("no", "x")
        (True, True, False, False)
    """
    if (known := sys.modules.get(module)) is not None:
        return hasattr(known, attribute)
    spec = _spec(module)
    if spec is None or spec.origin is None:
        return False
    if not spec.origin.endswith(".py"):
        return True  # compiled: only importing it would tell
    source = Path(spec.origin).read_text("utf-8", errors="replace")
    return re.search(rf"\b{re.escape(attribute)}\b|^from \S+ import \*", source, re.MULTILINE) is not None


def _spec(module: str) -> ModuleSpec | None:
    """Find a module on the path; `importlib.util.find_spec` imports the packages before it."""
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        known = sys.modules.get(name)
        spec = known.__spec__ if known is not None else PathFinder.find_spec(name, path)
        if spec is None or (count < len(parts) and spec.submodule_search_locations is None):
            return None
        path = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    return spec


def module_name(file: Path) -> str:
    """Return the name of a file's module: its stem, with what no name may have as underscores.

    Example:
        >>> module_name(Path("my-gate 2.py")), module_name(Path("2d.py")), module_name(Path("gate.py"))
        ('my_gate_2', '_2d', 'gate')
    """
    name = re.sub(r"\W", "_", file.stem)
    return name if name.isidentifier() else f"_{name}"


def brings(module: ModuleType) -> bool:
    """Tell whether a module has a registered class that is not ours: its own, or one that it imported."""
    values = list(vars(module).values())
    homes = [module.__name__, *(value.__name__ for value in values if isinstance(value, ModuleType))]
    theirs = [cls for cls in registered if not cls.__module__.startswith("attngraft.") and _is_current(cls)]
    return any(cls in values or any(f"{cls.__module__}.".startswith(f"{home}.") for home in homes) for cls in theirs)


def _is_current(cls: type) -> bool:
    """Tell whether a class is the one that its module has now."""
    home = sys.modules.get(cls.__module__)
    return home is not None and resolve(home, cls.__qualname__) is cls


def file_of(cls: type) -> Path | None:
    """Return the file of a class, where only its path can find it again."""
    name = cls.__module__
    home = getattr(sys.modules.get(name), "__file__", None)
    if "." in name or name == "__main__" or name in _packages or not home or not home.endswith(".py"):
        return None
    installed = {"site-packages", "dist-packages"} & set(Path(home).parts)
    return None if installed else Path(home).resolve()


def resolve(module: ModuleType, qualified_name: str) -> Any:
    """Return what a module has under a dotted name, or None."""
    found: Any = module
    for name in qualified_name.split("."):
        found = getattr(found, name, None)
    return found


def _unimportable(what: str, error: Exception) -> OptionError:
    return OptionError(f"{what} cannot be imported: {first_line(error)}; run it alone to see where")


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Let a file import its neighbours."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
