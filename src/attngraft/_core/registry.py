"""The one table of mechanisms: a frozen record each, written beside the class it describes.

`register` stands above the class. What a reader or another part of the program wants to know of a mechanism is read
from its file and nowhere else: the provenance from the module's docstring, the options from the signature and the
``Args:`` section, the cost from the formula given to the decorator.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar, overload

from torch import nn

from attngraft._core.docstrings import entries
from attngraft._core.errors import RegistrationError, UnknownNameError
from attngraft._core.plugins import load_announced, remember

Role = Literal["mixer", "gate"]
"""How a graft starts as the identity: a mixer is added, ``x + gamma * f(x)``; a gate rescales its input and is
blended, ``x + gamma * (f(x) - x)``."""

Family = Literal[
    "channel and spatial gate",
    "channel gate",
    "channel self-attention",
    "control",
    "convolution with channel gate",
    "coordinate gate",
    "deformable self-attention",
    "global context",
    "global self-attention",
    "large-kernel gate",
    "linear self-attention",
    "local self-attention",
    "multi-scale convolution",
    "parameter-free gate",
    "receptive-field convolution",
    "routed self-attention",
    "spatial gate",
    "user",
    "window self-attention",
]
"""What a mechanism attends over. "user" is everybody's own; of "global self-attention" the doctor counts the N x N
matrix that an exported graph holds."""

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*\Z")
PROVENANCE_KEYS = ("Paper", "Code", "Differs")

_Module = TypeVar("_Module", bound=type[nn.Module])


@dataclass(frozen=True)
class Option:
    """One keyword of a mechanism.

    Attributes:
        name: The keyword.
        default: Its value when it is not given.
        about: What it means and what it must satisfy, from the class's ``Args:`` section.
    """

    name: str
    default: Any
    about: str


@dataclass(frozen=True)
class Disputed:
    """Values that copies of one class take for an option that a row leaves out; ours is taken, with a warning.

    Attributes:
        values: The values, as a row gives them.
        note: What else sets copies apart that is not built here.
    """

    values: tuple[Any, ...]
    note: str = ""


@dataclass(frozen=True)
class Mechanism:
    """What is known of one mechanism without building it.

    Attributes:
        name: Registry name, snake case, unique.
        cls: The module class; its first argument is ``channels``.
        role: Whether a graft adds it or blends it (see `Role`).
        family: What it attends over (see `Family`).
        starts_as_identity: Whether the mechanism, as it is built, gives its input (a gate) or nothing (a mixer). A
            graft then adds no gamma: a factor of zero on a change of zero would never get a gradient.
        year: Year of the paper; 0 when unknown.
        formula: The operator in one line.
        cost: Multiply-adds of one image, as an expression over C, H, W, N = H*W and the instance's attributes.
        row: Names of the positional arguments that a YAML row without a width gives, in order.
        aliases: Other class names under which the mechanism circulates, as YAML rows write them.
        signatures: Positional arguments after the width in the widely copied classes, one tuple a class; an option's
            name, ``_`` for an argument that ours does not have, or ``channels`` for an inner width.
        alias_signatures: The same for aliases whose class takes other arguments, by alias, instead of ``signatures``.
        alias_defaults: What a widely copied class takes for an option that its row leaves out, by the class's name,
            where that is another value than the default here: the value, a function that gives it for a width, or
            `Disputed`. ``C2X`` and ``Bottleneck_X`` stand for what blocks with a mechanism inside give it.
        growth: Order in which the training memory grows with the number of cells N.
        summary: The first line of the module's docstring, or of the class's where the module has none.
        paper: Title, authors, venue, arXiv number.
        code: Reference repository, file, licence, and how it was used.
        differs: Each deviation from the paper or the reference, or "Nothing."
        options: Every keyword with default and meaning.
    """

    name: str
    cls: type[nn.Module]
    role: Role = "mixer"
    family: Family = "user"
    starts_as_identity: bool = False
    year: int = 0
    formula: str = ""
    cost: str = ""
    row: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    signatures: tuple[tuple[str, ...], ...] = ()
    alias_signatures: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    alias_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    growth: str = ""
    summary: str = ""
    paper: str = ""
    code: str = ""
    differs: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)


REFUSED = {
    "fsa": "FSA (of SF-UNet) is left out on purpose: its filter has one parameter for each frequency of a map of one "
    "fixed size, and a detector's maps change with the image; mhsa, mlca and ema take any size",
    "sequentialpolarizedselfattention": "it is PolarizedSelfAttention with the option order=sequential",
    "psa_p": "it is PolarizedSelfAttention with the option form=official",
    "psa_s": "it is PolarizedSelfAttention with the options order=sequential and form=official",
}
"""Names, in small letters, that people ask for and that no mechanism has, with the reason or with what is meant."""

_TABLE: dict[str, Mechanism] = {}


@overload
def register(cls: _Module, /) -> _Module: ...
@overload
def register(
    *,
    name: str | None = None,
    role: Role = "mixer",
    family: Family = "user",
    starts_as_identity: bool = False,
    year: int = 0,
    formula: str = "",
    cost: str = "",
    row: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    signatures: tuple[tuple[str, ...], ...] = (),
    alias_signatures: Mapping[str, tuple[tuple[str, ...], ...]] = ...,
    alias_defaults: Mapping[str, Mapping[str, Any]] = ...,
    growth: str = "",
) -> Callable[[_Module], _Module]: ...
def register(cls: _Module | None = None, /, **fields: Any) -> _Module | Callable[[_Module], _Module]:
    """Enter a module class in the table of mechanisms.

    Use it bare or with fields. The class must take ``channels`` as its first argument and map ``(B, C, H, W)`` to the
    same shape. What is pickled of a class in a file of its own remembers the file (`attngraft._core.plugins`).

    Args:
        cls: The class, when used bare.
        **fields: Fields of `Mechanism`; the name defaults to the class name in snake case.

    Returns:
        The class itself, unchanged.

    Raises:
        RegistrationError: If the name or the class's own, by which YAML rows find it, is taken by another class, if the
            name is not snake case, or if the first argument of the class is not ``channels``.

    Example:
        >>> from torch import nn
        >>> @register
        ... class DoctestNoop(nn.Identity):
        ...     def __init__(self, channels: int) -> None:
        ...         super().__init__()
        >>> mechanism("doctest_noop").role
        'mixer'
        >>> unregister("doctest_noop")
    """

    def enter(cls: _Module) -> _Module:
        record = _describe(cls, **fields)
        _require_free(record)
        _TABLE[record.name] = record
        remember(cls)
        return cls

    return enter if cls is None else enter(cls)


def unregister(name: str) -> None:
    """Take a mechanism out of the table.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    del _TABLE[mechanism(name).name]


