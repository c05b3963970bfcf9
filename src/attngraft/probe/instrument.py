"""The instrument: one small detector and one way to train it, the same for every mechanism and probe.

By which measurements its settings were chosen is in docs/probes.md. Their hash stands in every record: records of
different instruments are never counted together.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from attngraft.coco.evaluate import evaluate
from attngraft.data.folder import VERSION
from attngraft.data.painting import chebyshev
from attngraft.data.probes import Probe, probe_named
from attngraft.data.scenes import generator
from attngraft.measure import environment
from attngraft.yolo.array_training import ArrayDetector, one_graft

NONE = "none"
"""The detector without a mechanism, among the names of mechanisms."""

LOOKED_AT = 64
"""Validation images at once."""

BIN = 8
"""Pixels to a bin of the curve of accuracy by distance."""

SIDES = ("left-right", "upside-down")


@dataclass(frozen=True)
class Instrument:
    """How a run is trained and when it has learned.

    Attributes:
        base: The detector: one map at stride 8, so small that it sees 43 pixels around an object at most.
        place: Where the mechanism stands in it.
        images: Training images.
        validation: Validation images.
        epochs: Epochs of a run, unless it is good enough before.
        batch: Images in a training step.
        lr: Largest learning rate; it rises for one epoch and falls along a cosine.
        last_lr: Share of it at the end.
        decay: Weight decay of matrices and kernels.
        clip: Largest norm of the gradients of a step.
        gains: Weights of the parts of Ultralytics' loss. By its own ones, 7.5, 0.5 and 1.5, the box drowns the class:
            SE does not learn a majority that it learns by these.
        learned: Accuracy from which a run has learned its probe; guessing gives .5.
        enough: Accuracy at which a run ends.
        data: Version of the images.
    """

    base: str = "attngraft-micro.yaml"
    place: str = "P3"
    images: int = 800
    validation: int = 250
    epochs: int = 16
    batch: int = 16
    lr: float = 2e-3
    last_lr: float = 0.05
    decay: float = 1e-4
    clip: float = 10.0
    gains: dict[str, float] = field(default_factory=lambda: {"box": 1.5, "cls": 5.0, "dfl": 0.3})
    learned: float = 0.9
    enough: float = 0.97
    data: int = VERSION

    @property
    def hash(self) -> str:
        """Eight hexadecimal digits, equal exactly for equal settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return math.ceil(self.images / self.batch)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.steps:
            return self.lr * (step + 1) / self.steps
        part = (step - self.steps) / max(1, self.steps * (self.epochs - 1))
        return self.lr * (self.last_lr + (1 - self.last_lr) * (1 + math.cos(math.pi * part)) / 2)


@dataclass(frozen=True)
class ProbeRun:
    """One training run.

    Attributes:
        mechanism: As recipes write it, or `NONE`.
        probe: Name of the probe.
        control: Whether it is the probe's control: the same images, classes that an object's own pixels tell.
        seed: Of the initial weights, the order of the images and their flips; equal seeds make a pair.
    """

    mechanism: str
    probe: str
    control: bool
    seed: int

    def __str__(self) -> str:
        return f"{self.mechanism} on {self.probe}{' (control)' if self.control else ''}, seed {self.seed}"


@dataclass(frozen=True)
class ProbeRecord:
    """What came out of a run.

    Attributes:
        instrument: Hash of the `Instrument`.
        mechanism: As in `ProbeRun`.
        probe: As in `ProbeRun`.
        control: As in `ProbeRun`.
        seed: As in `ProbeRun`.
        accuracy: Share of the validation objects whose class is the stronger one at their centre, at the end.
        ap50: AP at an overlap of .5, in points, at the end.
        steps: Training steps after which the accuracy was first enough to have learned, looked at after every epoch;
            None where it never was.
        curve: Accuracy after each epoch.
        reach: Of probes with one cue for each object, for each bin of distance: its first pixel, objects, right ones.
        parameters: Of the mechanism.
        seconds: Processor time of the run.
        finished: When, in UTC.
        versions: Of PyTorch, Ultralytics and others.
        device: Name of the processor.
        source: Checksum of the file that defines the mechanism's class; empty where it is attngraft's own.
    """

    instrument: str
    mechanism: str
    probe: str
    control: bool
    seed: int
    accuracy: float
    ap50: float
    steps: int | None
    curve: tuple[float, ...]
    reach: tuple[tuple[int, int, int], ...]
    parameters: int
    seconds: float
    finished: str
    versions: dict[str, str]
    device: str
    source: str = ""

    @property
    def run(self) -> ProbeRun:
        """Which run it is of."""
        return ProbeRun(self.mechanism, self.probe, self.control, self.seed)


