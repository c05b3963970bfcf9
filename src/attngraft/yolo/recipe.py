"""Recipes: ``BASE+MECHANISM(options)@PLACE[+...]`` as data that can be parsed, printed, compared and hashed.

    recipe  = base { "+" graft }
    graft   = name [ "(" option { "," option } ")" ] "@" place { "," place }
    option  = key "=" value            value: number, true, false, none, word, 'text', [list]; yes, no, on and off are
                                       true and false, except for an option that takes words
    place   = P2 P3 P4 ...  (backbone, by stride)  |  N2 N3 N4 ...  (what the head reads)
            | 10            (layer index)          |  8.m.0.m.0.cv2 (a module inside a layer)
            | C2PSA         (a class: the attention inside each such block, or the ends of its bottlenecks)
            | P4.bottlenecks, 10.attention         (the same inside one layer)

Full-width signs of Chinese keyboards are read as the plain ones. Two keys belong to the graft and not to the mechanism:
``mode=after|replace`` and ``init=identity|paper``. The name ``bot`` stands for BoTNet's own rule: MHSA in place of the
3x3 convolution of every bottleneck of that stage.
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from attngraft._core.errors import RecipeError, UnknownNameError, suggest
from attngraft._core.files import is_file
from attngraft._core.registry import REFUSED
from attngraft._core.signs import half_width
from attngraft.attention import Mechanism, mechanism, names

Mode = Literal["after", "replace", "bot"]
Init = Literal["identity", "paper"]

BOT = "bot"
TRUTH: dict[str, Any] = {"true": True, "false": False, "none": None}
SWITCH: dict[str, Any] = {"yes": True, "no": False, "on": True, "off": False}
"""As YAML 1.1 has them."""

GRAFT_START = re.compile(r"\+\s*(?=[A-Za-z_]\w*\s*(?:[@(+\[{]|\Z))")
PLACE = re.compile(r"(?:[PNpn]\d|\d+)(?:\.\w+)*\Z|[A-Za-z]\w*\Z", re.ASCII)
STRIDE_NAME = re.compile(r"[pn]\d(?:\.|\Z)")


@dataclass(frozen=True)
class GraftSpec:
    """One mechanism at one or more places.

    Attributes:
        name: Registry name of the mechanism, or ``bot``.
        places: Where it goes, in the order given.
        options: The mechanism's own options, sorted by name.
        mode: ``after`` the layer named, in its place (``replace``), or BoTNet's rule (``bot``).
        init: ``identity`` starts with the base model's numbers; ``paper`` with the paper's own form.
    """

    name: str
    places: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    mode: Mode = "after"
    init: Init = "identity"

    @property
    def record(self) -> Mechanism:
        """The mechanism's registry record."""
        return mechanism("mhsa" if self.name == BOT else self.name)

    def __str__(self) -> str:
        shown = [f"{key}={_show(value)}" for key, value in self.options]
        shown += [f"mode={self.mode}"] if self.mode == "replace" else []
        shown += [f"init={self.init}"] if self.init != "identity" else []
        return f"{self.name}{'(' + ','.join(shown) + ')' if shown else ''}@{','.join(self.places)}"


@dataclass(frozen=True)
class Recipe:
    """A base model and what is grafted into it.

    Attributes:
        base: Anything Ultralytics takes as a model: ``yolo11n``, ``yolov8s-seg.pt``, ``my.yaml``, ``runs/.../best.pt``.
        grafts: What is added, in order.

    Example:
        >>> recipe = Recipe.parse("yolo11n + MHSA(heads=8) @ P4,P5")
        >>> print(recipe)
        yolo11n+mhsa(heads=8)@P4,P5
        >>> recipe == Recipe.parse("yolo11n+mhsa(heads=8)@P4,P5"), recipe.hash
        (True, '...')
    """

    base: str
    grafts: tuple[GraftSpec, ...] = field(default=())

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe.

        Args:
            text: The recipe, as in the module's grammar.

        Raises:
            RecipeError: If it cannot be read; points at the character and names the nearest known word.
        """
        if is_file(text):
            return cls(text)  # whatever signs are in its name
        plain = half_width(text)
        starts = list(GRAFT_START.finditer(plain))
        files = (match for match in reversed(starts) if is_file(text[: match.start()].strip()))
        start = next(files, starts[0] if starts else None)
        end = start.start() if start else len(text)
        base = (text if is_file(text[:end].strip()) else plain)[:end].strip()
        if not base:
            raise RecipeError("a recipe starts with a base model, such as yolo11n", text, 0)
        return cls(base, _Reader(plain, start.end()).grafts() if start else ())

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that are equal exactly for equal recipes."""
        return hashlib.sha256(str(self).encode(errors="surrogatepass")).hexdigest()[:12]

    def __str__(self) -> str:
        return "+".join([self.base, *map(str, self.grafts)])


def parse_grafts(text: str) -> tuple[GraftSpec, ...]:
    """Read grafts without a base, such as ``"mhsa@P5+ema@P4"``.

    Raises:
        RecipeError: If they cannot be read.
    """
    return _Reader(half_width(text), 0).grafts()


def print_grafts(grafts: Iterable[GraftSpec]) -> str:
    """Write grafts so that `parse_grafts` reads them back."""
    return "+".join(map(str, grafts))


