"""Write a generated data set to a folder, in the layout that Ultralytics reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
from numpy.random import Generator

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft.data.factor_scenes import FACTORS, draw_factors, factor_scene
from attngraft.data.painting import COLOURS, Area, Picture
from attngraft.data.probes import PROBES
from attngraft.data.scenes import BEACON_SIDE, LEGEND_SIDE, Scene, Thing, beacon_scene, generator, legend_scene

Rule = Literal["global", "local", "legend", "legend_local"]
Factor = Literal["colour", "shape", "count", "corner", "texture"]

VERSION = 1
"""Raised with every change that alters a pixel or a label, so that an older set is not taken for the same one."""


class _Drawn(NamedTuple):
    """One image: its pixels, and the class and box of each object."""

    picture: Picture
    objects: list[tuple[int, Area]]


class _Kind(NamedTuple):
    """What a rule stands for: how its images and objects are drawn, at which side, and the names of the classes."""

    draw: Callable[[Generator, int], _Drawn]
    side: int
    names: tuple[str, ...] = COLOURS


def _of_thing(scene: Callable[[Generator, int], Scene], label: Callable[[Thing], int]) -> Callable[..., _Drawn]:
    """Let the near class of an object, or its far one, be its class."""

    def draw(rng: Generator, side: int) -> _Drawn:
        drawn = scene(rng, side)
        return _Drawn(drawn.image, [(label(thing), thing.area) for thing in drawn.things])

    return draw


def _valued(factor: str) -> Callable[..., _Drawn]:
    """Let the value of a factor be the class of every object."""

    def draw(rng: Generator, side: int) -> _Drawn:
        drawn = factor_scene(rng, side)
        return _Drawn(drawn.image, [(drawn.factors[factor], area) for area in drawn.areas])

    return draw


_BEACONS: dict[str, _Kind] = {
    "global": _Kind(_of_thing(beacon_scene, lambda thing: thing.far), BEACON_SIDE),
    "local": _Kind(_of_thing(beacon_scene, lambda thing: thing.near), BEACON_SIDE),
    "legend": _Kind(_of_thing(legend_scene, lambda thing: thing.far), LEGEND_SIDE),
    "legend_local": _Kind(_of_thing(legend_scene, lambda thing: thing.near), LEGEND_SIDE),
}
_FACTORS: dict[str, _Kind] = {name: _Kind(_valued(name), BEACON_SIDE, values) for name, values in FACTORS.items()}
_CONTROL = "_control"
_PROBES: dict[str, _Kind] = {}
for _probe in PROBES.values():
    _PROBES[_probe.name] = _Kind(_of_thing(_probe.scene, lambda thing: thing.far), _probe.side, _probe.classes)
    _PROBES[_probe.name + _CONTROL] = _Kind(
        _of_thing(_probe.scene, lambda thing: thing.near), _probe.side, _probe.control_classes
    )


def beacons(
    folder: str | os.PathLike[str],
    *,
    rule: Rule = "global",
    train: int = 800,
    val: int = 200,
    side: int | None = None,
    seed: int = 0,
) -> Path:
    """Generate a small detection data set on which long-range attention decides, or its control.

    Grey objects, each with a red or green dot, and far from all of them a beacon that is red or green too. A rule and
    its control differ in the classes alone: ``"global"`` and ``"local"`` have the same images byte for byte, and so
    have ``"legend"`` and ``"legend_local"``. The same arguments give the same files in every run. A folder that
    already holds this set is used as it is; what an interrupted run left out is added.

    Args:
        folder: Where to write; made if it is not there, and must be empty otherwise.
        rule: What names an object's class. ``"global"``: the colour of the beacon. ``"local"``: the colour of the
            object's own dot. ``"legend"``: the colour of the object's glyph in a strip of four, redrawn for each
            image. ``"legend_local"``: the object's own dot again, on the images of the legend.
        train: Number of training images.
        val: Number of validation images.
        side: Width and height in pixels, a multiple of 32; everything grows with it. None takes the least there is: 96
            for the beacon, 128 for the legend.
        seed: Which of the many such sets.

    Returns:
        The path of the ``data.yaml``.

    Raises:
        OptionError: If the rule is unknown or a number cannot work.
        DataError: If the folder holds something else, or a set made with other arguments.
        OutputError: If the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(beacons(folder, rule="local", train=2, val=1).name)
        data.yaml
    """
    return _made("beacons", _BEACONS, folder, rule, side, {"train": train, "val": val}, seed)


def factors(
    folder: str | os.PathLike[str],
    *,
    rule: Factor = "shape",
    train: int = 800,
    val: int = 200,
    side: int | None = None,
    seed: int = 0,
) -> Path:
    """Generate a small detection data set of five independent factors, one of which names the class.

    Objects of one shape, one to three of them, and far from them a beacon of one of six colours in one of four corners,
    on a background of one of four textures. The images are the same byte for byte whichever factor is the rule. What
    each image shows is in ``factors.jsonl``, a line an image; otherwise as `beacons`.

    Args:
        folder: Where to write; made if it is not there, and must be empty otherwise.
        rule: The factor that names the class of an image's objects: ``"colour"`` of the beacon, ``"shape"``,
            ``"count"``, ``"corner"`` of the beacon, or ``"texture"``.
        train: Number of training images.
        val: Number of validation images.
        side: Width and height in pixels, a multiple of 32; everything grows with it. None takes 96, the least.
        seed: Which of the many such sets.

    Returns:
        The path of the ``data.yaml``.

    Raises:
        OptionError: If the rule is unknown or a number cannot work.
        DataError: If the folder holds something else, or a set made with other arguments.
        OutputError: If the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = factors(folder, train=2, val=1)
        ...     print(data.with_name("factors.jsonl").read_text().splitlines()[0])
        {"image": "images/train/00000.png", "colour": ...}
    """
    counts = {"train": train, "val": val}
    path = _made("factors", _FACTORS, folder, rule, side, counts, seed)
    lines = path.with_name("factors.jsonl")
    if not lines.exists():
        try:
            _write(lines, "".join(json.dumps(row) + "\n" for row in _factor_rows(counts, seed)))
        except OSError as error:
            raise OutputError(f"cannot write the factors set to {folder}: {error.strerror or error}") from error
    return path


def probe_data(
    folder: str | os.PathLike[str],
    *,
    rule: str = "reach",
    train: int = 800,
    val: int = 250,
    seed: int = 0,
) -> Path:
    """Generate the data set of a probe, or of its control, to train any detector on.

    A probe and its control have the same images byte for byte, and the same boxes; only the classes differ. Otherwise
    as `beacons`.

    Args:
        folder: Where to write; made if it is not there, and must be empty otherwise.
        rule: A probe of `attngraft.data.PROBES`, such as ``"reach"``, or its control, ``"reach_control"``: there an
            object's own pixels tell its class.
        train: Number of training images.
        val: Number of validation images.
        seed: Which of the many such sets.

    Returns:
        The path of the ``data.yaml``.

    Raises:
        OptionError: If the rule is unknown or a number cannot work.
        DataError: If the folder holds something else, or a set made with other arguments.
        OutputError: If the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(probe_data(folder, rule="reach_control", train=2, val=1).name)
        data.yaml
    """
    return _made("probe_data", _PROBES, folder, rule, None, {"train": train, "val": val}, seed)


def _factor_rows(counts: dict[str, int], seed: int) -> Iterator[dict[str, str]]:
    """Say what each image shows, without redrawing it."""
    for stream, (split, count) in enumerate(counts.items()):
        for index in range(count):
            drawn = draw_factors(generator(seed, stream, index))
            yield {"image": _image(split, index)} | {name: FACTORS[name][value] for name, value in drawn.items()}


def _made(
    name: str,
    kinds: dict[str, _Kind],
    folder: str | os.PathLike[str],
    rule: str,
    side: int | None,
    counts: dict[str, int],
    seed: int,
) -> Path:
    """Make a set, or use the one that is there."""
    if rule not in kinds:
        raise OptionError(f"{name} needs rule to be one of {', '.join(map(repr, kinds))}, got {rule!r}")
    kind = kinds[rule]
    side = kind.side if side is None else side
    _check(name, rule, kind, side=side, **counts, seed=seed)
    mark = {"generator": f"attngraft.data.{name}", "version": VERSION, "rule": rule, **counts}
    mark |= {"side": side, "seed": seed}
    folder = Path(folder).expanduser().absolute()
    try:
        if not _claimed(name, folder, mark):
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / f"{name}.json", json.dumps(mark, indent=2) + "\n")
        return _fill(folder, kind, counts, side, seed)
    except OSError as error:
        raise OutputError(f"cannot write the {name} set to {folder}: {error.strerror or error}") from error


def _check(name: str, rule: str, kind: _Kind, *, side: int, **numbers: int) -> None:
    least = {"side": kind.side, "train": 1, "val": 1, "seed": 0}
    for key, value in {"side": side, **numbers}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least[key]:
            kind_of = "a positive integer" if least[key] == 1 else f"an integer of {least[key]} or more"
            raise OptionError(f"{name} needs {key} to be {kind_of} for rule={rule!r}, got {value!r}")
    if side % 32:
        near = side - side % 32
        raise OptionError(f"{name} needs side to be a multiple of 32, got {side}; use {near} or {near + 32}")


def _claimed(name: str, folder: Path, mark: dict[str, Any]) -> bool:
    """Say whether the folder is ours with the same arguments, or refuse to touch what it holds."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    found = _read_mark(folder / f"{name}.json")
    if found is None:
        raise DataError(f"{folder} is not empty and holds no {name} set; give an empty or a new folder")
    differ = [f"{key}={found.get(key)!r}, not {mark[key]!r}" for key in mark if found.get(key) != mark[key]]
    if differ:
        raise DataError(f"{folder} holds a {name} set with {', '.join(differ)}; give another folder")
    return True


