"""JSON that every reader takes, without the NaN that Python alone writes, and JSON that anybody wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(content: Any, indent: int | None = None) -> str:
    """Return content as strict JSON, with null for a value that is no finite number.

    Args:
        content: Plain values.
        indent: As `json.dumps` takes it.

    Example:
        >>> json_text({"APs": float("nan"), "AP": (0.5, 1)})
        '{"APs": null, "AP": [0.5, 1]}'
    """
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says; brackets without end, too, are an error that a reader expects.

    Args:
        text: The JSON; of bytes the encoding is found, be it UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: If it is none, or nested too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
