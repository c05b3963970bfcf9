"""How networks are trained: the papers' recipes, and recipes for little data on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from attngraft.models._registry import Task

Preset = Literal["small", "paper"]
Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["cosine", "steps"]


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError("the smaller comes first")
    return values


# The text at the end of each type is what an error says that a value needs to be.
PositiveInt = Annotated[int, Field(strict=True, ge=1), "a positive integer"]
NaturalInt = Annotated[int, Field(strict=True, ge=0), "an integer of 0 or more"]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False), "a number above 0"]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), "a number of 0 or more"]
Fraction = Annotated[float, Field(strict=True, ge=0, lt=1), "a number from 0 to below 1"]
Part = Annotated[float, Field(strict=True, gt=0, le=1), "a number above 0 and up to 1"]
Flag = Annotated[bool, Field(strict=True), "True or False"]
Range = Annotated[
    tuple[Positive, Positive],
    Field(strict=True),
    AfterValidator(_rising),
    "two numbers above 0, the smaller first, as in 0.8,1.25",
]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A recipe of training.

    Attributes:
        epochs: Passes over the data.
        batch: Images a step, over all devices and accumulated parts.
        imgsz: Side of the images in pixels: of the square crop (classify), of the square that the image is fitted
            into (detect, segment), of the low-resolution patch (superres).
        lr: Highest learning rate, for ``batch`` images a step.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        momentum: Of SGD, and beta 1 of Adam.
        beta2: Of Adam and AdamW.
        weight_decay: Of weights of two axes and more; biases, norms and scales have none.
        schedule: ``cosine`` to zero, or ``steps``, halved after 50, 80, 90 and 95 % of the run.
        warmup: Part of the run in which the learning rate rises from zero.
        clip: Largest norm of the gradient; 0 does not clip.
        ema: Decay of the weights' moving average, which is what is validated and kept; 0 keeps none. It rises from
            0.1 in the first steps, so that short runs have an average too.
        label_smoothing: Of the classes.
        randaugment: Magnitude of RandAugment, two operations an image; 0 leaves it out.
        crop: Least part of the image's area in a random crop (classify).
        jitter: Range of random scales (detect, segment).
        flip: Whether images are mirrored at random.
    """

    epochs: PositiveInt
    batch: PositiveInt
    imgsz: PositiveInt
    lr: Positive
    optimizer: Optimizer = "adamw"
    momentum: Fraction = 0.9
    beta2: Fraction = 0.999
    weight_decay: NotNegative = 0.0
    schedule: Schedule = "cosine"
    warmup: Fraction = 0.0
    clip: NotNegative = 0.0
    ema: Fraction = 0.0
    label_smoothing: Fraction = 0.0
    randaugment: NaturalInt = 0
    crop: Part = 1.0
    jitter: Range = (1.0, 1.0)
    flip: Flag = True


def _paper() -> dict[Task, Settings]:
    """Return the recipes of BoTNet (classify, detect, segment) and HAT (superres).

    What the papers do not say is ours: the learning rates 0.1 for 256 images (classify) and 0.02 for 16 (detect), the
    weight decays, the lengths of the warm-up and the strength of RandAugment. HAT's 500 000 steps of 32 patches are
    4630 passes over the 3450 images of its data.
    """
    detect = Settings(
        epochs=72, batch=64, imgsz=1024, lr=0.08, optimizer="sgd", weight_decay=4e-5, warmup=0.01, jitter=(0.1, 2.0)
    )
    return {
        "classify": Settings(
            epochs=350,
            batch=4096,
            imgsz=224,
            lr=1.6,
            optimizer="sgd",
            weight_decay=5e-5,
            warmup=0.015,
            ema=0.9999,
            label_smoothing=0.1,
            randaugment=9,
            crop=0.08,
        ),
        "detect": detect,
        "segment": detect,
        "superres": Settings(
            epochs=4630, batch=32, imgsz=64, lr=2e-4, optimizer="adam", beta2=0.99, schedule="steps", ema=0.999
        ),
    }


def _small() -> dict[Task, Settings]:
    """Return recipes for hundreds or thousands of images, one device and no pretrained weights."""
    detect = Settings(
        epochs=50,
        batch=4,
        imgsz=320,
        lr=3e-4,
        weight_decay=0.01,
        warmup=0.05,
        clip=5.0,
        ema=0.998,
        jitter=(0.7, 1.4),
    )
    return {
        "classify": Settings(
            epochs=60,
            batch=64,
            imgsz=128,
            lr=1e-3,
            weight_decay=0.05,
            warmup=0.1,
            clip=1.0,
            ema=0.998,
            label_smoothing=0.1,
            randaugment=5,
            crop=0.35,
        ),
        "detect": detect,
        "segment": detect,
        "superres": Settings(
            epochs=200, batch=16, imgsz=32, lr=5e-4, optimizer="adam", beta2=0.99, warmup=0.02, clip=1.0, ema=0.998
        ),
    }


PRESETS: Mapping[Preset, Mapping[Task, Settings]] = MappingProxyType({"small": _small(), "paper": _paper()})
