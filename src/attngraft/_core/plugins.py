"""Mechanisms that are a user's own: in a file or an installed package, known to every process, remembered by pickles.

A class in a file that is no part of an installed package can be unpickled only where that file is imported first. So
what is pickled of it carries the file's path, and whoever unpickles it, such as the stock ``yolo`` command or a worker
of multi-GPU training, imports the file from there. A class of an installed package is found by its import name alone.

A path inside a pickle is somebody's word: under safe loading (`safe_loading`) no file is imported because of it.
"""

from __future__ import annotations

import copyreg
import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from attngraft._core.archive import strings
from attngraft._core.errors import CheckpointError, OptionError, RegistrationError
from attngraft._core.imports import (
    brings,
    file_of,
    import_file,
    import_named,
    is_installed,
    module_name,
    registered,
    resolve,
)

VARIABLE = "ATTNGRAFT_PLUGINS"
"""Environment variable that names files and installed modules, separated as in ``PATH``, for every process."""

GROUP = "attngraft.mechanisms"
"""Entry-point group under which an installed package names the modules that register its mechanisms."""

MARK = "attngraft plugin: "
"""How a path begins inside a pickle, so that it can be found without unpickling."""

SAFE = "ULTRALYTICS_SAFE_LOAD"
"""Ultralytics' variable for loading checkpoints as data; we keep to it too."""

log = logging.getLogger("attngraft")


_AS_DATA: ContextVar[bool] = ContextVar("_AS_DATA", default=False)


def safe_loading() -> bool:
    """Tell whether checkpoints are read as data: ``ULTRALYTICS_SAFE_LOAD=1`` asks for it, or `as_data` is open."""
    return _AS_DATA.get() or os.environ.get(SAFE, "").strip().lower() in {"1", "true", "yes", "on", "y", "t"}


@contextmanager
def as_data() -> Iterator[None]:
    """Read checkpoints as data while this is open, for one that a file names and nobody gave."""
    before = _AS_DATA.set(True)
    try:
        yield
    finally:
        _AS_DATA.reset(before)


def load_plugin(source: str | Path) -> ModuleType:
    """Import a file or an installed module of mechanisms, here and in every process that is started from here.

    Args:
        source: A Python file, which may import its neighbours, or the name of an installed module, such as
            ``my_package.attention``; its classes carry `register`.

    Returns:
        The module.

    Raises:
        OptionError: If it is not there, cannot be imported, or has the name of a module that is loaded.
        RegistrationError: If a mechanism's name in it is taken, or there is no mechanism in it.
    """
    module = _import_plugin(str(source))
    announce(source)
    return module


def announce(source: str | Path) -> None:
    """Name a file or an installed module in the environment, so that it is imported when mechanisms are looked up.

    Raises:
        OptionError: If it is neither.
    """
    named = _named()
    if (name := _source(str(source))) not in named:
        os.environ[VARIABLE] = os.pathsep.join([*named, name])


def load_announced() -> None:
    """Import what the environment and installed packages name, each once.

    A package whose entry point cannot be loaded is named in one line and left out: whoever lists mechanisms may not
    even know that it is installed.

    Raises:
        OptionError: If a file or module of the environment cannot be imported.
        RegistrationError: If a mechanism's name in one is taken, or there is no mechanism in it.
    """
    for source in _named():
        _import_plugin(source)
    for entry in _entry_points():
        _enter(entry)


def remember(cls: type) -> None:
    """Make pickles of instances carry the class's file, where only its path can find it."""
    registered.append(cls)
    if file_of(cls) is not None:
        copyreg.pickle(cls, _reduce)


def is_remembered(cls: type) -> bool:
    """Tell whether pickles of a class carry its file."""
    return copyreg.dispatch_table.get(cls) is _reduce


def in_checkpoint(file: Path) -> list[str]:
    """List the files of mechanisms that a checkpoint remembers, without unpickling it.

    Args:
        file: A file of ``torch.save``.
    """
    return list(dict.fromkeys(text.removeprefix(MARK) for text in strings(file, MARK)))


