"""JSON that every reader takes: no NaN, which Python alone writes."""

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


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
