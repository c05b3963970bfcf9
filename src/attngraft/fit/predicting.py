"""Predictions on a user's images, written down: class names, images with boxes and masks, enlarged images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from attngraft._core.checks import positive
from attngraft._core.errors import AttngraftError, DataError, OptionError
from attngraft._core.escape import csv_cell
from attngraft._core.files import write_text, write_whole
from attngraft._core.progress import PRINTED, Progress
from attngraft._core.shortage import shortage
from attngraft.fit.callbacks import as_csv
from attngraft.fit.data.coco import ImageId, listed_images
from attngraft.fit.data.images import SUFFIXES, images_in, is_file, is_folder, read_bytes
from attngraft.fit.lightning import device_of
from attngraft.fit.tasks.learner import Learner
from attngraft.fit.trained import Trained
from attngraft.fit.training import free_folder

LONGEST = 240
"""Bytes of a file name without its suffix and number; most file systems hold 255 with them."""


class Source(NamedTuple):
    """An image to predict on.

    Attributes:
        path: The file.
        id: What predictions call it.
        size: Width and height that a COCO JSON lists; those of the unturned image get the unturned image.
    """

    path: Path
    id: ImageId
    size: tuple[int, int] | None = None


def predict(
    trained: Trained,
    source: str | Path,
    out: str | Path | None = None,
    *,
    confidence: float = 0.5,
    batch: int = 1,
    tile: int | None = None,
    overlap: int | None = None,
    images: str | Path | None = None,
    accelerator: str = "auto",
    progress: Progress = PRINTED,
) -> list[Any]:
    """Predict on images, report each, and write the results down.

    The folder gets ``predictions.csv`` (classify), images with boxes and masks and ``predictions.json``, a list as
    COCO's evaluation takes it (detect, segment), or the enlarged images (superres).

    Args:
        trained: What `load` returned; it is moved to the device where it predicts.
        source: An image, a folder of images, or a COCO JSON, whose images are predicted under its own ids and turned as
            its sizes are.
        out: The folder to make, the next free name if it is taken; None takes ``predict`` beside the checkpoint.
        confidence: Detections of a lower score are left out.
        batch: Images that the network is given at once. A detector pads those of different sizes to the largest, which
            changes its scores slightly.
        tile: Side of the squares that an image is cut into before it is enlarged (superres); None takes it whole.
        overlap: Pixels around each square that the network sees beyond it (superres); None takes two windows.
        images: The folder that the file names in a COCO JSON start from, where it is not beside the file.
        accelerator: Lightning's word: ``auto``, ``cpu``, ``gpu``, ...
        progress: What is reported to: each prediction as a result, and lines that stay, which are printed by default.

    Returns:
        The prediction for each image: classes with probabilities (classify), torchvision's boxes, labels, scores and
        masks above the confidence (detect, segment), the enlarged image (superres); None for one of several that
        cannot be read, is not of the size listed or does not fit into memory, which is reported.

    Raises:
        DataError: If there are no images, or the only one cannot be predicted.
        OptionError: If the confidence is not from 0 to 1, or an option cannot work for this network.
        OutputError: If something cannot be written.
        FitError: If there is no such accelerator.
    """
    return list(
        predict_each(
            trained, source, out, confidence=confidence, batch=batch, tile=tile, overlap=overlap, images=images,
            accelerator=accelerator, progress=progress,
        )
    )  # fmt: skip


def predict_each(
    trained: Trained,
    source: str | Path,
    out: str | Path | None = None,
    *,
    confidence: float = 0.5,
    batch: int = 1,
    tile: int | None = None,
    overlap: int | None = None,
    images: str | Path | None = None,
    accelerator: str = "auto",
    progress: Progress = PRINTED,
) -> Iterator[Any]:
    """Do as `predict`, and yield each prediction instead of holding all: masks of a folder are beyond memory.

    What is asked is checked at once; ``predictions.csv`` or ``predictions.json`` is written behind the last prediction.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 <= confidence <= 1:
        raise OptionError(f"confidence is a number from 0 to 1, got {confidence!r}")
    positive("fit predict", batch=batch)
    learner = trained.learner
    learner.tiles(tile, overlap)
    source = Path(source)
    found = _sources(source, images)
    learner.to(device_of(accelerator))
    folder, _ = free_folder(Path(out) if out is not None else trained.path.parent / "predict")
    return _each(learner, found, source, folder, confidence, batch, progress)