def find(path: str, *, run: bool = True) -> ModuleType:
    """Return the module of a remembered file: already loaded, given by the user under the same name, or its own.

    Args:
        path: Where the pickle says that the file is.
        run: Whether the file may be imported; never under safe loading.

    Raises:
        CheckpointError: If it is none of these, or may not be imported; says how to give it.
    """
    load_announced()
    file = Path(path)
    known = sys.modules.get(module_name(file))
    if known is not None and (_is_at(known, file) or brings(known)):
        return known
    give = f"attngraft --plugin {file.name} ..., or {VARIABLE}={file.name} in the environment"
    if safe_loading() or not run:
        raise CheckpointError(
            f"this model has a mechanism of the plugin {file}, and safe loading runs no file that a checkpoint names; "
            f"read that file, and if you trust it, give it yourself with: {give}"
        )
    if not file.is_file():
        raise CheckpointError(
            f"this model has a mechanism of the plugin {file.name}, which is no longer at {file}; give the file "
            f"with: {give}"
        )
    log.warning("attngraft: running %s, which this checkpoint names; %s=1 keeps checkpoints from that", file, SAFE)
    return import_file(file)


def rebuild(marked: str, qualified_name: str, *arguments: Any) -> Any:
    """Make an instance as unpickling does, of a class in a remembered file.

    Raises:
        CheckpointError: If there is no such file or no such class in it.
    """
    return _rebuild(marked, qualified_name, arguments, run=True)


def rebuild_known(marked: str, qualified_name: str, *arguments: Any) -> Any:
    """Do as `rebuild` where PyTorch's restricted unpickler asks for it: of files that the user gave, and no other.

    Raises:
        CheckpointError: If the file was not given, or has no such class.
    """
    return _rebuild(marked, qualified_name, arguments, run=False)


def _rebuild(marked: str, qualified_name: str, arguments: tuple[Any, ...], *, run: bool) -> Any:
    from torch import nn  # slow to import, and whoever unpickles a module has it

    module = find(marked.removeprefix(MARK), run=run)
    cls = resolve(module, qualified_name)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module) and cls.__module__ == module.__name__):
        raise CheckpointError(
            f"this model has a {qualified_name}, and {module.__file__} has no class of that name; give the file that "
            "it was trained with"
        )
    return cls.__new__(cls, *arguments)


def _import_plugin(source: str) -> ModuleType:
    """Import a file or an installed module from which its user expects a mechanism."""
    is_file = _is_path(source)
    module = import_file(Path(source)) if is_file else import_named(_source(source))
    if not brings(module):
        if is_file:
            del sys.modules[module.__name__]  # it is imported again when it is fixed
        raise RegistrationError(
            f"the plugin {source} has no mechanism in it; put @attngraft.register above the class that is one"
        )
    return module


def _source(given: str) -> str:
    """Return a file's whole path or a module's name, as every process can find it.

    Raises:
        OptionError: If it is neither.
    """
    if _is_path(given):
        file = str(Path(given).resolve())
        if os.pathsep in file:
            raise OptionError(f"the plugin {file} has a {os.pathsep!r} in its path, which parts paths; move the file")
        if not Path(file).is_file():
            raise OptionError(f"a plugin is a Python file with mechanisms of your own, and {given} is no file")
        return file
    if not is_installed(given):
        raise OptionError(
            f"a plugin is a Python file or an installed module with mechanisms of your own, and {given} is neither; "
            "check the name, or install the package"
        )
    return given


def _is_path(given: str) -> bool:
    return given.endswith(".py") or Path(given).exists() or not all(part.isidentifier() for part in given.split("."))


def _is_at(module: ModuleType, file: Path) -> bool:
    return Path(getattr(module, "__file__", None) or "").resolve() == file.resolve()


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    """Return the entry points that were not loaded yet; installed packages are looked through once."""
    global _looked
    if _looked:
        return []
    _looked = True
    return list(importlib.metadata.entry_points(group=GROUP))


_looked = False


def _enter(entry: importlib.metadata.EntryPoint) -> None:
    try:
        import_named(entry.module)
    except (OptionError, RegistrationError) as error:
        package = entry.dist.name if entry.dist else entry.value
        log.warning("attngraft: the mechanisms of the package %s are left out: %s", package, error)


def _reduce(instance: Any) -> Any:
    function, arguments, *state = instance.__reduce_ex__(2)
    cls = type(instance)
    if function is not copyreg.__newobj__ or resolve(sys.modules[cls.__module__], cls.__qualname__) is not cls:  # type: ignore[attr-defined]
        return function, arguments, *state
    return rebuild, (f"{MARK}{file_of(cls)}", cls.__qualname__, *arguments[1:]), *state


def _named() -> list[str]:
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
