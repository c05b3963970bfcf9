"""YAML files of others, read within bounds: aliases of aliases are small only on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from attngraft._core.errors import DataError

MOST_BYTES = 16 * 2**20
MOST_VALUES = 1_000_000
"""How many values a file may hold with its aliases written out; a data set of 1,203 classes has some thousand."""


def read_yaml(file: Path) -> Any:
    """Read a YAML file of plain values.

    Args:
        file: Which file.

    Raises:
        DataError: If it cannot be read, is no YAML, or is too large with its aliases written out.
    """
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{file} is {size:,} bytes, and a YAML file of at most {MOST_BYTES:,} is read; shorten it")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}; check the path, and save it as UTF-8") from error
    return parse_yaml(text, str(file))


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML of plain values; the arguments and errors are those of `read_yaml`."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            count = _written_out(node, {})
            if count > MOST_VALUES:
                raise DataError(
                    f"{where} holds {count:,} values with its aliases written out, and at most {MOST_VALUES:,} are "
                    "read; write out what it needs"
                )
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise DataError(f"{where} is no YAML: {said}; fix the line") from error
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply, or an alias holds itself; write it out") from error
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where} has a value that cannot be read: {error}") from error


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values below a node as if each alias were written out.

    Raises:
        RecursionError: If an alias holds itself.
    """
    if id(node) in known:
        if known[id(node)] == 0:
            raise RecursionError
        return known[id(node)]
    known[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_written_out(child, known) for child in children)
    return known[id(node)]
