"""Prompts around texts, cut to what a model reads: the text loses its end, the prompt nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attngraft._core.errors import OptionError

PLACE = "{text}"
PAPER = (
    "Instruct: Given a story, retrieve relevant documents that provide contextual information about topics brought up "
    "in the story.\n\nQuery: {text}"
)
"""What the paper's code puts around a query (spcl/MRAG, multirag/embed/generate_embeddings.py); documents get nothing.

The model cards of its encoders ask for one line break where it has two.
"""


def require_template(name: str, template: str) -> str:
    """Require a template with one place for the text.

    Args:
        name: The option's name.
        template: The template.

    Raises:
        OptionError: If it has none or several.
    """
    if not isinstance(template, str) or template.count(PLACE) != 1:
        raise OptionError(f"TextEncoder needs {name} with one {PLACE} in it, got {template!r}")
    return template


def require_room(tokenizer: Any, template: str, limit: int) -> None:
    """Require a template that leaves room for a text.

    Args:
        tokenizer: A tokenizer of transformers.
        template: The template.
        limit: Most tokens.

    Raises:
        OptionError: If it leaves none.
    """
    alone = len(_read(tokenizer, template, ""))
    if alone >= limit:
        raise OptionError(
            f"the prompt alone has {alone} tokens of at most {limit}; shorten it, or leave out the paper's with "
            "preset=none"
        )


def tokens(tokenizer: Any, template: str, text: str, limit: int) -> tuple[list[int], bool]:
    """Return the tokens of a text in a template, and whether the text was cut to fit.

    What follows the text, a prompt's end or special tokens, is kept: it is what stands at the end of the tokens both
    with the text and without it.

    Args:
        tokenizer: A tokenizer of transformers.
        template: The template.
        text: The text.
        limit: Most tokens, more than the template alone has.
    """
    found = _read(tokenizer, template, text)
    if len(found) <= limit:
        return found, False
    tail = _shared_end(found, _read(tokenizer, template, ""))
    return found[: limit - tail] + found[len(found) - tail :], True


def _read(tokenizer: Any, template: str, text: str) -> list[int]:
    """Return tokens, however many: of too many, transformers warns of what does not come, as they are cut."""
    return list(tokenizer(template.replace(PLACE, text), verbose=False)["input_ids"])


def _shared_end(one: Sequence[int], other: Sequence[int]) -> int:
    shared = 0
    while shared < min(len(one), len(other)) and one[-1 - shared] == other[-1 - shared]:
        shared += 1
    return shared
