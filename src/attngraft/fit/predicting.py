"""What trained networks make of pictures: class names, pictures with boxes and masks, enlarged pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft._core.files import write_text
from attngraft.drawing import PALETTE, Box, mark
from attngraft.fit.callbacks import as_csv
from attngraft.fit.data.images import SUFFIXES, pictures_in, read_bytes
from attngraft.fit.lightning import device_of
from attngraft.fit.tasks.detect import coco_results
from attngraft.fit.trained import Trained
from attngraft.fit.training import free_folder

OPACITY = 0.45
"""Of a mask over its object."""

TAG = 15
LEAST_TAG = 8
"""Height of a tag's text in pixels, and the least that can be read."""

DETECTIONS, CLASSES = "predictions.json", "predictions.csv"


def predict(
    trained: Trained,
    source: str | Path,
    out: str | Path | None = None,
    *,
    confidence: float = 0.5,
    accelerator: str = "auto",
    say: Callable[[str], None] = print,
) -> list[Any]:
    """Predict on pictures one by one, say what came of each, and write it down.

    The folder gets ``predictions.csv`` (classify), pictures with boxes and masks and ``predictions.json``, a list as
    COCO's evaluation takes it (detect, segment), or the enlarged pictures (superres).

    Args:
        trained: What `load` returned; it is moved to where it predicts.
        source: A picture, or a folder of pictures.
        out: The folder to make, the next free name if it is taken; None takes ``predict`` beside the checkpoint.
        confidence: Detections of a lower score are left out.
        accelerator: Lightning's word: ``auto``, ``cpu``, ``gpu``, ...
        say: What takes the lines that are said.

    Returns:
        What the network makes of each picture: classes with probabilities (classify), torchvision's boxes, labels,
        scores and masks above the confidence (detect, segment), the enlarged picture (superres); None for one in a
        folder that cannot be read, which is said.

    Raises:
        DataError: If there are no pictures, or the only one cannot be read.
        OptionError: If the confidence is not from 0 to 1.
        OutputError: If something cannot be written.
        FitError: If there is no such accelerator.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 <= confidence <= 1:
        raise OptionError(f"confidence is a number from 0 to 1, got {confidence!r}")
    source = Path(source)
    paths = _sources(source)
    trained.learner.to(device_of(accelerator))
    folder, _ = free_folder(Path(out) if out is not None else trained.path.parent / "predict")
    results: list[Any] = []
    for path in paths:
        try:
            result, words = _predicted(trained, path, folder, confidence)
        except DataError as error:
            if path == source:
                raise
            result, words = None, f"left out: {error}"
        results.append(result)
        say(f"{path}: {words}")
    if file := _written_down(trained, source, paths, results, folder):
        say(f"{len(paths) - sum(result is None for result in results)} of {len(paths)} pictures are in {file}")
    return results


def _predicted(trained: Trained, path: Path, folder: Path, confidence: float) -> tuple[Any, str]:
    """Return what the network makes of a picture, and that in words; the picture that shows it is written."""
    result = trained.learner.predict(path)
    if trained.options.task == "classify":
        return result, ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in result)
    if trained.options.task == "superres":
        result = result.cpu()
        picture, words = TF.to_pil_image(result), f"{result.shape[-1]}x{result.shape[-2]} pixels"
    else:
        result = _confident(result, confidence)
        picture, words = drawn(path, result, trained.classes), _counted(result, trained.classes)
    return result, f"{words}; {_written(picture, folder, path.stem)}"


def _written_down(
    trained: Trained, source: Path, paths: Sequence[Path], results: Sequence[Any], folder: Path
) -> Path | None:
    """Write what was found for a program to read; of enlarged pictures there is nothing to write."""
    found = [(path, result) for path, result in zip(paths, results, strict=True) if result is not None]
    if trained.options.task == "superres":
        return None
    if trained.options.task == "classify":
        rows = [
            {"picture": str(path), "rank": rank, "class": name, "probability": probability}
            for path, classes in found
            for rank, (name, probability) in enumerate(classes, 1)
        ]
        write_text(folder / CLASSES, as_csv(rows))
        return folder / CLASSES
    boxes = [
        {**row, "file_name": str(path), "category_name": trained.classes[row["category_id"] - 1]}
        for path, result in found
        for row in coco_results(_image_id(path, source), result)
    ]
    write_text(folder / DETECTIONS, json.dumps(boxes) + "\n")
    return folder / DETECTIONS


def _image_id(path: Path, source: Path) -> int | str:
    """Return the number that a picture is named by, as COCO's are, or its name below the source."""
    if path.stem.isdecimal() and source in (path, path.parent):
        return int(path.stem)
    return path.name if path == source else path.relative_to(source).as_posix()


def drawn(path: Path, result: dict[str, Tensor], classes: Sequence[str]) -> Image.Image:
    """Draw masks and boxes onto a picture, with tags where there is more than one class and room for text."""
    image = read_bytes(path).contiguous()
    found = [label - 1 for label in result["labels"].tolist()]
    for label, mask in zip(found, result["masks"], strict=True) if "masks" in result else ():
        shade = image.new_tensor(PALETTE[label % len(PALETTE)])[:, None]  # where masks overlap, it is deeper
        inside = mask[0] > 0.5
        image[:, inside] = ((1 - OPACITY) * image[:, inside] + OPACITY * shade).byte()
    picture: Image.Image = TF.to_pil_image(image)
    rows = zip(result["boxes"].tolist(), found, result["scores"].tolist(), strict=True)
    boxes = [Box(left, top, right, bottom, label, score) for (left, top, right, bottom), label, score in rows]
    tag = min(TAG, min(picture.size) // 10)  # larger ones hide a small picture
    tagged = len(classes) > 1 and tag >= LEAST_TAG
    mark(picture, boxes, class_names=classes if tagged else None, tag_size=tag)
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
