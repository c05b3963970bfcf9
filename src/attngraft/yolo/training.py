"""Training for a study: Ultralytics' own work, with a note of what two paired runs must have in common.

A study compares arms of one seed. That is fair only if they start from the same weights where the keys match and see
the same batches; so both are written down as checksums while Ultralytics trains, and can be compared afterwards.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils import DEFAULT_CFG_DICT, RANK
from ultralytics.utils.torch_utils import unwrap_model

from attngraft._core.archive import number_after
from attngraft._core.errors import CheckpointError
from attngraft._core.files import write_text
from attngraft.yolo.freezing import graft_paths
from attngraft.yolo.loggers import LoggerNames
from attngraft.yolo.model import YOLO

RESERVED = (
    "model", "data", "mode", "task", "seed", "split", "project", "name", "exist_ok", "resume", "save", "cfg", "time",
)  # fmt: skip
"""Training options that a study sets itself, or cannot allow."""

OTHER_MODES = (
    "source", "vid_stride", "stream_buffer", "visualize", "augment", "agnostic_nms", "retina_masks", "embed", "show",
    "save_frames", "save_txt", "save_conf", "save_crop", "save_json", "show_labels", "show_conf", "show_boxes",
    "line_width", "format", "optimize", "dynamic", "simplify", "opset", "workspace", "tracker", "dnn", "quantize",
    "conf", "iou", "max_det", "nms",
)  # fmt: skip
"""Options of Ultralytics' other modes; detection for a study follows the COCO rule."""

OWN_DEFAULTS = {"patience": 0, "plots": False}
"""Where a study's default is not Ultralytics': the last epoch counts, so no training ends early."""

DIVERGENCE = "NaN"
"""What Ultralytics' errors over a loss that stays NaN or infinite have in common."""

PIXEL_STEP = 8
"""Only every eighth pixel of a batch enters its checksum: a different crop or flip changes those too."""


def training_defaults() -> dict[str, Any]:
    """Return Ultralytics' training options that a study leaves to its plan, with their defaults."""
    own = {*RESERVED, *OTHER_MODES}
    return {key: value for key, value in DEFAULT_CFG_DICT.items() if key not in own} | OWN_DEFAULTS


@dataclass
class PairingLog:
    """What Ultralytics did that pairing rests on, kept in a file so that a training that is resumed adds to it.

    Attributes:
        file: Where it is kept.
        weights: Checksum of the initial weights outside grafts, and how many tensors that were.
        batches: Checksum of each epoch's batches, in order.
        batch: Images in a batch; Ultralytics lowers it when memory runs out.
        resumed: The epochs, counted from 0, at which a killed training went on.
        nondeterministic: What PyTorch said it could not make deterministic.
        final: Checksum of the final weights outside grafts as the checkpoint holds them, and how many tensors.
        gates: For each graft, by path, the largest value of its gate (gamma) at the end, or, in the paper's form, the
            largest change of its parameters; as the checkpoint holds them.
        diverged: Whether Ultralytics gave the run up because its loss stayed NaN or infinite.
    """

    file: Path
    weights: tuple[str, int] = ("", 0)
    # Checksum of the training files' names and sizes, and how many there were; files of before have this name.
    pictures: tuple[str, int] = ("", 0)
    batches: list[str] = field(default_factory=list)
    batch: int = 0
    resumed: list[int] = field(default_factory=list)
    nondeterministic: list[str] = field(default_factory=list)
    final: tuple[str, int] = ("", 0)
    gates: dict[str, float] = field(default_factory=dict)
    diverged: bool = False
    _sum: int = field(default=0, repr=False)
    _start: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, file: Path) -> PairingLog:
        """Read the file, or start a new one where there is none that can be read."""
        try:
            noted = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(file)
        return cls(file, **noted)

    def facts(self) -> dict[str, Any]:
        """Return everything but the file's own name."""
        hidden = ("file", "_sum", "_start")
        return {one.name: copy.deepcopy(getattr(self, one.name)) for one in fields(self) if one.name not in hidden}

    def callbacks(self) -> dict[str, Any]:
        """Return what to hang on Ultralytics' events."""
        return {
            "on_train_start": self._started,
            "on_train_epoch_start": self._epoch_starts,
            "on_train_epoch_end": self._epoch_ends,
            "on_train_end": self._ended,
        }

    def _started(self, trainer: Any) -> None:
        if trainer.start_epoch:
            self.resumed.append(trainer.start_epoch)
            del self.batches[trainer.start_epoch :]
        else:
            self.weights = checksum(trainer.model)
            self.batches.clear()
            self.resumed.clear()
        self.pictures = _fingerprint(trainer.train_loader.dataset.im_files)
        self._start = _grafted(unwrap_model(trainer.model))
        self._keep()
        prepare = trainer.preprocess_batch

        def noting(batch: dict[str, Any]) -> dict[str, Any]:
            image = batch["img"][..., ::PIXEL_STEP, ::PIXEL_STEP].contiguous().cpu().numpy()
            self._sum = zlib.crc32(image.tobytes(), zlib.crc32("".join(batch["im_file"]).encode(), self._sum))
            prepared: dict[str, Any] = prepare(batch)
            return prepared

        trainer.preprocess_batch = noting

    def _epoch_starts(self, _: Any) -> None:
        self._sum = 0

    def _epoch_ends(self, trainer: Any) -> None:
        self.batch = trainer.batch_size
        self.batches[trainer.epoch :] = [f"{self._sum:08x}"]
        self._keep()  # before the checkpoint, so that it may be ahead of it and never behind

    def _ended(self, trainer: Any) -> None:
        if RANK in (-1, 0):
            kept = copy.deepcopy(trainer.ema.ema).half()
            self.final = checksum(kept)
            self.gates = _gates(self._start, _grafted(kept))
            self._keep()

    def _keep(self) -> None:
        if RANK in (-1, 0):
            write_text(self.file, json.dumps(self.facts()))


