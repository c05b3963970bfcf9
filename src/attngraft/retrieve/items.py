"""Items of a corpus: texts of JSON lines, a BEIR corpus, or images of a folder, a list or a data.yaml."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attngraft._core.errors import DataError
from attngraft._core.escape import whole
from attngraft._core.files import IMAGES, is_file
from attngraft._core.json_text import parse_json

Value = str | int | float | bool | None
Source = str | os.PathLike[str] | Iterable[Any]
IDS = ("_id", "id", "doc_id")
CORPUS = "corpus.jsonl"
"""Name of the documents in a folder of the BEIR layout."""
SIDES = ("left", "top", "right", "bottom")
"""Fields of an item that is a part of its image: edges in pixels of the file."""
CUT = "cut"
"""Field of a part that is cut out and seen alone; without it, its key is taken inside the whole image."""


@dataclass(frozen=True)
class Item:
    """A document, an image or a query.

    Attributes:
        id: Its name, once in a corpus.
        text: What a text model reads; None for an image.
        path: The file of an image; None for a text.
        fields: Plain values that a filter may ask for, such as ``{"split": "val"}``.
    """

    id: str
    text: str | None = None
    path: Path | None = None
    fields: Mapping[str, Value] = field(default_factory=dict)


def read_items(source: Source) -> list[Item]:
    """Read a corpus.

    Args:
        source: A ``.jsonl`` file with ``_id`` (or ``id``), ``text`` and further fields; a folder of the BEIR layout,
            which has a ``corpus.jsonl``; a folder of images, with those below it; a ``.txt`` file with the path of an
            image in each line; a ``data.yaml``, of which all splits are read; an image; or a sequence of items, of
            texts, of dictionaries like the lines of a ``.jsonl`` file, or of paths of images. A title is a field like
            any other, and half a surrogate pair is read as U+FFFD.

    Raises:
        DataError: If there is none, one cannot be read, or two have the same id; names the line.

    Example:
        >>> read_items([{"_id": "d1", "text": "Tides turn twice a day.", "split": "val"}])
        [Item(id='d1', text='Tides turn twice a day.', path=None, fields={'split': 'val'})]
    """
    found = list(_read(source))
    if not found:
        named = str(source) if isinstance(source, (str, os.PathLike)) else "the corpus"
        raise DataError(f"{named} is empty; give it at least one text or image")
    require_unique(found)
    return found


def require_unique(items: Iterable[Item]) -> None:
    """Require that no two items have the same id.

    Raises:
        DataError: If two have; names the first.
    """
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"two items have the id {item.id!r}; every item needs an id of its own")
        seen.add(item.id)


def read_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a file of JSON lines, each with its place for messages.

    Args:
        file: The file; blank lines are passed over.

    Raises:
        DataError: If it cannot be read or a line is no JSON object; names the line.
    """
    for number, line in _lines(file):
        yield f"{file}, line {number}", _object(line, f"{file}, line {number}")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not blank, with their numbers."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield from ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{file} cannot be read: {reason}") from error


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        found = parse_json(line)
    except ValueError as error:
        raise DataError(f"{place} is not JSON ({error}); write one object a line") from error
    if not isinstance(found, dict):
        raise DataError(f"{place} holds a {type(found).__name__}; write an object with _id and text")
    return found


def _read(source: Source) -> Iterator[Item]:
    if not isinstance(source, (str, os.PathLike)):
        yield from (_item(one, f"item {number}", number) for number, one in enumerate(source, 1))
        return
    path = Path(source)
    if is_file(path / CORPUS):
        path = path / CORPUS
    if os.path.isdir(path):
        yield from (Item(file.relative_to(path).as_posix(), path=file) for file in sorted(_images(path)))
    elif not os.path.exists(path):
        raise DataError(f"{path} does not exist; give a .jsonl file, a folder, or a list of images")
    else:
        yield from _of_file(path)


def _of_file(path: Path) -> Iterator[Item]:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from (_item(one, place, None) for place, one in read_lines(path))
    elif suffix in IMAGES:
        yield Item(path.name, path=path)
    elif suffix == ".txt":
        yield from (Item(line, path=_beside(path, line)) for _, line in _lines(path))
    elif suffix in (".yaml", ".yml"):
        yield from _of_data(path)
    else:
        raise DataError(f"{path} is no corpus; give a .jsonl file, a folder, a .txt list of images, or a data.yaml")


def _of_data(path: Path) -> Iterator[Item]:
    """Yield the images of every split of a data.yaml, each once, with its split as a field."""
    from attngraft._core.yaml_files import read_yaml
    from attngraft.yolo.splits import split_images

    described = read_yaml(path)
    seen: set[Path] = set()
    for split in ("train", "val", "test"):
        if isinstance(described, dict) and described.get(split):
            images = [image for image in split_images(str(path), split) if image not in seen]
            seen.update(images)
            yield from (Item(str(image), path=image, fields={"split": split}) for image in images)


def _images(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if Path(name).suffix.lower() in IMAGES and name[0] != ".")


def _beside(list_file: Path, line: str) -> Path:
    """Return the path that a line of a list means: as it stands, or from the list's own folder."""
    path = Path(line)
    near = list_file.parent / path
    return near if not path.is_absolute() and near.exists() else path


def _item(given: Any, place: str, number: int | None) -> Item:
    if isinstance(given, Item):
        return given
    if isinstance(given, os.PathLike):
        return Item(os.fspath(given), path=Path(given))
    if isinstance(given, str) and number is not None:
        is_image = Path(given).suffix.lower() in IMAGES and is_file(given)
        return Item(given, path=Path(given)) if is_image else Item(str(number), text=given)
    if not isinstance(given, Mapping):
        raise DataError(f"{place} is a {type(given).__name__}; give items, texts, paths or dictionaries")
    return _of_mapping(given, place)


def _of_mapping(given: Mapping[str, Any], place: str) -> Item:
    name = next((given[key] for key in IDS if given.get(key) is not None), None)
    if name is None:
        raise DataError(f"{place} has no _id; name every item, as in: {{'_id': 'd1', 'text': '...'}}")
    text = given.get("text")
    if not isinstance(text, str):
        raise DataError(f"{place} ({name}) has no text; give it one, as in: {{'_id': 'd1', 'text': '...'}}")
    fields = {key: value for key, value in given.items() if key not in (*IDS, "text")}
    return Item(whole(str(name)), text=whole(text), fields=_fields(fields))


def _fields(given: Mapping[str, Any]) -> dict[str, Value]:
    """Keep the plain values: a filter can ask for nothing else."""
    plain = {key: value for key, value in given.items() if value is None or isinstance(value, (str, int, float, bool))}
    return {whole(key): whole(value) if isinstance(value, str) else value for key, value in plain.items()}


def ids_of(items: Sequence[Item]) -> tuple[str, ...]:
    """Return the ids of items."""
    return tuple(item.id for item in items)
