"""The JSON schema of a plan's file."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from attngraft._core.docstrings import entries
from attngraft.study.plan import SEED_RANGE, Plan


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a plan's file, by which editors complete and check its keys."""
    from attngraft.yolo.options import training_schema

    described = TypeAdapter(Plan).json_schema()
    about, training = entries(Plan.__doc__ or "", "Args"), training_schema()
    own: dict[str, Any] = {
        name: {**value, "description": about[name]} for name, value in described["properties"].items()
    }
    for name in ("arms", "controls"):
        own[name] = {"anyOf": [own[name], {"type": "string"}], "description": about[name]}
    own["seeds"] = {"anyOf": [own["seeds"], {"type": "string", "pattern": SEED_RANGE.pattern}], "default": "3-15"}
    own["train"] = {"type": "object", "properties": training, "additionalProperties": False}
    fixed = {"hash": {"type": "string"}, "resolved": {"type": "array"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "attngraft.plan",
        "description": "The plan of a study; training options stand under train: or beside its own keys.",
        "type": "object",
        "properties": {**training, **fixed, **own},
        "required": ["data", "arms"],
        "additionalProperties": False,
    }
