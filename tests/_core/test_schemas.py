"""The schema of a record and what the record writes say the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Literal

import pytest
from pydantic import NonNegativeInt

from attngraft._core.schemas import json_schema


@dataclasses.dataclass
class Part:
    """A part.

    Attributes:
        size: In pixels, as a side
            is counted.
    """

    size: NonNegativeInt = 0


@dataclasses.dataclass
class Whole:
    """A whole, described in two lines.

    This is the second.

    Attributes:
        parts: What it is made of.
        state: How it is.
    """

    parts: tuple[Part, ...]
    state: Literal["new", "old"] = "new"
    names: Mapping[str, str] | None = None


def test_a_schema_takes_what_its_record_writes_and_nothing_else() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    described = json_schema(Whole, "attngraft.test/1", healthy={"type": "boolean"})
    jsonschema.Draft202012Validator.check_schema(described)
    plain = json.loads(json.dumps(dataclasses.asdict(Whole((Part(3),)))))
    stored = {"schema": "attngraft.test/1", "healthy": True, **plain}
    jsonschema.validate(stored, described)
    wrong = [
        {**stored, "schema": "attngraft.test/2"}, {**stored, "more": 1}, {**stored, "state": "worn"},
        {**stored, "parts": [{"size": -1}]}, {**stored, "parts": [{}]},
        {key: value for key, value in stored.items() if key != "names"},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(one, described)


def test_descriptions_are_those_of_the_docstrings() -> None:
    described = json_schema(Whole, "attngraft.test/1")
    assert (described["title"], described["description"]) == ("attngraft.test", "A whole, described in two lines.")
    assert described["properties"]["parts"]["description"] == "What it is made of."
    assert described["$defs"]["Part"]["properties"]["size"]["description"] == "In pixels, as a side is counted."
