"""Reads the ``key=value`` words of every command, in one way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import Any

import click

from attngraft._core.errors import suggest

PLAIN = {"true": True, "false": False, "none": None}
FILES = (".yaml", ".yml")
VERBATIM = frozenset(
    {"model", "base", "data", "name", "project", "output", "out", "folder", "where", "prompt", "document", "query"}
)
"""Keys whose value is a name, a path or a text, also where it looks like a number."""
WIDE = str.maketrans({"＝": "=", "，": ",", "．": ".", "＠": "@", "＋": "+", "（": "(", "）": ")"})
"""Signs of Chinese keyboards, as they are meant in a key."""


def split(word: str) -> tuple[str, str]:
    """Split ``key=value``, blanks around ``=`` allowed.

    Raises:
        UsageError: If it is not of that form.

    Example:
        >>> split("epochs = 50"), split("imgsz＝640")
        (('epochs', '50'), ('imgsz', '640'))
    """
    at = min((place for sign in "=＝" if (place := word.find(sign)) >= 0), default=len(word))
    key, value = word[:at].translate(WIDE).strip(), word[at + 1 :].strip()
    if not (key and value):
        raise click.UsageError(
            f"expected key=value, got {word!r}, as in: epochs=50; an argument with blanks, commas or parentheses needs "
            'quotes in some shells, as in: "model=yolo11n+ema@P3,P4"'
        )
    return key, value


def is_pair(word: str) -> bool:
    """Tell whether a word is meant as ``key=value``: it has ``=``, and no recipe's sign before it."""
    key = word.translate(WIDE).partition("=")[0]
    return key != word.translate(WIDE) and not set(key) & set("+@(/")


def split_list(words: Sequence[str]) -> str:
    """Find a list that was given with blanks, and join it by commas; empty where there is none.

    Args:
        words: A command's words, of which those that stand alone are YAML files.

    Example:
        >>> split_list(["data=fruit.yaml", "arms=mhsa@P5,", "ema@P4", "epochs=50"])
        'arms=mhsa@P5,ema@P4'
        >>> split_list(["parallel=2", "plan.yaml"])
        ''
    """
    found: list[str] = []
    for word in words:
        if is_pair(word):
            if len(found) > 1:
                break
            found = [word]
        elif found and not word.endswith(FILES):
            found.append(word)
    return ",".join(word.strip(",") for word in found if word != ",") if len(found) > 1 else ""


def value(text: str) -> Any:
    """Read a value: a number, a list, True, False, None, or a text.

    Example:
        >>> [value(text) for text in ("1e-3", "0.5,2", "[320, 640]", "False", "none", "mhsa@P5", "2024_01")]
        [0.001, (0.5, 2), [320, 640], False, None, 'mhsa@P5', '2024_01']
    """
    if text.lower() in PLAIN:
        return PLAIN[text.lower()]
    if re.fullmatch(r"\d+(_\d+)+", text):  # Python would read a folder called 2024_01 as the number 202401
        return text
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return text


def parse(words: Sequence[str], *, last_wins: bool = False) -> dict[str, Any]:
    """Read ``key=value`` words.

    Args:
        words: The words; ``key = value`` may also be three of them.
        last_wins: Whether a key that is given twice has its last value, as with the command ``yolo``.

    Raises:
        UsageError: If a word is not ``key=value``, or a key is given twice.

    Example:
        >>> parse(["epochs=50", "model=yolo11n+se@P5", "lr0", "=", "1e-3", "name=2024"])
        {'epochs': 50, 'model': 'yolo11n+se@P5', 'lr0': 0.001, 'name': '2024'}
    """
    options: dict[str, Any] = {}
    for word in _joined(words):
        key, text = split(word)
        if key in options and not last_wins:
            raise click.UsageError(f"{key} is given twice; leave one out")
        options[key] = text if key in VERBATIM and text.lower() != "none" else value(text)
    return options


def read(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Read words some of which stand alone.

    Args:
        words: The words, such as a file, a model, and ``key=value``.

    Returns:
        The words that stand alone, and the options.

    Raises:
        UsageError: If a key is given twice.

    Example:
        >>> read(["best.pt", "imgsz=640", "yolo11n+ema@P4(factor=8)"])
        (['best.pt', 'yolo11n+ema@P4(factor=8)'], {'imgsz': 640})
    """
    return [word for word in words if not is_pair(word)], parse([word for word in words if is_pair(word)])


def several(given: Any) -> list[str]:
    """Return the names of a key that takes several, between which commas stand.

    Example:
        >>> several("a, b"), several(("a", "b")), several("a")
        (['a', 'b'], ['a', 'b'], ['a'])
    """
    return [str(one).strip() for one in (given if isinstance(given, (list, tuple)) else str(given).split(","))]


def _joined(words: Sequence[str]) -> list[str]:
    """Put ``key = value`` together where the shell made three words of it."""
    found: list[str] = []
    for word in words:
        if found and (word.startswith("=") or found[-1].endswith("=")) and "=" not in word[1:]:
            found[-1] += word
        else:
            found.append(word)
    return found


def require_known(command: str, options: Iterable[str], known: Sequence[str]) -> None:
    """Require keys that a command knows.

    Raises:
        UsageError: If one is unknown; names the nearest.
    """
    for key in options:
        if key not in known:
            raise click.UsageError(f"{command} has no key {key!r}; {suggest(key, known)}")


def take(options: dict[str, Any], command: str, *names: str, given: Any = None) -> Any:
    """Take what is called by one of several names out of options; None where it is not given.

    Args:
        options: What was parsed; the names leave it.
        command: The command, for the error.
        names: The name of today, then older ones.
        given: What an option such as ``-o`` gave.

    Raises:
        UsageError: If two of them say different things.
    """
    found = {name: options.pop(name) for name in names if name in options}
    if given is not None:
        found["-o"] = given
    if len({str(one) for one in found.values()}) > 1:
        raise click.UsageError(f"{command} takes one of {' and '.join(found)}, got both; leave one out")
    return next(iter(found.values()), None)
