"""The options of a training run: checked before anything is built, every default written out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from attngraft._core.docstrings import entries
from attngraft._core.errors import CheckpointError, FitError, suggest
from attngraft._core.files import write_text
from attngraft._core.yaml_files import read_yaml
from attngraft.fit.data.rules import is_number
from attngraft.fit.presets import PRESETS, NaturalInt, PositiveInt, Preset, Settings
from attngraft.models._registry import ModelRecord, Task, models, names, record

ALSO_CALLED = {"learning_rate": "lr", "device": "devices", "gpus": "devices", "pretrained": "weights"}
"""What other programs call some options, too far from our word to be taken for it."""

HOST = re.compile(r"(yolo|rtdetr|may(-|$))|[+@]")
"""What names models of YOLO's and recipes begin with, or hold."""

DETECTORS: Mapping[str, str] = {"detect": "fasterrcnn", "segment": "maskrcnn"}

FILE = "fit.yaml"
MODEL_PREFIX = "model."

TASKS_OF: Mapping[str, tuple[Task, ...]] = {
    **dict.fromkeys(("label_smoothing", "randaugment", "crop"), ("classify",)),
    **dict.fromkeys(("jitter", "val", "images"), ("detect", "segment")),
    "scale": ("superres",),
}
"""The options that only some tasks have."""

UNUSED: Mapping[str, tuple[str, ...]] = {"sgd": ("beta2",)}
"""The options that an optimizer does not have."""


Devices = Annotated[int | str | tuple[int, ...], "a number of devices, their numbers, or auto"]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32), "an integer from 0 to below 2**32"]


def _workers() -> int:
    return min(8, (os.cpu_count() or 1) // 2)


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """Everything that decides a training run; make one with `Options.of`, which fills a preset in.

    Attributes:
        model: Name of the network, one of ``attngraft.models.names()``.
        data: Folder (classify, superres), COCO's JSON or its folder, or YOLO's ``data.yaml`` (detect, segment).
        task: What the network does.
        preset: Where what is not given comes from, ``small`` or ``paper``.
        model_options: What the network's function takes.
        val: COCO's JSON of the validation split, where it is not beside the one of training.
        images: Folder that the file names in COCO's JSON start from, where it is not beside it.
        scale: How many times larger the images become (superres).
        weights: A checkpoint to initialize from; layers that it lacks and a head for other classes are re-initialized.
        accumulate: Parts that a batch is cut into, where it does not fit into memory.
        val_every: Epochs from one validation to the next.
        precision: Lightning's word: ``32-true``, ``16-mixed``, ``bf16-mixed``.
        accelerator: Lightning's word: ``auto``, ``cpu``, ``gpu``, ...
        devices: How many devices, or which.
        workers: Processes a device that load images.
        seed: Of weights, order and augmentation.
    """

    model: str
    data: str
    task: Task
    preset: Preset = "small"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    val: str | None = None
    images: str | None = None
    scale: PositiveInt = 2
    weights: str | None = None
    accumulate: PositiveInt = 1
    val_every: PositiveInt = 1
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: Devices = 1
    workers: NaturalInt = field(default_factory=_workers)
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, (adapter, words) in _checks().items():
            try:
                adapter.validate_python(getattr(self, name))
            except ValidationError:
                raise FitError(f"{name} needs to be {words}, got {getattr(self, name)!r}") from None
        found = record(self.model).task
        if self.task != found:
            detector = f"{DETECTORS.get(self.task)}_{self.model}"
            instead = f"take model={detector}" if detector in models() else "leave task out"
            raise FitError(f"{self.model} is a network to {found}, and the task given is {self.task!r}; {instead}")
        if self.val_every > self.epochs:
            raise FitError(f"val_every={self.val_every} is more than epochs={self.epochs}: nothing would be validated")
        if self.batch % self.accumulate:
            raise FitError(f"batch={self.batch} cannot be cut into accumulate={self.accumulate} equal parts")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """Make options of keys and values; the preset gives what is left out.

        The preset's learning rate is for its own batch and follows a given batch in proportion.

        Raises:
            FitError: If a key is unknown (names the nearest) or a value cannot work.
            UnknownNameError: If there is no such model.

        Example:
            >>> from attngraft.models import names
            >>> Options.of({"model": "botnet50", "data": "flowers", "epoch": 3})
            Traceback (most recent call last):
            ...
            attngraft._core.errors.FitError: fit has no option 'epoch'; did you mean epochs?
        """
        given = {key: value for key, value in values.items() if not key.startswith(MODEL_PREFIX)}
        own = _nested({key.removeprefix(MODEL_PREFIX): values[key] for key in values if key.startswith(MODEL_PREFIX)})
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                near = f"did you mean {ALSO_CALLED[key]}?" if key in ALSO_CALLED else suggest(key, known)
                raise FitError(f"fit has no option {key!r}; {near}")
        for key in ("model", "data"):
            if not given.get(key):
                raise FitError(f"fit needs {key}, as in: attngraft fit model=botnet50 data=FOLDER epochs=50")
        task = given.setdefault("task", _network(str(given["model"])).task)
        recipe = _recipe(str(given.get("preset", "small")), task)
        _check_task(task, given)
        _check_optimizer(str(given.get("optimizer", recipe.optimizer)), given)
        if "lr" not in given and isinstance(given.get("batch"), int):
            given["lr"] = recipe.lr * given["batch"] / recipe.batch
        options = given.get("model_options", {})
        if not isinstance(options, Mapping):
            raise FitError(f"model_options needs to be a mapping, got {options!r}")
        given["model_options"] = {**options, **own}
        return cls(**{**asdict(recipe), **{key: _tidy(key, value) for key, value in given.items()}})

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Options:
        """Make options of what `plain` gave; it once gave those of other tasks too, which are left out."""
        task = record(str(values["model"])).task
        without = UNUSED.get(str(values.get("optimizer")), ())
        return cls.of(
            {k: value for k, value in values.items() if task in TASKS_OF.get(k, (task,)) and k not in without}
        )

    def changed(self, values: Mapping[str, Any]) -> Options:
        """Return these options with a few others.

        Raises:
            FitError: If a value cannot work, or the task has no such option.
        """
        _check_task(self.task, values)
        _check_optimizer(str(values.get("optimizer", self.optimizer)), values)
        return replace(self, **{key: _tidy(key, value) for key, value in values.items()})

    def plain(self) -> dict[str, Any]:
        """Return the options of the task as numbers, texts, lists and mappings only, as files hold them."""
        return {
            key: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            for key, value in ((f.name, getattr(self, f.name)) for f in fields(self))
            if self.task in TASKS_OF.get(key, (self.task,)) and key not in UNUSED.get(self.optimizer, ())
        }

    def save(self, folder: Path) -> None:
        """Write every option into a folder."""
        write_text(folder / FILE, yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True))

    @classmethod
    def load(cls, folder: Path) -> Options:
        """Read what `save` wrote.

        Raises:
            CheckpointError: If the folder has no such file, or one that cannot be read.
        """
        if not (folder / FILE).is_file():
            raise CheckpointError(f"{folder} is no folder of a training run: it has no {FILE}")
        try:
            return cls.stored(read_yaml(folder / FILE, error=CheckpointError))
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{folder / FILE} cannot be read ({error})") from error


