"""Our model YAMLs, found by name: a stock YAML named as base, and what is changed in it.

    base: yolo11.yaml        # the scale letter of the asked-for name is put in: yolo11n-mhsa.yaml reads yolo11n.yaml
    grafts: mhsa@P5          # optional
    backbone: botnet50       # optional: a classifier of ours; with options, [botnet50, {position: absolute}]
    head: [Segment, [nc, 32, 256]]   # optional: another head on the same neck

A name such as ``yolo11n-botnet50.yaml`` needs no file: it is ``yolo11n.yaml`` with that backbone.

Nothing of the host's YAML is repeated, so they follow it from release to release. A user's own file may have this
form too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ultralytics.utils.checks import check_yaml

from attngraft.yolo.backbones import exchange, split_name
from attngraft.yolo.recipe import parse_grafts, print_grafts
from attngraft.yolo.rows import YAML_KEY

FOLDER = Path(__file__).parent / "cfg"
OWN_KEYS = ("base", "grafts", "backbone", "head")
SCALED = re.compile(r"(yolov?\d+)([nsmblx])?(?=[-.]|\Z)")
UNSCALED = r"\1"


def load_own(path: Path, load_stock: Callable[[str], dict[str, Any]]) -> dict[str, Any] | None:
    """Load a model YAML in our form.

    Args:
        path: What was asked for: a file, or a name such as ``yolo11n-mhsa.yaml``.
        load_stock: The host's own loader.

    Returns:
        The host's dictionary with the grafts under the key ``attngraft``; None if ``path`` is not in our form.
    """
    scaled = SCALED.match(path.name)
    scale = (scaled and scaled.group(2)) or ""
    file = _find(path)
    if file is None:
        return _with_named_backbone(path, load_stock)
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(own, dict) or "base" not in own:
        shipped = file.parent == FOLDER
        return {**own, "scale": scale, "yaml_file": str(path)} if shipped else None
    base = SCALED.sub(rf"\g<1>{scale}", own["base"], count=1) if scale else own["base"]
    model = (load_own(Path(base), load_stock) if _find(Path(base)) != file else None) or load_stock(base)
    if "backbone" in own:
        name, options = own["backbone"] if isinstance(own["backbone"], list) else (own["backbone"], None)
        model = exchange(model, name, options)
    if "grafts" in own:
        model[YAML_KEY] = print_grafts(parse_grafts(own["grafts"]))
    if "head" in own:
        model["head"][-1][2:] = own["head"]
    model.update({key: value for key, value in own.items() if key not in OWN_KEYS})
    model["yaml_file"] = str(path)
    return model


def is_ours(name: str) -> bool:
    """Tell whether a name without suffix, such as ``yolo11n-mhsa`` or ``yolo11n-botnet50``, is a model of ours."""
    return (FOLDER / f"{SCALED.sub(UNSCALED, name, count=1)}.yaml").is_file() or _split(
        Path(f"{name}.yaml")
    ) is not None


def _with_named_backbone(path: Path, load_stock: Callable[[str], dict[str, Any]]) -> dict[str, Any] | None:
    """Load the model whose name holds that of a classifier of ours, such as ``yolo11n-botnet50.yaml``."""
    split = _split(path)
    if split is None:
        return None
    base, backbone = split
    return {**exchange(load_stock(str(path.with_name(base + path.suffix))), backbone), "yaml_file": str(path)}


def _split(path: Path) -> tuple[str, str] | None:
    """Split a name into base and backbone, unless the host has a file of that name: ``yolov8-cls-resnet50.yaml``."""
    split = split_name(path.stem)
    unscaled = SCALED.sub(UNSCALED, path.name, count=1)
    if split is None or any(check_yaml(name, hard=False) for name in (path.name, unscaled)):
        return None
    return split


def _find(path: Path) -> Path | None:
    """Return the file for a name: itself, the one without the scale letter, or one of ours."""
    unscaled = SCALED.sub(UNSCALED, path.name, count=1)
    candidates = [path, path.with_name(unscaled)]
    if path.parent == Path():
        candidates.append(FOLDER / unscaled)
    return next((file for file in candidates if file.is_file()), None)