def mechanism(name: str) -> Mechanism:
    """Look up a record by registry name or class name.

    Args:
        name: ``"mhsa"``, ``"MHSA"`` as YAML rows write it, or a name under which it circulates, such as ``"CoordAtt"``.

    Raises:
        UnknownNameError: If there is none; names the nearest.
    """
    table = mechanisms()
    record = table.get(name) or next((m for m in table.values() if m.cls.__name__ == name), None)
    lower = name.lower()
    record = record or table.get(lower)
    record = record or next((m for m in table.values() if lower in map(str.lower, m.aliases)), None)
    if record is None:
        raise UnknownNameError("mechanism", name, table, REFUSED.get(name.lower(), ""))
    return record


info = mechanism
"""`mechanism` under the name that the package shows: ``attngraft.info("mhsa")``."""


def mechanism_of(cls: type[nn.Module]) -> Mechanism:
    """Look up the record of a class, or of the nearest that it derives from: `parametrize` makes a class of its own.

    It goes by the name of the class, which the table holds once: what a checkpoint reads from the file of a mechanism
    may be another class of that name.

    Args:
        cls: The class of a module.

    Raises:
        UnknownNameError: If there is none; names the nearest.
    """
    known = {record.cls.__name__: record for record in mechanisms().values()}
    for base in cls.__mro__:
        if base.__name__ in known:
            return known[base.__name__]
    raise UnknownNameError("mechanism", cls.__name__, known)


def fitted(cls: type[nn.Module], channels: int) -> dict[str, Any]:
    """Return the options to change from a class's defaults so that it works at a width: none without a ``fit``.

    Args:
        cls: A module class whose first argument is ``channels``, of the zoo or a user's own.
        channels: The width.
    """
    fit = getattr(cls, "fit", None)
    return dict(fit(channels)) if callable(fit) else {}


def names() -> list[str]:
    """List the registry names in alphabetical order."""
    return sorted(mechanisms())


def mechanisms() -> Mapping[str, Mechanism]:
    """Return a read-only view of the table, with the mechanisms of the files that the environment names."""
    load_announced()
    return MappingProxyType(_TABLE)


def snake_case(class_name: str) -> str:
    """Turn a class name into a registry name.

    Example:
        >>> [snake_case(n) for n in ("MHSA", "CoordAttention", "SimAM", "C2PSAAttention", "iRMB")]
        ['mhsa', 'coord_attention', 'sim_am', 'c2psa_attention', 'i_rmb']
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", class_name)
    return spaced.lower()


def _describe(cls: type[nn.Module], *, name: str | None = None, **fields: Any) -> Mechanism:
    parameters = list(inspect.signature(cls).parameters.values())
    if not parameters or parameters[0].name != "channels":
        raise RegistrationError(f"{_path(cls)} must take `channels` as its first argument to be a mechanism")
    name = name or snake_case(cls.__name__)
    if not NAME_PATTERN.match(name):
        raise RegistrationError(f"a mechanism name is lower-case letters, digits and _, got {name!r} for {_path(cls)}")
    about = entries(cls.__doc__ or "", "Args")
    options = {
        p.name: Option(p.name, p.default, about.get(p.name, ""))
        for p in parameters[1:]
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    module_doc = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "") if cls.__module__ in sys.modules else ""
    described = provenance(module_doc)
    described["summary"] = described["summary"] or inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
    return Mechanism(name=name, cls=cls, options=MappingProxyType(options), **described, **fields)


def _require_free(record: Mechanism) -> None:
    """Raise a `RegistrationError` where another class can be found under one of a record's two names."""
    own = _path(record.cls)
    for other in _TABLE.values():
        if _path(other.cls) == own:
            continue
        taken = {other.name, other.cls.__name__}
        if record.name in taken:
            raise RegistrationError(
                f"the mechanism name {record.name!r} is taken by {_path(other.cls)}; give {own} another name"
            )
        if record.cls.__name__ in taken:
            raise RegistrationError(
                f"the class name {record.cls.__name__!r}, by which rows of a YAML find a mechanism, is taken by "
                f"{_path(other.cls)}; rename the class {own}"
            )


def provenance(module_doc: str) -> dict[str, Any]:
    """Read the summary line and the keyed paragraphs (`PROVENANCE_KEYS`) of a module docstring."""
    found = {"summary": module_doc.partition("\n")[0]}
    for key in PROVENANCE_KEYS:
        match = re.search(rf"^{key}: (.+?)(?=\n\n|\n[A-Z][a-z]+: |\Z)", module_doc, re.MULTILINE | re.DOTALL)
        found[key.lower()] = " ".join(match.group(1).split()) if match else ""
    return found


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