@lru_cache(maxsize=1)
def _checks() -> dict[str, tuple[TypeAdapter[Any], str]]:
    """Return what checks each option, and what a value of it needs to be in words."""
    hints = get_type_hints(Options, include_extras=True)
    return {name: (TypeAdapter(hint), _words(hint)) for name, hint in hints.items()}


def _words(hint: Any) -> str:
    """Return what a type calls its values, which is written at the end of it."""
    said = [text for text in getattr(hint, "__metadata__", ()) if isinstance(text, str)]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    return said[0] if said else f"one of {', '.join(choices)}" if choices else "a text"


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the options of ``attngraft fit``, as `Options.save` writes them."""
    described = TypeAdapter(Options).json_schema()
    about = {
        **entries(Settings.__doc__ or "", "Attributes"),
        **entries(Options.__doc__ or "", "Attributes"),
    }
    for name, entry in described["properties"].items():
        entry["description"] = about[name]
    described["properties"]["model"]["enum"] = names()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **described,
        "title": "attngraft fit",
        "required": ["model", "data"],
        "additionalProperties": False,
        "patternProperties": {"^model\\..+$": {"description": "An option of the network, such as model.width."}},
    }


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Put options with points in their names, such as ``body_options.width``, into mappings.

    Raises:
        FitError: If one of them stands inside a value that is no mapping.
    """
    found: dict[str, Any] = {}
    for key, value in options.items():
        *outer, last = key.split(".")
        inside = found
        for name in outer:
            inside = inside.setdefault(name, {})
            if not isinstance(inside, dict):
                raise FitError(f"{MODEL_PREFIX}{key} stands inside {name}, which is {inside!r} and no mapping")
        inside[last] = value
    return found


def _network(name: str) -> ModelRecord:
    """Look up a network.

    Raises:
        FitError: If it is a YOLO.
        UnknownNameError: If there is none of that name.
    """
    if name not in models() and HOST.search(name):
        raise FitError(
            f"{name} is a YOLO, and fit trains the networks of the papers; use: attngraft train model={name}"
        )
    return record(name)


def _recipe(preset: str, task: Any) -> Settings:
    if preset not in get_args(Preset):
        raise FitError(f"preset needs to be one of {', '.join(get_args(Preset))}, got {preset!r}")
    recipes: Mapping[Any, Settings] = PRESETS[preset]  # type: ignore[index]
    if task not in recipes:
        raise FitError(f"task needs to be one of {', '.join(recipes)}, got {task!r}")
    return recipes[task]


def _check_task(task: Task, keys: Iterable[str]) -> None:
    """Require options that the task has.

    Raises:
        FitError: If one would do nothing.
    """
    for key in keys:
        if task not in TASKS_OF.get(key, (task,)):
            raise FitError(f"{key} is an option of {' and '.join(TASKS_OF[key])}, and this is to {task}; leave it out")


def _check_optimizer(optimizer: str, keys: Iterable[str]) -> None:
    """Require options that the optimizer has.

    Raises:
        FitError: If one would do nothing.
    """
    unused = [key for key in keys if key in UNUSED.get(optimizer, ())]
    if unused:
        raise FitError(f"{unused[0]} is no option of optimizer={optimizer}; leave it out, or take adam or adamw")


def _tidy(key: str, value: Any) -> Any:
    """Take what a command line or a file gives for what is meant."""
    if isinstance(value, list):
        return tuple(value)
    if key in TEXTS and value is not None:
        return str(value)
    return float(value) if key in FLOATS and isinstance(value, int) and is_number(value) else value


_TYPES = get_type_hints(Options)  # without what is annotated
TEXTS = frozenset(name for name, kind in _TYPES.items() if kind in (str, str | None))
FLOATS = frozenset(name for name, kind in _TYPES.items() if kind is float)
