"""Every error that attngraft raises on purpose.

    AttngraftError
    ├── OptionError        (ValueError)   an option that cannot work, known when a module is built
    ├── ShapeError         (ValueError)   a tensor of the wrong rank, size or channel count
    ├── DtypeError         (TypeError)    a tensor of the wrong type
    ├── DerivativeError    (RuntimeError) a derivative that a kernel cannot give
    ├── RegistrationError  (ValueError)   a mechanism's name or record that cannot be taken
    ├── UnknownNameError   (LookupError)  a mechanism that does not exist
    ├── RecipeError        (ValueError)   a recipe that cannot be read; points at the character
    ├── PlaceError         (LookupError)  a place that the model does not have
    ├── PlanError          (ValueError)   a plan of a study that cannot be carried out, or is not the one begun
    ├── FitError           (ValueError)   options of ``fit`` that cannot work, or a run that cannot be continued
    ├── ModelYamlError     (ValueError)   a model YAML that cannot be built
    ├── CheckpointError    (ValueError)   a file that is not a checkpoint we can use
    ├── MapError           (ValueError)   a map of attention or relevance that there is no way to give
    ├── DataError          (ValueError)   a data set that cannot be used
    ├── OutputError        (OSError)      a file or folder that cannot be written
    ├── ExportParityError  (RuntimeError) an exported file that does not give the module's numbers
    ├── HostError          (RuntimeError) an Ultralytics release outside the supported range
    ├── MissingPackageError (ImportError) a package of others' that Ultralytics needs and is not installed
    └── MissingExtraError  (ImportError)  an optional dependency that is not installed

Each also derives from the built-in that a caller would expect, so ``except ValueError`` keeps its meaning.
A message has four parts in one or two sentences: who, what was expected, what came, what to do.
"""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class AttngraftError(Exception):
    """Base of every error raised on purpose; its text alone is enough for a user."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the finished message, whatever the arguments it was made of: workers send errors home."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class OptionError(AttngraftError, ValueError):
    """An option that cannot work with the others, known when a module is built."""


class ShapeError(AttngraftError, ValueError):
    """A tensor of the wrong rank, size or channel count.

    Args:
        who: The module that was called.
        expected: The shape it takes, in words or letters.
        actual: The shape that came.
        hint: What to do about it.
    """

    def __init__(self, who: str, expected: str, actual: Iterable[int], hint: str = "") -> None:
        self.expected = expected
        self.actual = tuple(int(size) for size in actual)
        super().__init__(f"{who} expects {expected}, got shape {self.actual}" + (f"; {hint}" if hint else ""))


class DtypeError(AttngraftError, TypeError):
    """A tensor of the wrong type."""


class DerivativeError(AttngraftError, RuntimeError):
    """A derivative that a kernel cannot give."""


class RegistrationError(AttngraftError, ValueError):
    """A mechanism's name or record that cannot be taken."""


class UnknownNameError(AttngraftError, LookupError):
    """A mechanism that does not exist.

    Args:
        kind: What was looked up, such as "mechanism".
        name: The name that was asked for.
        known: The names there are.
        why: Why there is none of that name, instead of names that are close.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], why: str = "") -> None:
        self.name = name
        super().__init__(f"no {kind} is called {name!r}; {why or suggest(name, sorted(known))}")


class RecipeError(AttngraftError, ValueError):
    """A recipe that cannot be read.

    Args:
        message: What is wrong, in one sentence.
        text: The whole recipe.
        position: Index of the character in ``text`` where reading stopped.
    """

    def __init__(self, message: str, text: str, position: int) -> None:
        self.text = text
        self.position = position
        super().__init__(f"{message}\n  {text}\n  {' ' * position}^")


class PlaceError(AttngraftError, LookupError):
    """A place that the model does not have."""


class PlanError(AttngraftError, ValueError):
    """A plan of a study that cannot be carried out, or is not the one begun."""


class FitError(AttngraftError, ValueError):
    """Options of ``attngraft fit`` that cannot work, or a training run that cannot be continued."""


class ModelYamlError(AttngraftError, ValueError):
    """A model YAML that cannot be built."""


class CheckpointError(AttngraftError, ValueError):
    """A file that is not a checkpoint we can use."""


class MapError(AttngraftError, ValueError):
    """A map of attention or relevance that there is no way to give."""


class DataError(AttngraftError, ValueError):
    """A data set that cannot be used."""


class OutputError(AttngraftError, OSError):
    """A file or folder that cannot be written."""


class ExportParityError(AttngraftError, RuntimeError):
    """An exported file that does not give the module's numbers.

    Args:
        message: What differs, by how much, and where.
        kept: Where the file was put aside.
    """

    def __init__(self, message: str, kept: Path) -> None:
        self.kept = kept
        super().__init__(f"{message}; the file is kept as {kept}")


class HostError(AttngraftError, RuntimeError):
    """An Ultralytics release outside the supported range."""


class MissingPackageError(AttngraftError, ImportError):
    """A package of others' that Ultralytics needs and is not installed; none of our extras brings it."""


class MissingExtraError(AttngraftError, ImportError):
    """An optional dependency that is not installed.

    Args:
        package: The package that is missing.
        extra: The extra of attngraft that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs {package}, which is not installed; run: pip install 'attngraft[{extra}]'")


def first_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its text, if it has any."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def suggest(name: str, known: Iterable[str], key: Callable[[str], str] = str.lower) -> str:
    """Say which of the ``known`` names are close to ``name``, or list them all.

    Args:
        name: What was asked for.
        known: What there is; of those with one ``key`` the first is named.
        key: What is compared of a name.

    Example:
        >>> suggest("msha", ["ema", "mhsa", "mlca"])
        'did you mean mhsa?'
        >>> suggest("msha", ["mha", "shsa", "msla", "mhsa"])
        'did you mean mhsa or mha or shsa?'
        >>> suggest("mien", ["Mine"])
        'did you mean Mine?'
        >>> suggest("xyz", ["ema", "mhsa"])
        'there are: ema, mhsa'
        >>> suggest("xyz", [])
        'there is none'
    """
    names = list(known)
    spelled = {key(known_name): known_name for known_name in reversed(names)}
    close = difflib.get_close_matches(key(name), spelled, n=9, cutoff=0.6)
    close.sort(key=lambda match: sorted(match) != sorted(key(name)))  # letters swapped: the likeliest slip
    if close:
        return f"did you mean {' or '.join(spelled[match] for match in close[:3])}?"
    return f"there are: {', '.join(names)}" if names else "there is none"
