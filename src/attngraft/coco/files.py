"""JSON files that other programs wrote, in COCO's formats mostly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attngraft._core.errors import DataError
from attngraft._core.json_text import parse_json


def load_json(file: Path) -> Any:
    """Read a JSON file, in UTF-8, with or without a mark of the byte order, or in UTF-16 or UTF-32.

    Raises:
        DataError: If it cannot be read, or is none.
    """
    try:
        return parse_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); check the path") from error
    except ValueError as error:
        raise DataError(f"{file} is not a JSON file ({' '.join(str(error).split())}); write it again") from error


def read_json(file: Path, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """Read a JSON file that holds a list or an object.

    Raises:
        DataError: If it cannot be read, or holds something else.
    """
    values = load_json(file)
    if not isinstance(values, kind):
        wanted = "a list of detections (results format)" if kind is list else "an object (instances format)"
        raise DataError(f"{file} is no such file of COCO's: {wanted} was expected, got {type(values).__name__}")
    return values
