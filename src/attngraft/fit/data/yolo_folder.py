"""Read the layout that YOLO trains on: a ``data.yaml``, images, and a text file of boxes or outlines for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.errors import DataError
from attngraft._core.yaml_files import read_yaml
from attngraft.fit.data.images import images_in, is_file, is_folder, upright_size
from attngraft.fit.data.objects import ObjectSet, Thing, object_set

SLACK = 0.01
"""What a coordinate may lie outside its image, as a part of the side: tools round, and boxes are clipped."""


MOST_CLASSES = 100_000


def read_yolo(file: Path, split: str, *, masks: bool) -> ObjectSet:
    """Read one split.

    Args:
        file: The ``data.yaml``.
        split: ``train``, ``val`` or ``test``.
        masks: Whether every object needs an outline.

    Raises:
        DataError: If something is missing or a label cannot be read; names file and line.
    """
    content = _content(file)
    names = _names(file, content)
    index = {number: place for place, number in enumerate(sorted(names))}
    paths = list(_image_files(file, content, split))
    if not paths:
        raise DataError(f"{file}: the split {split!r} has no images")
    labels = [_label_file(path) for path in paths]
    if not any(is_file(label) for label in labels):
        raise DataError(f"no image of the split {split!r} has a label file; the first would be {labels[0]}")
    has_points = bool(content.get("kpt_shape"))
    images = ((path, *_sized(path, label, index, file, has_points)) for path, label in zip(paths, labels, strict=True))
    return object_set(images, [names[number] for number in sorted(names)], masks=masks)


def _content(file: Path) -> dict[str, Any]:
    content = read_yaml(file)
    if not isinstance(content, dict) or not content.get("train"):
        raise DataError(f"{file} needs the keys train, val and names, as YOLO's data.yaml has them")
    if content.get("channels", 3) not in (1, 3):
        raise DataError(
            f"{file} says channels: {content['channels']!r}, and fit trains on RGB images; save three channels of each "
            "as an image, or train a detector that takes all of them: attngraft train"
        )
    if "val" not in content and content.get("validation"):
        content["val"] = content["validation"]  # Ultralytics takes both
    return content


def _names(file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    names, count = content.get("names"), content.get("nc")
    if names is None and isinstance(count, int):
        if not 1 <= count <= MOST_CLASSES:
            raise DataError(f"{file} needs nc to be the number of classes, up to {MOST_CLASSES}, got {count}")
        names = range(count)
    if not names or not isinstance(names, (Mapping, list, range)):
        raise DataError(f"{file} needs names, a list of class names")
    if isinstance(names, Mapping):
        wrong = [key for key in names if not (isinstance(key, int) or str(key).isdecimal())]
        if wrong:
            raise DataError(f"{file} needs the keys of names to be class numbers, got {wrong[0]!r}")
    numbered = names.items() if isinstance(names, Mapping) else enumerate(names)
    found = {int(number): str(name) for number, name in numbered}
    if count is not None and count != len(found):
        raise DataError(f"{file} says nc: {count} and has {len(found)} names; correct one of them")
    return found


def _image_files(file: Path, content: Mapping[str, Any], split: str) -> Iterator[Path]:
    entries = content.get(split)
    if not entries:
        raise DataError(f"{file} has no split {split!r}")
    entries = entries if isinstance(entries, list) else [entries]
    root = _root(file, str(content.get("path") or ""))
    for entry in entries:
        if not isinstance(entry, str):
            raise DataError(f"{file} needs {split} to be a folder, a list file, or a list of those, got {entry!r}")
        place = _place(root, entry)
        if is_folder(place):
            yield from images_in(place)
        elif is_file(place):
            yield from (_listed_image(place, line.strip()) for line in _lines(place) if line.strip())
        else:
            raise DataError(f"{file}: the split {split!r} is in {place}, which does not exist")


def _root(file: Path, path: str) -> Path:
    """Return what a relative ``path`` means: from the data.yaml, or from the working directory as in Ultralytics."""
    beside = file.parent / path
    return Path(path) if is_folder(Path(path)) and not is_folder(beside) else beside


def _listed_image(file: Path, line: str) -> Path:
    """Return the image that a line of a list names: from the list, or from the working directory as in Ultralytics."""
    beside = file.parent / line
    return Path(line) if is_file(Path(line)) and not is_file(beside) else beside


def _place(root: Path, entry: str) -> Path:
    """Return where an entry of a split lies.

    Roboflow writes ``../train/images`` into a data.yaml that lies beside ``train``; Ultralytics leaves the ``../`` out
    where nothing is there (``check_det_dataset``), so such data is trained on.
    """
    place = root / entry
    if entry.startswith("../") and not (is_folder(place) or is_file(place)):
        beside = root / entry.removeprefix("../")
        return beside if is_folder(beside) or is_file(beside) else place
    return place


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8-sig").split("\n")  # not splitlines: a file name may hold what it takes for an end
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not a text in UTF-8 that can be read ({error}); save it again") from error


def _label_file(image: Path) -> Path:
    """Return where labels are: under ``labels`` for images under ``images``, beside the image otherwise."""
    parts = list(image.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _sized(
    path: Path, label: Path, index: Mapping[int, int], data: Path, has_points: bool
) -> tuple[int, int, list[Thing]]:
    """Read an image's size and objects; of labels with keypoints the boxes, and an object that is repeated once."""
    width, height = upright_size(path)
    lines = _lines(label) if is_file(label) else []
    things: dict[tuple[int, tuple[float, ...]], Thing] = {}
    for number, line in enumerate(lines, 1):
        if words := line.split()[: 5 if has_points else None]:
            one = _thing(words, np.array([width, height], float), index, f"{label}, line {number}", data)
            things.setdefault((one.label, one.box), one)
    return width, height, list(things.values())


def _thing(words: list[str], size: Any, index: Mapping[int, int], where: str, data: Path) -> Thing:
    try:
        number, *numbers = map(float, words)
    except ValueError:
        raise DataError(f"{where}: expected numbers, got {' '.join(words)[:60]!r}") from None
    if number not in index:
        raise DataError(f"{where}: class {words[0]} is not among the names of {data}, {min(index)} to {max(index)}")
    _check_fractions(numbers, where)
    if len(numbers) == 4:
        centre, half = np.array(numbers[:2]) * size, np.array(numbers[2:]) * size / 2
        (left, top), (right, bottom) = centre - half, centre + half
        return Thing(index[int(number)], (left, top, right, bottom))
    if len(numbers) < 6 or len(numbers) % 2:
        raise DataError(
            f"{where}: expected a class and 4 numbers of a box or 3 or more points, got {len(words)} numbers"
        )
    outline = np.array(numbers).reshape(-1, 2) * size
    (left, top), (right, bottom) = outline.min(0), outline.max(0)
    return Thing(index[int(number)], (left, top, right, bottom), [outline])


def _check_fractions(numbers: list[float], where: str) -> None:
    """Require parts of the image's sides, a rounding error apart."""
    wrong = [number for number in numbers if not -SLACK <= number <= 1 + SLACK]  # not a number is wrong too
    if wrong:
        pixels = "; if these are pixels, divide them by its width and height" if max(wrong) > 1 else ""
        raise DataError(
            f"{where}: expected parts of the image's width and height, from 0 to 1, got {wrong[0]:g}{pixels}"
        )
    if len(numbers) == 4 and min(numbers[2:]) < 0:
        raise DataError(f"{where}: expected a width and a height of 0 or more, got {numbers[2]:g} and {numbers[3]:g}")
