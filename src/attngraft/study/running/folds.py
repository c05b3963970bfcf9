"""A validation fold for each seed: the images of both splits, dealt again, so that the verdict covers the split too.

Images are dealt by a checksum of their names, so that they lie in the same fold on every machine, and images of one
group (patient, video, scene) lie in one fold. A fold is a folder of links, with a ``data.yaml`` that Ultralytics reads;
the data set itself is not touched.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from attngraft._core.errors import DataError
from attngraft._core.files import link_or_copy, write_text
from attngraft._core.locks import held
from attngraft.coco.files import read_json
from attngraft.coco.metrics import needed_classes
from attngraft.study.layout import FOLDS
from attngraft.study.plan import Plan

OWN_PLACES = ("path", "train", "val", "test", "minival", "masks_dir", "download", "yaml_file")
"""Keys of a data file that say where things lie; a fold has its own. All others, as ``channels``, are the data's."""

CLASS = re.compile(r"^\s*(\d+)(?:\.0*)?\s", re.MULTILINE)
"""The class of each line of labels."""


def fold_of(plan: Plan, seed: int) -> int | None:
    """Return the fold that the runs of a seed are validated on; None where the plan has no folds."""
    return None if plan.folds is None else (seed - plan.first_seed) % plan.folds


def deal(names: Sequence[str], folds: int, group: str | None = None) -> list[int]:
    """Deal images into folds of nearly equal sizes.

    Args:
        names: File names of the images.
        folds: How many folds.
        group: A regular expression; what its first group matches in a name is the name of the image's group.

    Returns:
        The fold of each image.

    Raises:
        DataError: If there are fewer groups than folds, or a name has no group.

    Example:
        >>> deal(["a.png", "b.png", "c.png", "d.png"], 2)
        [0, 1, 0, 1]
        >>> deal(["ann-1.png", "ann-2.png", "bob-1.png"], 2, "([a-z]+)-")
        [0, 0, 1]
    """
    units = groups(names, group)
    sizes = {unit: units.count(unit) for unit in dict.fromkeys(units)}
    if len(sizes) < folds:
        raise DataError(f"{folds} folds need as many images or groups of images, got {len(sizes)}; lower folds")
    filled = [0] * folds
    home = {}
    for unit in sorted(sizes, key=lambda unit: (-sizes[unit], hashlib.sha256(unit.encode()).hexdigest())):
        home[unit] = filled.index(min(filled))
        filled[home[unit]] += sizes[unit]
    return [home[unit] for unit in units]


def groups(names: Sequence[str], group: str | None) -> list[str]:
    """Name the group of each image: the image itself where no group is asked for.

    Raises:
        DataError: If a name has no group.
    """
    if group is None:
        return list(names)
    found = [re.search(group, name) for name in names]
    for name, match in zip(names, found, strict=True):
        if match is None:
            raise DataError(f"the image {name} has no group by group: {group}; correct the expression")
    return [match[1] for match in found if match]


def require_units(plan: Plan) -> None:
    """Require that a plan's images can be dealt and drawn, before anything is trained on them.

    Args:
        plan: The plan; its data are on this machine.

    Raises:
        DataError: If a name has no group, there are too few images or groups for the folds or for an error of the
            images, or the split or a fold has no object that the metric counts.
    """
    if plan.command is not None:
        files = [str(image["file_name"]) for image in read_json(Path(plan.data), dict).get("images", [])]
        names = [Path(file).name for file in files]
    elif plan.folds is not None:
        images, folds = _dealt(plan)
        for fold in range(plan.folds):
            part = [image for image, its in zip(images, folds, strict=True) if its == fold]
            _require_objects(plan, part, f"fold {fold} of {plan.folds} has no", "lower folds, or leave them out")
        return
    else:
        from attngraft.yolo.splits import split_images

        images = split_images(plan.data, plan.split)
        _require_objects(plan, images, f"the split {plan.split!r} has no", "name another split, or label its images")
        names = [path.name for path in images]
    if len(names) == 1:
        raise DataError(
            f"there is one image to evaluate on, {names[0]}, and how much hangs on the images takes two or more to "
            f"tell; {plan.data} needs more of them"
        )
    if plan.group is not None and len(set(groups(names, plan.group))) == 1:
        raise DataError(
            f"group: {plan.group} puts all {len(names)} images into one group, and how much hangs on the images takes "
            "two or more to tell; correct the expression"
        )


