"""What an index says of itself: the encoder of its keys, and how it is searched; ``index.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attngraft import __version__
from attngraft._core.checks import one_of, positive
from attngraft._core.errors import DataError, OptionError
from attngraft._core.files import write_text
from attngraft._core.json_text import parse_json
from attngraft.retrieve.keys import Encoder, Json
from attngraft.retrieve.rank import PAPER_DEPTH, RULES

SCHEMA = "attngraft.retrieve/1"
FILE = "index.json"
PRESETS: Mapping[str | None, Mapping[str, Any]] = {
    "paper": {"center": False, "rule": "decay", "depth": PAPER_DEPTH},
    None: {"center": False, "rule": "decay", "depth": None},
}
"""How an index is searched; ``"paper"`` as the code of the paper does, literally."""


@dataclass(frozen=True)
class Settings:
    """How an index is searched, where a search says nothing else.

    Attributes:
        center: Whether the mean key of each head is subtracted from queries and items.
        rule: How heads vote; see `attngraft.retrieve.vote`.
        depth: How many items each head votes for, or more where more are asked for; None for as many as are asked for.

    Raises:
        OptionError: If there is no such rule, or the depth is not positive.
    """

    center: bool = False
    rule: str = "decay"
    depth: int | None = None

    def __post_init__(self) -> None:
        one_of("the index", "rule", self.rule, RULES)
        if not isinstance(self.center, bool):
            raise OptionError(f"the index needs center to be True or False, got {self.center!r}")
        if self.depth is not None:
            positive("the index", depth=self.depth)

    @classmethod
    def of(cls, preset: str | None, **given: Any) -> Settings:
        """Return a preset's settings with those that are given instead.

        Args:
            preset: A key of `PRESETS`.
            **given: Fields of this class; None takes the preset's.

        Raises:
            OptionError: If there is no such preset, or a value cannot work.
        """
        if preset is not None:
            one_of("the index", "preset", preset, tuple(name for name in PRESETS if name))
        return cls(**{**PRESETS[preset], **{name: value for name, value in given.items() if value is not None}})


@dataclass(frozen=True)
class Description:
    """What an index was built with.

    Attributes:
        encoder: What `Encoder.describe` said.
        fingerprint: The encoder's.
        store: Which store holds the keys.
        settings: How it is searched.
        version: The release of attngraft that built it.
    """

    encoder: Mapping[str, Json]
    fingerprint: str
    store: str = "arrays"
    settings: Settings = field(default_factory=Settings)
    version: str = __version__

    def write(self, folder: Path) -> None:
        """Write it to a folder.

        Raises:
            OutputError: If it cannot be written.
        """
        write_text(folder / FILE, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read what a folder's index says of itself.

        Raises:
            DataError: If it holds none, or a damaged one, or one of another release.
        """
        file = folder / FILE
        try:
            found = parse_json(file.read_text(encoding="utf-8"))
            schema = found.pop("schema", None)
            if schema == SCHEMA:
                _require_model(found["encoder"])
                return cls(**{**found, "settings": Settings(**found["settings"])})
        except OSError as error:
            raise DataError(f"{folder} is no index ({FILE}: {error.strerror or error})") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{file} is damaged ({error}); build the index again") from error
        raise DataError(f"{file} has the schema {schema!r}, and this release reads {SCHEMA!r}; build the index again")

    def require_encoder(self, encoder: Encoder, name: str) -> None:
        """Require the encoder that the keys were made with: keys of two encoders cannot be compared.

        Args:
            encoder: The encoder that is to be used.
            name: How to call the index.

        Raises:
            OptionError: If it is another; names what differs.
        """
        if encoder.fingerprint == self.fingerprint:
            return
        came = encoder.describe()
        differing = [
            key for key in {**self.encoder, **came} if key != "model" and self.encoder.get(key) != came.get(key)
        ]
        said = ", ".join(f"{key}={self.encoder.get(key)!r} and not {came.get(key)!r}" for key in differing)
        raise OptionError(
            f"{name} was built with {said or 'other weights than ' + str(came.get('model'))}; keys of both cannot be "
            "compared, so use the same model and options, or build another index"
        )

    def require_settings(self, settings: Settings, store: str, name: str) -> None:
        """Require the settings and the store that the index was built with.

        Raises:
            OptionError: If they are others.
        """
        before, now = {**asdict(self.settings), "store": self.store}, {**asdict(settings), "store": store}
        for key, value in before.items():
            if now[key] != value:
                raise OptionError(f"{name} was built with {key}={value}, got {key}={now[key]}; build another index")


def _require_model(encoder: Any) -> None:
    if not isinstance(encoder, dict) or not isinstance(encoder.get("model"), str):
        raise TypeError("it names no model")
