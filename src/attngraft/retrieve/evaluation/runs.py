"""Rankings as TREC run files: ``query Q0 document rank score tag``, a line for each document that was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attngraft._core.errors import DataError
from attngraft._core.files import write_text


def write_run(file: Path, found: Mapping[str, Sequence[str]], tag: str) -> None:
    """Write rankings; the score of rank r of n is n + 1 - r, so that every reader keeps the order.

    Args:
        file: Where to; replaced if it exists.
        found: Ids of documents for each query, the best first.
        tag: Name of the run.

    Raises:
        DataError: If an id or the tag has white space, which the format cannot hold.
        OutputError: If it cannot be written.
    """
    words = [tag, *found, *(document for ranking in found.values() for document in ranking)]
    if spaced := [word for word in words if word.split() != [word]]:
        raise DataError(
            f"a TREC run file separates its fields by white space, which {spaced[0]!r} is or has; rename it"
        )
    lines = [
        f"{query} Q0 {document} {rank} {len(ranking) + 1 - rank} {tag}\n"
        for query, ranking in found.items()
        for rank, document in enumerate(ranking, start=1)
    ]
    write_text(file, "".join(lines))


def read_run(file: Path) -> dict[str, list[str]]:
    """Read the rankings of a TREC run file: by score, and equal scores by the rank that the file gives.

    Args:
        file: The file; fields are separated by white space.

    Raises:
        DataError: If it is no such file, names a document twice for one query, or has a score that is no number.
    """
    rows: dict[str, list[tuple[float, float, str]]] = {}
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as a TREC run file: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            query, _, document, rank, score, *_ = line.split()
            rows.setdefault(query, []).append((-_finite(score), _finite(rank), document))
        except ValueError as error:
            raise DataError(
                f"{file}, line {number}: expected 'query Q0 document rank score tag', got {line!r}"
            ) from error
    found = {query: [document for _, _, document in sorted(ranking)] for query, ranking in rows.items()}
    for query, ranking in found.items():
        if len(set(ranking)) < len(ranking):
            twice = next(document for document in ranking if ranking.count(document) > 1)
            raise DataError(f"{file} names document {twice} twice for query {query}")
    if not found:
        raise DataError(f"{file} has no line of a TREC run file")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number