def fold_data(plan: Plan, folder: Path, seed: int) -> str:
    """Lay out the fold of a seed, and return its ``data.yaml``; the plan's own data where it has no folds.

    Args:
        plan: The plan.
        folder: The study's folder.
        seed: The seed.

    Raises:
        DataError: If the data cannot be dealt.
    """
    fold = fold_of(plan, seed)
    if fold is None:
        return plan.data
    home = folder / FOLDS / str(fold)
    file = home / "data.yaml"
    home.mkdir(parents=True, exist_ok=True)
    with held(Path(f"{home}.lock")):  # runs that go on at once share folds
        if not file.is_file():
            _lay_out(plan, home, fold)
    return str(file)


def in_fold(number: int, name: str) -> str:
    """Return the name that an image has in a fold: images of several folders may share theirs."""
    return f"{number:06d}-{name}"


def before_fold(name: str) -> str:
    """Return the name that an image has in the data set, of the one that `in_fold` gave it.

    Example:
        >>> before_fold(in_fold(7, "ann-1.png"))
        'ann-1.png'
    """
    return name.partition("-")[2]


def _dealt(plan: Plan) -> tuple[list[Path], list[int]]:
    """Return the images of the training and validation splits, and the fold of each."""
    from attngraft.yolo.splits import split_images

    assert plan.folds is not None
    images = [path for split in ("train", "val") for path in split_images(plan.data, split)]
    names = [f"{path.parent.name}/{path.name}" for path in images]
    if len(set(names)) < len(names):
        root = os.path.commonpath(images)  # not the whole path: a fold is the same in every place
        names = [path.relative_to(root).as_posix() for path in images]
    return images, deal([path.name for path in images] if plan.group else names, plan.folds, plan.group)


def _require_objects(plan: Plan, images: Sequence[Path], lack: str, remedy: str) -> None:
    """Require objects that the metric counts: without any it has no value, which would be found after training."""
    from attngraft.yolo.host import read_data

    numbers = {str(name): number for number, name in read_data(plan.data)["names"].items()}
    wanted: list[str | None] = [*needed_classes(plan.metric)]
    for name in wanted or [None]:
        if not any(_labelled(image) if name is None else numbers[name] in _labelled(image) for image in images):
            what = "object" if name is None else f"object of the class {name!r}"
            raise DataError(f"{lack} {what}, so that {plan.metric} has no value there; {remedy}")


def _labelled(image: Path) -> set[int]:
    """Return the classes that an image has labels of."""
    label = _label(image)
    return {int(number) for number in CLASS.findall(label.read_text(encoding="utf-8"))} if label.is_file() else set()


def _lay_out(plan: Plan, home: Path, fold: int) -> None:
    from attngraft.yolo.host import read_data

    images, folds = _dealt(plan)
    for number, (image, its) in enumerate(zip(images, folds, strict=True)):
        split = "val" if its == fold else "train"
        own = in_fold(number, image.name)
        _link(image, home / "images" / split / own)
        label = _label(image)
        if label.is_file():
            _link(label, home / "labels" / split / Path(own).with_suffix(".txt"))
    kept = {key: value for key, value in read_data(plan.data).items() if key not in OWN_PLACES}
    content = {"train": "images/train", "val": "images/val", **kept}
    write_text(home / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False))


def _label(image: Path) -> Path:
    """Return where Ultralytics looks for the labels of an image: the last ``images`` of its path becomes ``labels``."""
    head, found, tail = str(image).rpartition(f"{os.sep}images{os.sep}")
    return Path(f"{head}{os.sep}labels{os.sep}{tail}" if found else str(image)).with_suffix(".txt")


def _link(source: Path, target: Path) -> None:
    """Put a file into a fold, unless it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        link_or_copy(source, target)
