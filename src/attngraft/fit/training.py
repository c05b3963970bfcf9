"""A training run from its options to its folder, on Lightning's trainer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning_utilities.core.rank_zero import rank_zero_only

from attngraft._core.errors import CheckpointError, DataError, FitError, OutputError, suggest
from attngraft._core.files import numbered, write_text
from attngraft._core.json_text import json_text
from attngraft._core.locks import alone
from attngraft._core.progress import PRINTED, Progress
from attngraft.fit.callbacks import TRAINING, History, measured
from attngraft.fit.files import BEST, LAST
from attngraft.fit.lightning import (
    FirstProcess,
    interruptible,
    on_lightning,
    on_main,
    plain_data_errors,
    quiet,
    trainer_of,
)
from attngraft.fit.options import FILE, Options
from attngraft.fit.tasks.learner import Learner
from attngraft.fit.tasks.tasks import LEARNERS
from attngraft.fit.trained import Trained, begin_from, read
from attngraft.measure.environment import environment

RUNS = Path("runs/fit")
RESULT = "result.json"
MAY_CHANGE = ("devices", "accelerator", "workers", "precision", "accumulate", "data", "val", "images")
"""What a resumed run may do differently: where it runs and where the data are."""


@dataclass(frozen=True)
class Result:
    """What a training run came to.

    Attributes:
        folder: Where everything is.
        best: Numbers of the epoch whose weights are in ``best.ckpt``; fractions, and decibels.
        last: Numbers of the last epoch.
        sentence: The same in words.
    """

    folder: Path
    best: Mapping[str, float]
    last: Mapping[str, float]
    sentence: str


class Fit:
    """Train a network of the papers.

    Args:
        model: Its name, one of ``attngraft.models.names()``.
        data: The data set: a folder, COCO's JSON or a ``data.yaml``.
        out: The folder to make; if there is one already, the next free name is taken. None names it by the model.
        progress: What the run reports to: its epochs as results, and lines that stay, which are printed by default.
        **options: Fields of `Options`; options of the network begin with ``model.``.

    Raises:
        FitError: If an option cannot work.
        UnknownNameError: If there is no such model.

    Example:
        >>> Fit("botnet50", "flowers", epochs=3, batch=32).options.lr
        0.0005
    """

    def __init__(
        self,
        model: str,
        data: str | Path,
        *,
        out: str | Path | None = None,
        progress: Progress = PRINTED,
        **options: Any,
    ) -> None:
        self.options = Options.of({"model": model, "data": str(data), **options})
        self.out = Path(out) if out is not None else RUNS / self.options.model
        self.progress: Progress = FirstProcess(progress)
        self._resumed: Path | None = None

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        progress: Progress = PRINTED,
        **changes: Any,
    ) -> Fit:
        """Resume a training run that was interrupted.

        Args:
            path: Its folder, or a checkpoint in it.
            progress: As for `Fit`.
            **changes: Where it runs now; nothing that would make it another run.

        Raises:
            CheckpointError: If there is nothing to resume.
            FitError: If the run is finished, or would be another one.
        """
        file = Path(path) / LAST if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise CheckpointError(f"{file} does not exist: the run had not finished an epoch; start it again")
        other = [key for key in changes if key not in MAY_CHANGE]
        if other:
            raise FitError(f"a resumed run keeps its {other[0]}; it may change {', '.join(MAY_CHANGE)}")
        options = Options.load(file.parent).changed(changes)
        done = int(read(file)["epoch"]) + 1
        if done >= options.epochs:
            raise FitError(
                f"{file.parent} is finished: {done} of {options.epochs} epochs; to go further, use weights={file}"
            )
        fit = cls.__new__(cls)
        fit.options, fit.out, fit._resumed = options, file.parent, file
        fit.progress = FirstProcess(progress)
        return fit

    def run(self) -> Result:
        """Train.

        Raises:
            DataError: If the data cannot be used.
            FitError: If another process trains into the folder of a run that is resumed.
            OutputError: If the folder cannot be written.
            Stopped: If it was interrupted from the keyboard.
        """
        options = self.options
        kind = LEARNERS[options.task]
        train, val = _splits(kind, options)
        learner = kind(options, kind.classes_of(train))
        for split, data in {"training": train, "validation": val}.items():
            if note := kind.note(data):
                self.progress.line(f"{split}: {note}")
        if options.weights is not None and self._resumed is None:
            self.progress.line(begin_from(learner.network, Path(options.weights)))
        history = History(self.progress)
        with quiet():
            folder, trainer = self._prepared(history, learner.monitor)
            self.progress.line(f"training {options.model} on {options.data} into {folder}")
            parts = trainer.world_size * options.accumulate
            loaders = (
                learner.loader(train, training=True, parts=parts),
                learner.loader(val, training=False, parts=parts),
            )
            with _only_run(folder), interruptible(trainer, folder):
                trainer.fit(learner, *loaders, ckpt_path=self._resumed, weights_only=True)
        return _finish(self.progress, learner, folder, history)

    def _prepared(self, history: History, monitor: str) -> tuple[Path, L.Trainer]:
        """Return folder and trainer; a start that fails leaves no folder, as it would pass for a run to resume."""
        options, folder = self.options, self.out
        if self._resumed is not None:
            return folder, trainer_of(options, folder, [history], monitor)
        folder, own = free_folder(folder)
        try:
            trainer = trainer_of(options, folder, [history], monitor)
        except FitError:
            if own:
                on_main(folder.rmdir)()
            raise
        on_main(options.save)(folder)
        return folder, trainer


@contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    """Keep a second process from resuming a run while it goes on; the processes of one run are one."""
    if getattr(rank_zero_only, "rank", 0):
        yield
        return
    busy = FitError(f"another process is training into {folder}; wait for it, or end it first")
    with alone(folder, busy, used=lambda: False):
        yield


def validate(
    trained: Trained, data: str | Path | None = None, *, split: str = "val", **changes: Any
) -> dict[str, float]:
    """Measure a trained network on a split of its data set, or of another one with the same classes.

    Args:
        trained: What `load` returned.
        data: The data set; None takes the one that it was trained on.
        split: ``train``, ``val`` or ``test``.
        **changes: Where it runs and where the data are, of `MAY_CHANGE`.

    Returns:
        The measures, as fractions and decibels.

    Raises:
        DataError: If the data cannot be used, or have other classes.
        FitError: If a change is none of those.
    """
    known = dict.fromkeys(("data", "split", *MAY_CHANGE))
    for key in changes:
        if key not in known:
            raise FitError(f"validation has no option {key!r}; {suggest(key, known)}")
    learner = trained.learner
    options = trained.options.changed({**changes, **({} if data is None else {"data": str(data)})})
    found = type(learner).read(options, split)
    _require_same(trained.classes, type(learner).classes_of(found), f"the split {split!r} of {options.data}")
    with quiet():
        trainer = on_lightning(options, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        with plain_data_errors(), _under(learner, options):
            loader = learner.loader(found, training=False, parts=options.accumulate)
            (numbers,) = trainer.validate(learner, loader, verbose=False)
    learner.eval()
    return {name: float(value) for name, value in numbers.items()}


def _splits(kind: type[Learner], options: Options) -> tuple[Any, Any]:
    train, val = kind.read(options, "train"), kind.read(options, "val")
    _require_same(kind.classes_of(train), kind.classes_of(val), f"the validation split of {options.data}")
    return train, val


def _require_same(known: tuple[str, ...], found: tuple[str, ...], where: str) -> None:
    if known != found:
        raise DataError(
            f"{where} has {len(found)} classes ({', '.join(found[:3])}, ...) and training had {len(known)} "
            f"({', '.join(known[:3])}, ...); they have to be the same"
        )


def _finish(progress: Progress, learner: Learner, folder: Path, history: History) -> Result:
    best, last = history.best(learner.monitor), history.rows[-1] if history.rows else {}
    numbers = {name: value for name, value in best.items() if not name.startswith(TRAINING)}
    sentence = (
        f"{learner.options.model}: {measured(learner, numbers)} in epoch {best.get('epoch', 0):.0f} of "
        f"{learner.options.epochs}; best weights in {folder / BEST}"
    )
    content = {"best": best, "last": last, "epochs": history.rows, "environment": asdict(environment())}
    on_main(write_text)(folder / RESULT, json_text(content, indent=1) + "\n")
    progress.line(sentence)
    return Result(folder, best, last, sentence)


def free_folder(out: Path) -> tuple[Path, bool]:
    """Make the folder, or the next of its name that is free: a run never overwrites another.

    Returns:
        The folder, and whether it was not there before.

    Raises:
        OutputError: If it cannot be made, or Lightning would write elsewhere.
    """
    if "::" in str(out.absolute()):
        raise OutputError(f"{out.absolute()} holds '::', at which Lightning would cut its path; choose another folder")
    for folder in numbered(out):
        if folder.is_dir() and not any(folder.iterdir()):
            return folder, False
        if folder.exists():
            continue
        if getattr(rank_zero_only, "rank", 0) == 0:
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                raise OutputError(f"cannot make {folder}: {error.strerror or error}") from error
        return folder, True
    raise OutputError(f"{out} and 9999 folders of its name are taken")


def latest(out: Path) -> Path:
    """Return the newest folder of a name that has a run to resume.

    Raises:
        CheckpointError: If there is none.
    """
    numbered = re.compile(rf"{re.escape(out.name)}(?:-(\d+))?")
    found = [
        (int(match[1] or 1), folder)
        for folder in (out.parent.iterdir() if out.parent.is_dir() else ())
        if (match := numbered.fullmatch(folder.name)) and (folder / FILE).is_file()
    ]
    if not found:
        raise CheckpointError(f"there is no run in {out}; give its folder with resume=FOLDER")
    return max(found)[1]


@contextmanager
def _under(learner: Learner, options: Options) -> Iterator[None]:
    """Let a learner work under other options for a while."""
    own, learner.options = learner.options, options
    try:
        yield
    finally:
        learner.options = own