def train(recipe: str, data: str, *, seed: int, folder: Path, options: Mapping[str, Any]) -> PairingLog:
    """Train a recipe, or resume a training run that was cut off.

    Args:
        recipe: What to train.
        data: Ultralytics' data file.
        seed: Of initial weights, data order and augmentation; also of a graft onto given weights.
        folder: The training's own folder; a checkpoint in it is resumed from.
        options: Ultralytics' training options.

    Returns:
        What pairing rests on.
    """
    watch = PairingLog.of(folder / "watch.json")
    last = folder / "weights" / "last.pt"
    epoch = _epoch(last)
    if epoch is not None and (epoch < 0 or epoch + 1 >= options["epochs"]):
        return watch
    if epoch is None:
        (folder / "results.csv").unlink(missing_ok=True)
        (folder / "watch.json").unlink(missing_ok=True)
        watch = PairingLog(folder / "watch.json")
    torch.manual_seed(seed)
    model = YOLO(recipe if epoch is None else last)
    for source in (watch, LoggerNames.of(os.environ)):
        for event, function in source.callbacks().items():
            model.add_callback(event, function)
    options = dict(options)
    if options.get("pretrained") is True:
        del options["pretrained"]  # the model itself knows whether its base has weights to start from
    own = {"data": data, "seed": seed, "project": str(folder.parent), "name": folder.name, "exist_ok": True}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        diverged = _until_divergence(lambda: model.train(**options, **own, save=True, resume=epoch is not None), last)
    said = {str(w.message).partition(" does not have a deterministic")[0] for w in caught if _nondeterministic(w)}
    watch = PairingLog.of(watch.file)  # several GPUs train in processes of their own, with a copy of it
    watch.nondeterministic = sorted({*watch.nondeterministic, *said})
    watch.diverged = diverged
    watch._keep()
    return watch


def _until_divergence(train: Callable[[], object], last: Path) -> bool:
    """Train, and tell whether Ultralytics gave up because the loss stayed NaN or infinite: an outcome, not a crash.

    Args:
        train: Trains.
        last: The checkpoint, which is there once an epoch was whole.
    """
    try:
        train()
    except RuntimeError as error:
        if DIVERGENCE not in str(error) or not last.is_file():
            raise
        return True
    return False


def why_equal(arm: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Say why a run's detections equal those of its baseline, from what both noted.

    For arms that are meant to differ: a control such as ``noop`` equals its baseline by design.

    Args:
        arm: The facts of the arm's run (`PairingLog.facts`).
        baseline: Those of the baseline's run of the same seed.

    Returns:
        One or two sentences: whether the weights are equal bit for bit, how far the grafts moved, and what to do.
    """
    final, gates = tuple(arm.get("final") or ("", 0)), arm.get("gates") or {}
    same = bool(final[0]) and final == tuple(baseline.get("final") or ("", 0))
    said = (
        "its weights outside grafts equal the baseline's bit for bit" if same else "its detections equal the baseline's"
    )
    if gates:
        largest = max(gates.values())
        moved = "no graft has moved" if largest == 0 else f"its grafts have barely moved (largest gate {largest:.1g})"
        said += f", and {moved}"
    return (
        f"{said}: there is nothing to judge. Leave the grafts out of freeze=, and train with more epochs, a smaller "
        "batch or a larger lr0"
    )


def _grafted(model: nn.Module) -> dict[str, Tensor]:
    """Copy the parameters of a model's grafts, in half precision as checkpoints hold them."""
    paths = tuple(f"{path}." for path in graft_paths(model))
    return {name: p.detach().half().cpu().clone() for name, p in model.named_parameters() if name.startswith(paths)}


def _gates(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """Return how far each graft has come: the largest value of its gate, or the largest change where it has none."""
    found: dict[str, float] = {}
    gated = {name.removesuffix(".gamma") for name in after if name.endswith(".gamma")}
    for name, value in after.items():
        owner = next((gate for gate in gated if name.startswith(f"{gate}.")), None)
        if owner is None:
            parent, start = name.rpartition(".")[0], before.get(name, torch.zeros_like(value))
            found[parent] = max(found.get(parent, 0.0), _largest(value.float() - start.float()))
        elif name == f"{owner}.gamma":
            found[owner] = _largest(value)
    return found


def _largest(value: Tensor) -> float:
    return float(value.float().abs().max()) if value.numel() else 0.0


def checksum(model: nn.Module) -> tuple[str, int]:
    """Return a checksum of the tensors outside grafts, and how many there are.

    Args:
        model: A host model.
    """
    shared = {key: value for key, value in model.state_dict().items() if ".grafts." not in key}
    total = 0
    for key in sorted(shared):
        total = zlib.crc32(shared[key].detach().cpu().contiguous().numpy().tobytes(), zlib.crc32(key.encode(), total))
    return f"{total:08x}", len(shared)


def _epoch(last: Path) -> int | None:
    """Return the last epoch that a checkpoint holds, -1 for a finished training, None where none can be read."""
    if not last.is_file():
        return None
    try:
        return number_after(last, "epoch")
    except CheckpointError:  # cut off in the middle of writing: the run starts again
        return None


def _fingerprint(files: list[str]) -> tuple[str, int]:
    total = 0
    for file in sorted(files):
        total = zlib.crc32(f"{Path(file).name} {Path(file).stat().st_size}".encode(), total)
    return f"{total:08x}", len(files)


def _nondeterministic(warning: warnings.WarningMessage) -> bool:
    return "does not have a deterministic implementation" in str(warning.message)
