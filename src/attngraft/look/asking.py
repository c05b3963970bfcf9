"""``attngraft.look``: what is asked of which model about which images, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attngraft._core.checks import positive
from attngraft._core.errors import MapError, OptionError
from attngraft._core.escape import whole
from attngraft._core.progress import SILENT, Progress
from attngraft.fit.files import is_run
from attngraft.look.collecting import Settings, collect
from attngraft.look.images import Pixels, read_all
from attngraft.look.language import checked_language
from attngraft.look.result import Look
from attngraft.maps import Subject


@dataclass(frozen=True)
class Question:
    """A model, images and settings.

    Attributes:
        watched: The model.
        title: What a page calls it.
        pixels: The images with their names.
        settings: What is asked of each.
        base: Another model and its name, to put beside.
    """

    watched: Subject
    title: str
    pixels: list[tuple[str, Pixels]]
    settings: Settings
    base: tuple[str, Subject] | None = None

    @classmethod
    def of(
        cls,
        model: Any,
        images: Any,
        *,
        base: Any = None,
        imgsz: int | Sequence[int] | None = None,
        confidence: float = 0.25,
        limit: int = 10,
        layers: Sequence[str] = (),
        scores: bool = False,
        progress: Progress = SILENT,
    ) -> Question:
        """Open the models and read the images; arguments and errors are those of `attngraft.look`."""
        settings = checked_settings(imgsz, confidence, limit, layers, scores)
        pixels = read_all(images, progress)
        watched, beside = open_subject(model), None if base is None else open_subject(base)
        if beside is not None and beside.task != watched.task:
            raise MapError(f"the two models are compared on one task; got {watched.task} and base for {beside.task}")
        pair = None if beside is None else (_name(base, beside), beside)
        return cls(watched, _name(model, watched), pixels, settings, pair)

    def look(self, progress: Progress = SILENT) -> Look:
        """Look at every image."""
        found = [collect(self.watched, name, image, self.settings, progress, self.base) for name, image in self.pixels]
        base = self.base[0] if self.base else ""
        return Look(found, model=self.title, task=self.watched.task, names=self.watched.names, base=base)


def look(
    model: Any,
    images: Any,
    *,
    base: Any = None,
    imgsz: int | tuple[int, int] | None = None,
    confidence: float = 0.25,
    limit: int = 10,
    layers: Sequence[str] = (),
    scores: bool = False,
    language: str | None = None,
    progress: Progress = SILENT,
) -> Look:
    """See what a model's attention mixed, what its detections rest on, and what its grafts do.

    Args:
        model: A checkpoint, a recipe, or an opened YOLO; with a head of any task, grafted or not.
        images: A path, a folder, a PIL image, an array ``(H, W, 3)`` of bytes, red first, or a sequence of these.
        base: Another model to put beside, such as the one without grafts.
        imgsz: Side of the input, or its height and width; None takes the one of the training run.
        confidence: Least score of a detection.
        limit: Most detections of an image, the surest first.
        layers: Layers to ask what detections rest on; by default those before the first two attentions or gates, and
            those that the head reads.
        scores: Whether to score the maps of the three surest detections by deletion and insertion, beside controls.
        language: Of the page and of figures, ``en`` or ``zh``; None takes that of the browser and of the locale.
        progress: Whom to tell what is being done.

    Raises:
        MapError: If the model is an exported file, has no attention or gate, or no such layer.
        DataError: If an image that is named cannot be read, or none of a folder.
        OptionError: If an option makes no sense.
    """
    checked_language(language)
    given = {"imgsz": imgsz, "confidence": confidence, "limit": limit, "layers": layers, "scores": scores}
    found = Question.of(model, images, base=base, progress=progress, **given).look(progress)  # type: ignore[arg-type]
    found.language = language
    return found


def checked_settings(
    imgsz: int | Sequence[int] | None, confidence: float, limit: int, layers: Sequence[str], scores: bool = False
) -> Settings:
    """Return settings; arguments and errors are those of `attngraft.look`."""
    positive("look", limit=limit)
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 <= confidence <= 1:
        raise OptionError(f"look takes a confidence from 0 to 1, got {confidence}")
    return Settings(_size(imgsz), confidence, limit, tuple(layers), scores)


def _size(imgsz: Any) -> int | tuple[int, int] | None:
    sides = [imgsz] if isinstance(imgsz, int) else imgsz
    if imgsz is None:
        return None
    if (
        not isinstance(sides, Sequence)
        or not 1 <= len(sides) <= 2
        or not all(isinstance(s, int) and s > 0 for s in sides)
    ):
        raise OptionError(f"look takes imgsz=640, or a height and a width as in imgsz=480,640, got imgsz={imgsz}")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def open_subject(model: Any) -> Subject:
    """Open what is not open yet, and take a copy that can be looked into.

    Args:
        model: A checkpoint of Ultralytics or of ``attngraft fit``, the folder of such a run, a recipe, an opened YOLO,
            or what `attngraft.fit.load` returned.
    """
    if hasattr(model, "layers_before"):
        opened: Subject = model
        return opened
    if isinstance(model, (str, Path)):
        if is_run(model):
            from attngraft.fit.looking import watched

            return watched(model)
        from attngraft.yolo import YOLO

        model = YOLO(str(model))
    if hasattr(model, "learner"):
        from attngraft.fit.looking import watched

        return watched(model)
    from attngraft.yolo.looking import Watched

    return Watched(model)


def _name(given: Any, opened: Subject) -> str:
    """Return what a page calls a model: the file or recipe that was given, else what it came from.

    Every training run calls its weights ``best.pt``, so that the run's folder stands before it.
    """
    if not isinstance(given, (str, Path)):
        return opened.title
    path = Path(whole(str(given)))
    if path.stem not in ("best", "last"):
        return path.name
    run = next((folder.name for folder in path.absolute().parents if folder.name != "weights"), "")
    return f"{run}/{path.name}".lstrip("/")