class _Reader:
    """Reads grafts from left to right, remembering where it stands for error messages."""

    def __init__(self, text: str, position: int) -> None:
        self.text = text
        self.position = position

    def grafts(self) -> tuple[GraftSpec, ...]:
        found = [self.graft()]
        while self.peek():
            self.expect("+", "the next graft starts with '+'")
            found.append(self.graft())
        return tuple(found)

    def graft(self) -> GraftSpec:
        start = self.skip()
        name = self.match(r"[A-Za-z_]\w*", "a mechanism's name")
        record = self.known(name, start)
        options = self.options(record) if self.peek() == "(" else {}
        self.expect("@", f"say where {name} goes, as in {name}@P5")
        places = [self.place()]
        while self.peek() == ",":
            self.position += 1
            places.append(self.place())
        is_bot = name.lower() == BOT
        mode: Mode = "bot" if is_bot else options.get("mode", "after")
        if is_bot and "mode" in options:
            self.fail("bot replaces the 3x3 convolutions of bottlenecks and takes no mode; leave it out", start)
        if mode != "after" and "init" in options:
            said = "bot" if is_bot else "mode=replace"
            self.fail(f"init is how what stands after a layer begins, and {said} takes its place; leave it out", start)
        init = options.pop("init", "identity")
        options.pop("mode", None)
        return GraftSpec(BOT if is_bot else record.name, tuple(places), tuple(sorted(options.items())), mode, init)

    def known(self, name: str, start: int) -> Mechanism:
        if name.lower() == BOT:
            return mechanism("mhsa")
        try:
            return mechanism(name)
        except UnknownNameError:
            near = f"{suggest(name, [*names(), BOT])}; one of your own is given with --plugin FILE.py"
            self.fail(f"no mechanism is called {name!r}; {REFUSED.get(name.lower(), near)}", start)

    def options(self, record: Mechanism) -> dict[str, Any]:
        self.position += 1
        found: dict[str, Any] = {}
        while self.peek() != ")":
            start = self.skip()
            key = self.match(r"[A-Za-z_]\w*", "an option such as heads=4")
            if key not in record.options and key not in ("mode", "init"):
                self.fail(
                    f"{record.name} has no option {key!r}; {suggest(key, [*record.options, 'mode', 'init'])}", start
                )
            if key in found:
                self.fail(f"option {key!r} is given twice", start)
            self.expect("=", f"give {key} a value, as in {key}=...")
            start = self.skip()
            takes_words = key not in record.options or isinstance(record.options[key].default, str)
            found[key] = self.value(TRUTH if takes_words else TRUTH | SWITCH)
            found[key] = _none_of(record, key, found[key])
            self.check_own(key, found[key], start)
            if self.peek() == ",":
                self.position += 1
            elif self.peek() != ")":
                self.fail("expected ',' or ')' after an option")
        self.position += 1
        return found

    def check_own(self, key: str, value: Any, start: int) -> None:
        allowed = {"mode": ("after", "replace"), "init": ("identity", "paper")}.get(key)
        if allowed and value not in allowed:
            self.fail(f"{key} is {' or '.join(allowed)}, not {value!r}", start)

    def value(self, words: Mapping[str, Any]) -> Any:
        start = self.position
        text = self.until_end_of_value().strip()
        if not text:
            self.fail("expected a value", start)
        if text.lower() in words:
            return words[text.lower()]
        try:
            value = _plain(ast.literal_eval(text))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            if re.fullmatch(r"[\w./-]+", text, re.ASCII):
                return text
            self.fail(f"cannot read the value {text!r}; write a number, a word, 'text' or [a, list]", start)
        return value

    def until_end_of_value(self) -> str:
        """Pass over a value: up to a comma or parenthesis outside brackets and quotes."""
        start, depth, quote = self.position, 0, ""
        while self.position < len(self.text):
            char = self.text[self.position]
            if quote:
                self.position += char == "\\"
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            elif depth == 0 and char in ",)":
                break
            else:
                depth += (char in "[(") - (char in "])")
            self.position += 1
        return self.text[start : self.position]

    def place(self) -> str:
        start = self.skip()
        place = self.match(r"[\w.]+", "a place such as P5, N4, 10 or 8.m.0.cv2")
        if not PLACE.match(place):
            self.fail(
                f"a place is P2-P6, N2-N6, a layer index, a path such as 8.m.0.cv2 or a class such as C2PSA, "
                f"not {place!r}",
                start,
            )
        return place[0].upper() + place[1:] if STRIDE_NAME.match(place) else place

    def peek(self) -> str:
        self.skip()
        return self.text[self.position : self.position + 1]

    def skip(self) -> int:
        """Pass over blanks and return where something starts."""
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        return self.position

    def match(self, pattern: str, expected: str) -> str:
        self.skip()
        found = re.compile(pattern).match(self.text, self.position)
        if found is None:
            self.fail(f"expected {expected}")
        self.position = found.end()
        return found.group()

    def expect(self, char: str, why: str) -> None:
        if self.peek() != char:
            self.fail(f"expected {char!r}: {why}")
        self.position += 1

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        raise RecipeError(message, self.text, self.position if position is None else position) from None


def _none_of(record: Mechanism, key: str, value: Any) -> Any:
    """Read ``none`` as a word where an option takes words, as in position=none, and as nothing elsewhere."""
    if key not in record.options or not (value is None or value == "none"):
        return value
    return "none" if isinstance(record.options[key].default, str) else None


def _plain(value: Any) -> Any:
    """Return a value that can be printed and read back: numbers, text, truth, nothing, and lists of them as tuples.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"not a plain value: {type(value).__name__}")


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ",".join(_show(one) if isinstance(one, tuple) else repr(one) for one in value) + "]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        plain = (
            re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in TRUTH.keys() - {"none"} | SWITCH.keys()
        )
        return value if plain else repr(value)
    return repr(value)
