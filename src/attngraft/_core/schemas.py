"""The JSON schema of a record, made of its fields: their types, and what the docstring says of each."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from attngraft._core.docstrings import entries


class _Closed(GenerateJsonSchema):
    """Describe what is written: every field of a record is there, and nothing else."""

    schema_dialect = "https://json-schema.org/draft/2020-12/schema"

    def generate(self, schema: Any, mode: JsonSchemaMode = "serialization") -> JsonSchemaValue:
        return {"$schema": self.schema_dialect, **super().generate(schema, mode)}

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        described = super().dataclass_schema(schema)
        described |= {"additionalProperties": False, "required": list(described["properties"])}
        for name, about in entries(schema["cls"].__doc__ or "", "Attributes").items():
            if name in described["properties"]:
                described["properties"][name] = {**described["properties"][name], "description": about}
        return {**described, "description": (schema["cls"].__doc__ or "").partition("\n")[0]}

    def get_title_from_name(self, name: str) -> str:
        return name


def json_schema(record: type, name: str, **more: JsonSchemaValue) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a record's plain values under the name that they are stored with.

    Args:
        record: A dataclass.
        name: Value of the key ``schema`` in the stored form, such as "attngraft.bench/2".
        **more: Schemas of further keys of the stored form.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Point:
        ...     '''A point.
        ...
        ...     Attributes:
        ...         x: In pixels.
        ...     '''
        ...     x: float
        >>> described = json_schema(Point, "example/1")
        >>> described["required"], described["properties"]["x"]["description"]
        (['schema', 'x'], 'In pixels.')
    """
    described = TypeAdapter(record).json_schema(mode="serialization", schema_generator=_Closed)
    first = {"schema": {"const": name}, **more}
    described["title"] = name.partition("/")[0]
    described["properties"] = {**first, **described["properties"]}
    described["required"] = [*first, *described["required"]]
    return described