@dataclass(frozen=True)
class Drawn:
    """The images of a split in memory.

    Attributes:
        images: ``(n, 3, side, side)``, bytes.
        owners: The image of each object, rising.
        boxes: Left, top, right and bottom of each object, in pixels.
        far: Class of each object in the probe.
        near: Class of each object in the control.
        gaps: Pixels from each object to the cue, where there is one; else -1.
    """

    images: Tensor
    owners: Tensor
    boxes: Tensor
    far: Tensor
    near: Tensor
    gaps: Tensor

    def labels(self, *, control: bool) -> Tensor:
        """Return the class of each object."""
        return self.near if control else self.far

    def batch(self, chosen: Tensor, flips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return some of the images, flipped, and whose objects are where.

        Args:
            chosen: Which images.
            flips: For each whether it is mirrored left to right, and upside down, ``(n, 2)``.

        Returns:
            Images of 0 to 1, the place of each object's image among them, boxes, and which objects they are.
        """
        side = self.images.shape[-1]
        images = self.images[chosen].float() / 255
        spot = torch.full((len(self.images),), -1).index_copy(0, chosen, torch.arange(len(chosen)))
        which = (spot[self.owners] >= 0).nonzero().flatten()
        which = which[spot[self.owners[which]].argsort(stable=True)]  # Ultralytics' loss wants images in their order
        owners, boxes = spot[self.owners[which]], self.boxes[which].clone()
        for axis, (low, high) in enumerate(((0, 2), (1, 3))):
            turned = flips[:, axis]
            images[turned] = images[turned].flip(-1 - axis)
            mine = turned[owners]
            boxes[mine, low], boxes[mine, high] = side - boxes[mine, high], side - boxes[mine, low]
        return images, owners, boxes, which


@lru_cache(maxsize=4)
def drawn(name: str, stream: int, count: int) -> Drawn:
    """Draw a split of a probe.

    Args:
        name: The probe.
        stream: 0 for training, 1 for validation.
        count: How many images.
    """
    probe = probe_named(name)
    scenes = [probe.draw(generator(0, stream, index)) for index in range(count)]
    things = [(index, thing, scene) for index, scene in enumerate(scenes) for thing in scene.things]
    gaps = [chebyshev(t.area, s.cues[0].area) if has_distance(probe) else -1 for _, t, s in things]
    return Drawn(
        torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes]),
        torch.tensor([index for index, _, _ in things]),
        torch.tensor([thing.area for _, thing, _ in things], dtype=torch.float32),
        torch.tensor([thing.far for _, thing, _ in things]),
        torch.tensor([thing.near for _, thing, _ in things]),
        torch.tensor(gaps),
    )


def has_distance(probe: Probe) -> bool:
    """Tell whether a probe varies how far its cue is, so that accuracy has a curve."""
    return probe.name == "reach"


def train(
    run: ProbeRun, instrument: Instrument, told: Callable[[int, float], None], *, start: int | None = None
) -> ProbeRecord:
    """Carry out a run.

    Args:
        run: Which.
        instrument: How.
        told: Called after each epoch with its number, from 1, and the accuracy.
        start: Seed of the initial weights; None takes the run's, which then is that of the order alone.

    Raises:
        RecipeError: If the mechanism cannot be read.
        OptionError: If it cannot be built.
        UnknownNameError: If there is no such probe.
        FloatingPointError: If the detector gives numbers that are not finite.
    """
    started = time.process_time()
    parts = [] if run.mechanism == NONE else [one_graft(instrument.base, run.mechanism, instrument.place)]
    seed = run.seed if start is None else start
    detector = ArrayDetector(instrument.base, parts, classes=2, seed=seed, gains=instrument.gains)
    seen = drawn(run.probe, 1, instrument.validation)
    right, curve = torch.zeros(0), []
    for epoch in _epochs(detector, run, instrument):
        right = _right(detector, seen, control=run.control)
        curve.append(round(float(right.float().mean()), 4))
        told(epoch, curve[-1])
        if curve[-1] >= instrument.enough:
            break
    where = environment()
    first = next((epoch for epoch, accuracy in enumerate(curve, 1) if accuracy >= instrument.learned), None)
    return ProbeRecord(
        instrument=instrument.hash,
        **asdict(run),
        accuracy=curve[-1],
        ap50=round(_ap50(detector, seen, control=run.control), 2),
        steps=None if first is None else first * instrument.steps,
        curve=tuple(curve),
        reach=_by_distance(seen.gaps, right),
        parameters=detector.grafted_parameters,
        seconds=round(time.process_time() - started, 1),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=dict(where.versions),
        device=where.device,
    )


def _epochs(detector: ArrayDetector, run: ProbeRun, instrument: Instrument) -> Iterator[int]:
    """Train, and yield the number of each epoch, from 1, when it is done."""
    data = drawn(run.probe, 0, instrument.images)
    labels = data.labels(control=run.control)
    parameters = [p.requires_grad_(True) for p in detector.model.parameters() if p.is_floating_point()]
    large, small = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": large, "weight_decay": instrument.decay}]
    optimizer = torch.optim.AdamW([*groups, {"params": small, "weight_decay": 0.0}])
    # A generator of its own: what a mechanism draws, for dropout say, changes neither order nor flips.
    order = torch.Generator().manual_seed(run.seed)
    step = 0
    for epoch in range(1, instrument.epochs + 1):
        for chosen in torch.randperm(instrument.images, generator=order).split(instrument.batch):  # type: ignore[no-untyped-call]
            flips = torch.rand(len(chosen), len(SIDES), generator=order) < 0.5
            images, owners, boxes, which = data.batch(chosen, flips)
            for group in optimizer.param_groups:
                group["lr"] = instrument.rate(step)
            optimizer.zero_grad()
            detector.loss(images, owners, boxes, labels[which]).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, instrument.clip)
            optimizer.step()
            step += 1
        yield epoch


def _right(detector: ArrayDetector, seen: Drawn, *, control: bool) -> Tensor:
    """Tell of each object whether its class is the stronger one in the cell of its centre."""
    logits = torch.cat([detector.look(part)[0] for part in _parts(seen.images)])
    # The stronger of two NaN is the first class, at chance like one that learned nothing.
    if not logits.isfinite().all():
        raise FloatingPointError("the detector gives numbers that are not finite: the run diverged and is not counted")
    column, row = ((seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2 / detector.stride).long().T
    return logits[seen.owners, :, row, column].argmax(1) == seen.labels(control=control)


def _ap50(detector: ArrayDetector, seen: Drawn, *, control: bool) -> float:
    """Return the AP at an overlap of .5, in points."""
    side = seen.images.shape[-1]
    sizes = (seen.boxes[:, 2:] - seen.boxes[:, :2]).tolist()
    rows = zip(seen.owners.tolist(), seen.labels(control=control).tolist(), seen.boxes.tolist(), sizes, strict=True)
    size = {"width": side, "height": side}
    truth = {
        "images": [{"id": image, "file_name": str(image), **size} for image in range(len(seen.images))],
        "categories": [{"id": 0, "name": "first"}, {"id": 1, "name": "second"}],
        "annotations": [
            {"id": index, "image_id": image, "category_id": label, "bbox": [*box[:2], *wide], "area": math.prod(wide),
             "iscrowd": 0}
            for index, (image, label, box, wide) in enumerate(rows, 1)
        ],
    }  # fmt: skip
    boxes = [found for part in _parts(seen.images) for found in detector.look(part)[1]]
    predictions = [
        {"image_id": image, "category_id": int(label), "score": score, "bbox": [left, top, right - left, bottom - top]}
        for image, found in enumerate(boxes)
        for left, top, right, bottom, score, label in found.tolist()
    ]
    return 100 * evaluate(truth, predictions).numbers["AP50"]


def _parts(images: Tensor) -> list[Tensor]:
    """Return images of 0 to 1, a few at a time."""
    return [images[at : at + LOOKED_AT].float() / 255 for at in range(0, len(images), LOOKED_AT)]


def _by_distance(gaps: Tensor, right: Tensor) -> tuple[tuple[int, int, int], ...]:
    """Count objects and right ones in bins of distance."""
    bins = gaps.div(BIN, rounding_mode="floor")
    known = sorted(set(bins[gaps >= 0].int().tolist()))
    return tuple((one * BIN, int((bins == one).sum()), int(right[bins == one].sum())) for one in known)
