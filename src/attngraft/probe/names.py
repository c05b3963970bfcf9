"""Mechanisms as users name them: of the registry, with options, or a class in a file or an installed package."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from attngraft._core.errors import OptionError
from attngraft._core.registry import mechanism, mechanisms, register, snake_case
from attngraft.doctor.mechanism.subject import names_class, subject
from attngraft.probe.instrument import NONE
from attngraft.yolo.array_training import one_graft

_PARTS = re.compile(r"(?P<target>.*?)(?P<options>\(.*\))?\Z", re.DOTALL)


def canonical(given: str) -> tuple[str, str]:
    """Return what a mechanism is called in records, and what a process needs to find its class.

    Args:
        given: ``mhsa``, ``mhsa(heads=8)``, ``mine.py:Mine``, ``package.module:Mine(groups=2)`` or `NONE`.

    Returns:
        The name with its options, and a file or module with a class, whole, or an empty text.

    Raises:
        RecipeError: If it cannot be read, or the registry has no such name.
        OptionError: If a file or a package is not there or names no class.
        UnknownNameError: If it has no such class.

    Example:
        >>> canonical("MHSA(heads=2)")
        ('mhsa(heads=2)', '')
    """
    match = _PARTS.match(given.strip())
    target, options = (match["target"], match["options"] or "") if match else (given, "")
    if target.lower() == NONE:
        if options:
            raise OptionError(f"{NONE} is the detector without a mechanism and has no options, got {given!r}")
        return NONE, ""
    source = ""
    if names_class(target):
        home, _, name = target.rpartition(":")
        source = f"{Path(home).resolve()}:{name}" if home.endswith(".py") else target
        target = enter(source if home else target)
    spec = one_graft("detector", f"{target}{options}", "P3")
    return str(replace(spec, init="identity")).rpartition("@")[0], source


def enter(source: str) -> str:
    """Import a class and give it a place in the registry, unless it has one; return its name there.

    A class without ``@attngraft.register`` is taken for a mixer: it is added to its input.

    Args:
        source: A file or an installed module with a class, such as ``mine.py:Mine``.
    """
    cls = subject(source).cls
    known = next((record.name for record in mechanisms().values() if record.cls is cls), None)
    if known is None:
        register(cls)
        known = mechanism(snake_case(cls.__name__)).name
    return known
