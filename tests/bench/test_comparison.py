"""The JSON of a comparison and its schema say the same."""

from __future__ import annotations

import json

import pytest

from attngraft.bench import Bench, schema


def test_the_json_satisfies_its_schema(found: Bench) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    jsonschema.validate(stored, schema())
    assert stored["environment"]["versions"]["ultralytics"]
    assert stored["settings"]["device"] == "cpu"
    stored["settings"]["imgsz"] = 640
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stored, schema())
