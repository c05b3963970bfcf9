"""Write the beacons data set to a folder, in the layout that Ultralytics reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import cv2
from numpy.random import Generator

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft.data.scenes import BEACON_SIDE, COLOURS, LEGEND_SIDE, Scene, Thing, beacon_scene, generator, legend_scene

Rule = Literal["global", "local", "legend", "legend_local"]

VERSION = 1
"""Raised with every change that alters a pixel or a label, so that an older set is not taken for the same one."""

_MARK = "beacons.json"


class _Kind(NamedTuple):
    """What a rule stands for: how its images are drawn, at which side, and which colour of an object is its class."""

    scene: Callable[[Generator, int], Scene]
    side: int
    label: Callable[[Thing], int]


_KINDS: dict[str, _Kind] = {
    "global": _Kind(beacon_scene, BEACON_SIDE, lambda thing: thing.far),
    "local": _Kind(beacon_scene, BEACON_SIDE, lambda thing: thing.near),
    "legend": _Kind(legend_scene, LEGEND_SIDE, lambda thing: thing.far),
    "legend_local": _Kind(legend_scene, LEGEND_SIDE, lambda thing: thing.near),
}


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
            object's own dot. ``"legend"``: the colour of the object's glyph in a strip of four, drawn anew for each
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
    kind = _kind(rule)
    side = kind.side if side is None else side
    _check(rule, kind, side=side, train=train, val=val, seed=seed)
    mark = {"generator": "attngraft.data.beacons", "version": VERSION, "rule": rule}
    mark |= {"train": train, "val": val, "side": side, "seed": seed}
    folder = Path(folder).expanduser().absolute()
    try:
        if not _claimed(folder, mark):
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / _MARK, json.dumps(mark, indent=2) + "\n")
        return _fill(folder, kind, {"train": train, "val": val}, side, seed)
    except OSError as error:
        raise OutputError(f"cannot write the beacons set to {folder}: {error.strerror or error}") from error


def _kind(rule: str) -> _Kind:
    if rule not in _KINDS:
        raise OptionError(f"beacons needs rule to be one of {', '.join(map(repr, get_args(Rule)))}, got {rule!r}")
    return _KINDS[rule]


def _check(rule: str, kind: _Kind, *, side: int, **numbers: int) -> None:
    least = {"side": kind.side, "train": 1, "val": 1, "seed": 0}
    for name, value in {"side": side, **numbers}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least[name]:
            kind_of = "a positive integer" if least[name] == 1 else f"an integer of {least[name]} or more"
            raise OptionError(f"beacons needs {name} to be {kind_of} for rule={rule!r}, got {value!r}")
    if side % 32:
        near = side - side % 32
        raise OptionError(f"beacons needs side to be a multiple of 32, got {side}; use {near} or {near + 32}")


def _claimed(folder: Path, mark: dict[str, Any]) -> bool:
    """Say whether the folder is ours with the same arguments, or refuse to touch what it holds."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    found = _read_mark(folder / _MARK)
    if found is None:
        raise DataError(f"{folder} is not empty and holds no beacons set; give an empty or a new folder")
    differ = [f"{key}={found.get(key)!r}, not {mark[key]!r}" for key in mark if found.get(key) != mark[key]]
    if differ:
        raise DataError(f"{folder} holds a beacons set with {', '.join(differ)}; give another folder")
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
            picture, label = images / f"{index:05d}.png", labels / f"{index:05d}.txt"
            if not (picture.exists() and label.exists()):
                scene = kind.scene(generator(seed, stream, index), side)
                _write(picture, _png(scene))
                _write(label, _label(scene, kind, side))
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(COLOURS))
    path = folder / "data.yaml"
    if not path.exists():
        _write(path, f"train: images/train\nval: images/val\nnames:\n{names}")
    return path


def _png(scene: Scene) -> bytes:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(scene.picture, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def _label(scene: Scene, kind: _Kind, side: int) -> str:
    lines = []
    for thing in scene.things:
        left, top, right, bottom = thing.area
        numbers = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        lines.append(f"{kind.label(thing)} " + " ".join(f"{number / side:.6f}" for number in numbers) + "\n")
    return "".join(lines)


def _write(path: Path, content: str | bytes) -> None:
    """Write a whole file or none, so that another process that makes the same set never reads half an image."""
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
