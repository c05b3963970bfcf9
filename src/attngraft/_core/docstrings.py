"""What a docstring says of each name: the entries of a section in Google style."""

from __future__ import annotations

import inspect
import re


def entries(doc: str, heading: str) -> dict[str, str]:
    r"""Read a section such as ``Args`` or ``Attributes``.

    Args:
        doc: A docstring.
        heading: Of the section, without its colon.

    Returns:
        The text of each entry, by its name; empty without such a section.

    Example:
        >>> entries("Scale.\n\nArgs:\n    x: A map,\n        or two.\n    gain: A number.", "Args")
        {'x': 'A map, or two.', 'gain': 'A number.'}
    """
    match = re.search(rf"^{heading}:\n((?:[ ]+.*\n?|\n)+)", inspect.cleandoc(doc), re.MULTILINE)
    if match is None:
        return {}
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", match.group(1), re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
