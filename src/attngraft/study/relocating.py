"""Where a study's files lie after they, or the study's folder, were moved to another place or machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PureWindowsPath

from attngraft._core.errors import DataError, PlanError
from attngraft._core.files import write_text
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.layout import FOLDS
from attngraft.study.plan import Plan
from attngraft.study.running.folds import before_fold
from attngraft.study.running.records import Store


def relocate(store: Store, frozen: FrozenPlan, data: str | Path | None, base: str | Path | None) -> FrozenPlan:
    """Note where data or base lie now, and return the plan with them.

    Args:
        store: The study's folder.
        frozen: Its plan, with the places so far.
        data: The data file; None leaves it.
        base: The base's file; None leaves it.

    Raises:
        PlanError: If nothing is given.
        DataError: If a file is not there, or the images are not those that runs were evaluated on.
    """
    places = {key: str(Path(file).absolute()) for key, file in (("data", data), ("base", base)) if file is not None}
    if not places:
        raise PlanError("say what was moved where, as in: data=/new/place/data.yaml")
    for key, file in places.items():
        if not Path(file).is_file():
            raise DataError(f"{key}={file} is no file; name the one that the study used, in its new place")
    found = frozen.at(**places)
    if data is not None and frozen.plan.command is None:
        _require_images(store, found.plan)
    if data is not None:
        shutil.rmtree(store.folder / FOLDS, ignore_errors=True)  # links to the old place; laid out again by runs
    write_text(store.folder / FrozenPlan.MOVED, json.dumps({**FrozenPlan.places(store.folder), **places}, indent=1))
    return found


def require_files(plan: Plan, folder: Path) -> None:
    """Require the files that a study names by their place.

    Args:
        plan: Its plan.
        folder: The study's folder, as the user calls it.

    Raises:
        DataError: If one is not there.
    """
    for key, file in (("data", plan.data), ("base", plan.base)):
        absolute = any(kind(file).is_absolute() for kind in (Path, PureWindowsPath))  # begun on Windows, resumed here
        if absolute and not Path(file).is_file():
            raise DataError(
                f"{file} of this study is not there; if it was moved: attngraft study relocate {folder} {key}=NEW_PLACE"
            )


def _require_images(store: Store, plan: Plan) -> None:
    """Require the images that finished runs were evaluated on; their labels are compared after the next run."""
    from attngraft.yolo.options import check_data
    from attngraft.yolo.splits import split_images

    splits = ("train", "val") if plan.folds else (plan.split,)
    check_data(plan.data, *splits)
    there = {path.name for split in splits for path in split_images(plan.data, split)}
    folds = [None] if plan.folds is None else range(plan.folds)
    for fold in folds:
        if not store.truth_file(fold).is_file():
            continue
        names = [Path(image["file_name"]).name for image in store.truth(fold)["images"]]
        known = set(names) if fold is None else set(map(before_fold, names))
        others = sorted(known - there) or (sorted(there - known) if fold is None else [])
        if others:
            raise DataError(
                f"{plan.data} has other images than finished runs were evaluated on, such as {others[0]}; name the "
                "same data, or begin a new study"
            )