def _each(
    learner: Learner,
    found: Sequence[Source],
    source: Path,
    folder: Path,
    confidence: float,
    batch: int,
    progress: Progress,
) -> Iterator[Any]:
    """Yield each prediction, and write them down; those of a folder that is interrupted too."""
    rows: list[dict[str, Any]] = []
    done, names = 0, {file.name for file in folder.iterdir()}
    try:
        for start in range(0, len(found), batch):
            group = found[start : start + batch]
            progress.started(f"predicting {group[0].path}")
            for one, (image, result) in zip(group, _predicted(learner, group), strict=True):
                if isinstance(result, AttngraftError):
                    if one.path == source:
                        raise result
                    progress.line(f"{one.path}: left out: {result}")
                    yield None
                    continue
                result = learner.kept(result, confidence)
                rows += learner.rows(one.id, str(one.path), result)
                done += 1
                progress.finished(str(one.path), result)
                progress.line(f"{one.path}: {_reported(learner, image, result, folder, names, one.path.stem)}")
                yield result
    finally:
        if learner.file is not None and (done or len(found) > 1):
            _write_rows(folder / learner.file, rows)
            progress.line(f"{done} of {len(found)} images are in {folder / learner.file}")


def _predicted(learner: Learner, group: Sequence[Source]) -> Iterator[tuple[Tensor, Any]]:
    """Yield pixels and prediction of each image, or the error that belongs to it alone."""
    read = [_attempt(lambda one: read_bytes(one.path, one.size), one) for one in group]
    whole = [image for image in read if isinstance(image, Tensor)]
    made = _attempt(learner.predict, whole) if whole else []
    if isinstance(made, Exception):  # one by one, so that an image that fails takes no other with it
        made = [_attempt(lambda image: learner.predict([image])[0], image) for image in whole]
    results = iter(made)
    for one, image in zip(group, read, strict=True):
        result = next(results) if isinstance(image, Tensor) else image
        yield image, _named(result, one.path, learner.when_full) if isinstance(result, Exception) else result


def _attempt(do: Callable[[Any], Any], given: Any) -> Any:
    """Return what comes of it, or the error if it is of the image or of memory; any other is a fault and is raised."""
    try:
        return do(given)
    except AttngraftError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if shortage(error) is None:
            raise
        return MemoryError()


def _named(error: Exception, path: Path, advice: str) -> AttngraftError:
    if not isinstance(error, AttngraftError):
        return DataError(f"{path} does not fit into memory; {advice}")
    return error if str(path) in str(error) else DataError(f"{path}: {error}")


def _reported(learner: Learner, image: Tensor, result: Any, folder: Path, names: set[str], stem: str) -> str:
    """Return the prediction in words; the image that shows it is written under a name that is free."""
    picture = learner.draw(image, result)
    words = learner.describe(result)
    if picture is None:
        return words
    name = next(name for number in range(len(names) + 1) if (name := _name(stem, number)) not in names)
    names.add(name)
    write_whole(folder / name, lambda partial: picture.save(partial, "PNG"))
    return f"{words}; {folder / name}"


def _sources(source: Path, images: str | Path | None) -> list[Source]:
    if source.suffix.lower() == ".json":
        return [Source(*listed) for listed in listed_images(source, Path(images) if images else None)]
    if images is not None:
        raise OptionError(f"images is the folder of a COCO JSON, and the source is {source}; leave it out")
    if is_folder(source):
        found = [Source(path, _image_id(path, source)) for path in images_in(source)]
        often = Counter(one.id for one in found)
        found = [one if often[one.id] == 1 else Source(one.path, _name_below(one.path, source)) for one in found]
        if not found:
            raise DataError(f"{source} has no images; the suffixes known are {', '.join(sorted(SUFFIXES))}")
        return found
    if not is_file(source):
        raise DataError(f"{source} does not exist; give an image, a folder of images or a COCO JSON")
    return [Source(source, _image_id(source, source))]


def _image_id(path: Path, source: Path) -> ImageId:
    """Return the number that an image is named by, as COCO's are, or its name below the source.

    Several names can mean one number, as 1.jpg and 01.jpg do.
    """
    if path.stem.isascii() and path.stem.isdecimal() and source in (path, path.parent):
        return int(path.stem)
    return _name_below(path, source)


def _name_below(path: Path, source: Path) -> str:
    return path.name if path == source else path.relative_to(source).as_posix()


def _write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    safe = [{name: csv_cell(value) for name, value in row.items()} for row in rows]
    write_text(file, as_csv(safe) if file.suffix == ".csv" else json.dumps(rows) + "\n")


def _name(stem: str, number: int) -> str:
    stem = stem.encode()[:LONGEST].decode(errors="ignore")
    return f"{stem}-{number + 1}.png" if number else f"{stem}.png"
