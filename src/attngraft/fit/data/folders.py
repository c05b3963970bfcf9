"""Read data that is its folders: a folder a class, and the pairs of super-resolution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attngraft._core.errors import DataError
from attngraft.fit.data.images import images_in, is_folder, is_hidden, named

ALSO_CALLED = {"train": ("training",), "val": ("valid", "validation"), "test": ("testing",)}
HIGH, LOW = "hr", "lr"


@dataclass(frozen=True, eq=False)
class ClassSet:
    """One split of a classification data set.

    Attributes:
        paths: The images.
        labels: Their class indices.
        classes: Class names, those of the training split whichever split this is.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PairSet:
    """One split of a super-resolution data set.

    Attributes:
        high: The images.
        low: The small image of each; None where it is made of the large one.
    """

    high: tuple[Path, ...]
    low: tuple[Path | None, ...]


def read_classes(data: Path, split: str) -> ClassSet:
    """Read ``train/CLASS/*.jpg``, ``val/CLASS/*.jpg`` and so on.

    Classes are those of the training split: a split that holds only some of them keeps their numbers.

    Raises:
        DataError: If the layout is another one, a class has no images to train on, or a split has a class that
            training has not.
    """
    training = split_folder(data, "train")
    classes = _class_names(training)
    if not classes:
        raise DataError(f"{training} needs a folder a class with the images in it, and has no folders")
    home = split_folder(data, split)
    unknown = sorted(set(_class_names(home)) - set(classes))
    if unknown:
        raise DataError(f"{home} has the class {unknown[0]!r}, which {training} lacks")
    files = [(file, label) for label, name in enumerate(classes) for file in images_in(home / name)]
    if not files:
        raise DataError(f"{home} has no images in the folders of its classes")
    empty = sorted(set(range(len(classes))) - {label for _, label in files})
    if home == training and empty:
        raise DataError(f"{home / classes[empty[0]]} has no images; put the class's there, or remove the folder")
    return ClassSet(tuple(file for file, _ in files), tuple(label for _, label in files), tuple(classes))


def _class_names(home: Path) -> list[str]:
    return sorted(named(folder).name for folder in home.iterdir() if folder.is_dir() and not is_hidden(folder.name))


def read_pairs(data: Path, split: str) -> PairSet:
    """Read ``train/*.png``, or ``train/hr/*.png`` with ``train/lr/*.png`` of the same names, folders below them alike.

    Raises:
        DataError: If there are no images, or one has no partner or could have several.
    """
    home = split_folder(data, split)
    top = home / HIGH if (home / HIGH).is_dir() else home
    high = images_in(top)
    if not high:
        raise DataError(f"{home} has no images")
    if not (home / LOW).is_dir():
        return PairSet(tuple(high), (None,) * len(high))
    large, small = _by_name(top, high), _by_name(home / LOW, images_in(home / LOW))
    alone = next((name for name in large if name not in small), None)
    if alone is not None:
        raise DataError(f"{large[alone]} has no partner of that name in {home / LOW}")
    return PairSet(tuple(large.values()), tuple(small[name] for name in large))


def _by_name(home: Path, files: list[Path]) -> dict[Path, Path]:
    """Return files by their paths below a folder, without suffixes.

    Raises:
        DataError: If two differ in their suffixes alone.
    """
    found: dict[Path, Path] = {}
    for file in files:
        name = file.relative_to(home).with_suffix("")
        if name in found:
            raise DataError(f"{found[name]} and {file} have one name, so their partner is unclear; remove one of them")
        found[name] = file
    return found


def split_folder(data: Path, split: str) -> Path:
    """Find the folder of a split.

    Raises:
        DataError: If there is none.
    """
    if not is_folder(data):
        raise DataError(f"{data} is not a folder; give one with {split}/ in it")
    for name in (split, *ALSO_CALLED.get(split, ())):
        if is_folder(data / name):
            return data / name
    raise DataError(f"{data} has no folder {split}/")