def _read_mark(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _fill(folder: Path, kind: _Kind, counts: dict[str, int], side: int, seed: int) -> Path:
    """Write what is not there yet; ``data.yaml`` comes last, so that a set that was cut short cannot be trained on."""
    for stream, (split, count) in enumerate(counts.items()):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture, label = folder / _image(split, index), labels / f"{index:05d}.txt"
            if not (picture.exists() and label.exists()):
                drawn = kind.draw(generator(seed, stream, index), side)
                _write(picture, _png(drawn.picture))
                _write(label, _label(drawn, side))
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(kind.names))
    path = folder / "data.yaml"
    if not path.exists():
        _write(path, f"train: images/train\nval: images/val\nnames:\n{names}")
    return path


def _image(split: str, index: int) -> str:
    return f"images/{split}/{index:05d}.png"


def _png(picture: Picture) -> bytes:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def _label(drawn: _Drawn, side: int) -> str:
    lines = []
    for label, (left, top, right, bottom) in drawn.objects:
        numbers = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        lines.append(f"{label} " + " ".join(f"{number / side:.6f}" for number in numbers) + "\n")
    return "".join(lines)


def _write(path: Path, content: str | bytes) -> None:
    """Write a whole file or none, so that another process that makes the same set never reads half an image."""
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
