"""Files of mechanisms that are a user's own: imported by path, handed on to other processes, remembered by pickles.

A class in a file that is no part of an installed package can be unpickled only where that file is imported first. So
what is pickled of it carries the file's path, and whoever unpickles it, such as the stock ``yolo`` command or a worker
of multi-GPU training, imports the file from there.
"""

from __future__ import annotations

import copyreg
import importlib
import importlib.util
import os
import pickletools
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from attngraft._core.errors import CheckpointError, OptionError, RegistrationError, first_line

VARIABLE = "ATTNGRAFT_PLUGINS"
"""Environment variable that names files, separated as in ``PATH``; every process imports them."""

MARK = "attngraft plugin: "
"""How a path begins inside a pickle, so that it can be found without unpickling."""

_registered: list[type] = []
_without: set[Path] = set()
"""Files that were imported and brought no mechanism."""


def load_plugin(path: str | Path) -> ModuleType:
    """Import a file of mechanisms, here and in every process that is started from here.

    Args:
        path: A Python file whose classes carry `register`; it may import its neighbours.

    Returns:
        The module, named as the file without its ending.

    Raises:
        OptionError: If the file is not there, cannot be imported, or has the name of a module that is loaded.
        RegistrationError: If a mechanism's name in it is taken, or there is no mechanism in it.
    """
    module = _import_plugin(Path(path))
    announce(path)
    return module


def announce(path: str | Path) -> None:
    """Name a file in the environment, so that it is imported when mechanisms are first looked up.

    Raises:
        OptionError: If it is not there.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise OptionError(f"a plugin is a Python file with mechanisms of your own, and {path} is no file")
    named = _named()
    if str(file) not in named:
        os.environ[VARIABLE] = os.pathsep.join([*named, str(file)])


def load_announced() -> None:
    """Import the files that the environment names, each once.

    Raises:
        OptionError: If one cannot be imported.
        RegistrationError: If a mechanism's name in one is taken, or there is no mechanism in it.
    """
    for path in _named():
        _import_plugin(Path(path))


def import_file(path: Path) -> ModuleType:
    """Import a file under the name that another process would import it by, as pickles need.

    Raises:
        OptionError: If it is not there, cannot be imported, or its name is taken.
    """
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path:
        return known
    if known is not None or not path.stem.isidentifier():
        raise OptionError(f"{path} cannot be imported as {path.stem!r}, which is taken or not a name; rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise OptionError(f"expected a Python file, got {path}, which is no Python file; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    before = len(_registered)
    try:
        with _on_path(path.parent):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        if type(error).__module__.startswith("attngraft"):
            raise
        raise OptionError(f"{path} cannot be imported: {first_line(error)}; run it alone to see where") from error
    imported = (value for value in vars(module).values() if isinstance(value, type))
    if len(_registered) == before and not any(map(is_remembered, imported)):
        _without.add(path)
    return module


def remember(cls: type) -> None:
    """Note a class that is registered, and let its pickles carry its file; a package's is found by its import name."""
    _registered.append(cls)
    if _file(cls) is not None:
        copyreg.pickle(cls, _reduce)


def is_remembered(cls: type) -> bool:
    """Tell whether pickles of a class carry its file."""
    return copyreg.dispatch_table.get(cls) is _reduce


def in_checkpoint(file: Path) -> list[str]:
    """List the files of mechanisms that a checkpoint remembers, without unpickling it.

    Args:
        file: A file of ``torch.save``.
    """
    with zipfile.ZipFile(file) as archive:
        pickles = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
    strings = (argument for content in pickles for _, argument, _ in pickletools.genops(content))
    marked = (text.removeprefix(MARK) for text in strings if isinstance(text, str) and text.startswith(MARK))
    return list(dict.fromkeys(marked))


def find(path: str) -> ModuleType:
    """Return the module of a remembered file: already loaded, given by the user under the same name, or its own.

    Raises:
        CheckpointError: If it is neither; says how to give it.
    """
    load_announced()
    file = Path(path)
    if file.stem in sys.modules:
        return sys.modules[file.stem]
    if not file.is_file():
        raise CheckpointError(
            f"this model has a mechanism of the plugin {file.name}, which is no longer at {file}; give the file "
            f"with: attngraft --plugin {file.name} ..., or {VARIABLE}={file.name} in the environment"
        )
    return import_file(file)


def rebuild(marked: str, qualified_name: str, *arguments: Any) -> Any:
    """Make an instance as unpickling does, of a class in a remembered file.

    Raises:
        CheckpointError: If there is no such file or no such class in it.
    """
    module = find(marked.removeprefix(MARK))
    cls = _resolve(module, qualified_name)
    if cls is None:
        raise CheckpointError(
            f"this model has a {qualified_name}, and {module.__file__} has no class of that name; give the file that "
            "it was trained with"
        )
    return cls.__new__(cls, *arguments)


def _import_plugin(path: Path) -> ModuleType:
    """Import a file from which its user expects a mechanism."""
    module, file = import_file(path), path.resolve()
    if file in _without:
        _without.remove(file)
        del sys.modules[file.stem]  # it is imported anew when it is mended
        raise RegistrationError(
            f"the plugin {path} has no mechanism in it; put @attngraft.register above the class that is one"
        )
    return module


def _reduce(instance: Any) -> Any:
    function, arguments, *state = instance.__reduce_ex__(2)
    cls = type(instance)
    if function is not copyreg.__newobj__ or _resolve(sys.modules[cls.__module__], cls.__qualname__) is not cls:  # type: ignore[attr-defined]
        return function, arguments, *state
    return rebuild, (f"{MARK}{_file(cls)}", cls.__qualname__, *arguments[1:]), *state


def _file(cls: type) -> Path | None:
    """Return the file of a class, where only its path can find it again."""
    home = getattr(sys.modules.get(cls.__module__), "__file__", None)
    own = "." not in cls.__module__ and cls.__module__ != "__main__"
    return Path(home).resolve() if own and home and home.endswith(".py") else None


def _resolve(module: ModuleType, qualified_name: str) -> Any:
    found: Any = module
    for name in qualified_name.split("."):
        found = getattr(found, name, None)
    return found


def _named() -> list[str]:
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Let a file import its neighbours."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
