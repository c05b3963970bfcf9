"""The options of Ultralytics, read from the file of its defaults without importing it: a help page has no time to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OPTION = re.compile(r"(?P<key>[a-z]\w*):(?P<default>[^#]*)(?:#\s*(?:\((?P<kind>[^)]*)\))?\s*(?P<about>.*))?")
TITLE = re.compile(r"#\s*(?P<title>[A-Z][\w/. ]*?)\s*-*")
NO_TITLE = "General"


@dataclass(frozen=True)
class Option:
    """An option of Ultralytics.

    Attributes:
        key: Its name.
        default: Its default as it is written there; empty for none.
        kind: The types it may have, as Ultralytics puts it.
        about: What it does.
    """

    key: str
    default: str
    kind: str
    about: str

    @property
    def as_word(self) -> str:
        """Return ``key=default``."""
        return f"{self.key}={self.default or 'None'}"

    @property
    def choices(self) -> list[str]:
        """Return the values that the description lists, if it lists any.

        Example:
            >>> Option("optimizer", "auto", "str", "optimizer: SGD, Adam, or auto").choices
            ['SGD', 'Adam', 'auto']
        """
        if self.kind.startswith("bool"):
            return ["True", "False"]
        if barred := re.search(r"[\w-]+(?:\|[\w-]+)+", self.about):
            return barred[0].split("|")
        _, colon, listed = self.about.partition("i.e. " if "i.e. " in self.about else ": ")
        found = re.split(r",\s*(?:or\s+)?|\s+or\s+", listed.replace("'", ""))
        single = all(re.fullmatch(r"[\w.-]+", word) for word in found)
        return found if self.kind.startswith("str") and colon and len(found) > 1 and single else []


def folder() -> Path:
    """Return where Ultralytics is installed."""
    spec = find_spec("ultralytics")
    assert spec is not None  # a dependency
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def option_groups() -> dict[str, list[Option]]:
    """Return the options under the titles that they have in the file."""
    groups: dict[str, list[Option]] = {}
    for title, option in _read((folder() / "cfg/default.yaml").read_text(encoding="utf-8")):
        groups.setdefault(title, []).append(option)
    return groups


def _read(text: str) -> Iterator[tuple[str, Option]]:
    title, after_blank = NO_TITLE, True
    for line in text.splitlines():
        if found := OPTION.fullmatch(line):
            given = {key: (value or "").strip() for key, value in found.groupdict().items()}
            yield title, Option(**given)
        elif after_blank and (heading := TITLE.fullmatch(line)) and title_like(heading["title"]):
            title = heading["title"]
        after_blank = not line.strip()


def title_like(text: str) -> bool:
    """Tell a title from a sentence: it has few words."""
    return len(text.split()) <= 3


def base_names() -> list[str]:
    """Return the names that Ultralytics takes for a model of its own, with every scale letter."""
    found: set[str] = set()
    for file in (folder() / "cfg/models").glob("*/*.yaml"):
        _, _, scales = file.read_text(encoding="utf-8").partition("\nscales:")
        letters = re.findall(r"^ +(\w):", scales.partition("\n\n")[0], re.MULTILINE) or [""]
        family = re.match(r"yolov?\d+(?=-|$)", file.stem)  # yolov10n has its letter already
        cut = family.end() if family else len(file.stem)
        found |= {f"{file.stem[:cut]}{letter if family else ''}{file.stem[cut:]}" for letter in letters}
    return sorted(found)
