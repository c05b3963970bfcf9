"""Mechanisms as users name them: of the registry, with options, or a class in a file or an installed package."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from attngraft._core.errors import AttngraftError, OptionError, first_line
from attngraft._core.registry import mechanism, mechanisms, register, snake_case
from attngraft._core.signs import half_width
from attngraft.doctor.mechanism.subject import names_class, subject
from attngraft.probe.instrument import NONE, Instrument
from attngraft.yolo.array_training import ArrayDetector, one_graft
from attngraft.yolo.recipe import GraftSpec

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
    if not target:
        raise OptionError(f"probe needs the name of a mechanism, such as mhsa, got {given!r}")
    source = ""
    if names_class(target):
        home, _, name = target.rpartition(":")
        source = f"{Path(home).resolve()}:{name}" if home.endswith(".py") else target
        target = enter(source if home else target)
    elif set("@+") & set(half_width(target)):
        raise OptionError(
            f"probe takes mechanisms without a place, one a word, as in: probe mhsa ema; got {given!r}, and all stand "
            "at the same place"
        )
    return _written(one_graft("detector", f"{target}{options}", "P3")), source


def checksum(name: str) -> str:
    """Return a checksum of the file that defines a mechanism's class, as it is now; empty for attngraft's own.

    A name is no more than what the class is called: that of another file, or of the same after a change, has it too.

    Args:
        name: As in records.

    Raises:
        OptionError: If the file cannot be read.
    """
    if name == NONE:
        return ""
    cls = mechanism(name.partition("(")[0]).cls
    if cls.__module__.partition(".")[0] == "attngraft":
        return ""
    home = getattr(sys.modules.get(cls.__module__), "__file__", None)
    try:
        return hashlib.sha256(Path(home or "").read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise OptionError(
            f"the source of {name} cannot be read ({error.strerror or error}), and records keep a checksum of it; "
            "define its class in a file"
        ) from error


def checksums() -> dict[str, str]:
    """Return the checksums of all mechanisms that are not attngraft's own, plugins' too, of which one can be had."""
    found = {}
    for name in mechanisms():
        with suppress(OptionError):  # whoever asks for it is told by `checksum`
            found[name] = checksum(name)
    return {name: one for name, one in found.items() if one}


def require_buildable(given: Iterable[str], instrument: Instrument) -> None:
    """Require that mechanisms can be joined to the detector, before hours of runs that would end at once.

    Args:
        given: Names as in records.
        instrument: What the detector is.

    Raises:
        OptionError: If one cannot be built at that width.
        PlaceError: If it cannot stand there.
    """
    for name in given:
        if name == NONE:
            continue
        graft = one_graft(instrument.base, name, instrument.place)
        try:
            with torch.random.fork_rng(devices=()):
                ArrayDetector(instrument.base, [graft], classes=2, seed=0, gains=instrument.gains)
        except AttngraftError:
            raise
        except Exception as error:
            raise OptionError(
                f"{name} cannot be built for the detector of the probes: {first_line(error)}; its class is called with "
                "the number of channels first, and options that are given after it"
            ) from error


def _written(spec: GraftSpec) -> str:
    """Write a mechanism as `one_graft` reads it back: there the paper's form is what need not be said."""
    if spec.init == "paper" or spec.mode != "after":
        return str(replace(spec, init="identity")).rpartition("@")[0]
    return str(replace(spec, init="paper")).rpartition("@")[0].replace("init=paper", f"init={spec.init}")


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
