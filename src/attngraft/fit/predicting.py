"""What trained networks make of pictures: class names, pictures with boxes and masks, enlarged pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft.data.pictures import PALETTE, Box, mark
from attngraft.fit.pictures import SUFFIXES, pictures_in, read_bytes
from attngraft.fit.trained import Trained
from attngraft.fit.training import free_folder

OPACITY = 0.45
"""Of a mask over its object."""


def predict(
    trained: Trained,
    source: str | Path,
    out: str | Path | None = None,
    *,
    confidence: float = 0.5,
    say: Callable[[str], None] = print,
) -> list[Any]:
    """Predict on pictures, say what came of it, and write the pictures that show it.

    Args:
        trained: What `load` returned.
        source: A picture, or a folder of pictures.
        out: The folder to make, the next free name if it is taken; None takes ``predict`` beside the checkpoint.
        confidence: Detections of a lower score are not shown.
        say: What takes the lines that are said.

    Returns:
        What the network makes of each picture: classes with probabilities (classify), torchvision's boxes, labels,
        scores and masks above the confidence (detect, segment), the enlarged picture (superres).

    Raises:
        DataError: If there are no pictures, or one cannot be read.
        OptionError: If the confidence is not from 0 to 1, or a classifier is given a folder to write to.
        OutputError: If something cannot be written.
    """
    if not 0 <= confidence <= 1:
        raise OptionError(f"confidence is a number from 0 to 1, got {confidence!r}")
    paths = _sources(Path(source))
    task = trained.options.task
    if task == "classify":
        if out is not None:
            raise OptionError(f"a classifier writes no pictures; leave out={out} out")
        results = [trained.learner.predict(path) for path in paths]
        for path, classes in zip(paths, results, strict=True):
            say(f"{path}: " + ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in classes))
        return results
    folder, _ = free_folder(Path(out) if out is not None else trained.path.parent / "predict")
    results = []
    for path in paths:
        if task == "superres":
            result = trained.learner.predict(path)
            picture, words = TF.to_pil_image(result), f"{result.shape[-1]}x{result.shape[-2]} pixels"
        else:
            result = _confident(trained.learner.predict(path), confidence)
            picture, words = drawn(path, result, trained.classes), _counted(result, trained.classes)
        say(f"{path}: {words}; {_written(picture, folder, path.stem)}")
        results.append(result)
    return results


def drawn(path: Path, result: dict[str, Tensor], classes: Sequence[str]) -> Image.Image:
    """Draw masks and boxes onto a picture, with tags where there is more than one class."""
    image = read_bytes(path).contiguous()
    found = [label - 1 for label in result["labels"].tolist()]
    for label, mask in zip(found, result["masks"], strict=True) if "masks" in result else ():
        shade = image.new_tensor(PALETTE[label % len(PALETTE)])[:, None]  # where masks overlap, it is deeper
        inside = mask[0] > 0.5
        image[:, inside] = ((1 - OPACITY) * image[:, inside] + OPACITY * shade).byte()
    picture: Image.Image = TF.to_pil_image(image)
    rows = zip(result["boxes"].tolist(), found, result["scores"].tolist(), strict=True)
    boxes = [Box(left, top, right, bottom, label, score) for (left, top, right, bottom), label, score in rows]
    mark(picture, boxes, class_names=classes if len(classes) > 1 else None)
    return picture


def _sources(source: Path) -> list[Path]:
    if source.is_dir():
        found = pictures_in(source)
        if not found:
            raise DataError(f"{source} has no pictures; the suffixes known are {', '.join(sorted(SUFFIXES))}")
        return found
    if not source.is_file():
        raise DataError(f"{source} does not exist; give a picture or a folder of pictures")
    return [source]


def _confident(result: dict[str, Tensor], confidence: float) -> dict[str, Tensor]:
    kept = result["scores"] >= confidence
    return {name: value[kept].cpu() for name, value in result.items()}


def _counted(result: dict[str, Tensor], classes: Sequence[str]) -> str:
    labels = result["labels"].tolist()
    counts = {name: labels.count(index) for index, name in enumerate(classes, 1)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing found"


def _written(picture: Image.Image, folder: Path, stem: str) -> Path:
    """Write a picture under a name that is free."""
    taken = {file.name for file in folder.iterdir()}
    name = next(name for number in range(len(taken) + 1) if (name := _name(stem, number)) not in taken)
    try:
        picture.save(folder / name)
    except OSError as error:
        raise OutputError(f"cannot write {folder / name}: {error.strerror or error}") from error
    return folder / name


def _name(stem: str, number: int) -> str:
    return f"{stem}-{number + 1}.png" if number else f"{stem}.png"
