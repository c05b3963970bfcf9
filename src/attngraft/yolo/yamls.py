"""Our model YAMLs, found by name: a stock YAML named as base, and what is changed in it.

    base: yolo11.yaml        # the scale letter of the asked-for name is put in: yolo11n-mhsa.yaml reads yolo11n.yaml
    grafts: mhsa@P5          # optional
    backbone: botnet50       # optional: a classifier of ours; with options, [botnet50, {position: absolute}]
    head: [Segment, [nc, 32, 256]]   # optional: another head on the same neck

A name such as ``yolo11n-botnet50.yaml`` needs no file: it is ``yolo11n.yaml`` with that backbone.

Nothing of Ultralytics' YAML is repeated, so they follow it from release to release. A user's own file may have this
form too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultralytics.utils.checks import check_yaml

from attngraft._core.errors import ModelYamlError, suggest
from attngraft._core.yaml_files import read_yaml
from attngraft.yolo.backbones import exchange, split_name
from attngraft.yolo.recipe import parse_grafts, print_grafts
from attngraft.yolo.rows import YAML_KEY

FOLDER = Path(__file__).parent / "cfg"
OWN_KEYS = ("base", "grafts", "backbone", "head")
SCALED = re.compile(r"(yolo(?:e-)?v?\d+)(?:([nslmx])|(b)(?=[-.]|\Z))?")
"""Ultralytics' rule for the letter of a scale, anywhere in a name; and YOLOv10's b, which has files of its own."""


def load_own(
    path: Path, load_stock: Callable[[str], dict[str, Any]], above: frozenset[Path] = frozenset()
) -> dict[str, Any] | None:
    """Load a model YAML in our form.

    Args:
        path: What was asked for: a file, or a name such as ``yolo11n-mhsa.yaml``.
        load_stock: Ultralytics' own loader.
        above: The files that have this one as their base.

    Returns:
        Ultralytics' dictionary with the grafts under the key ``attngraft``; None if ``path`` is not in our form.
    """
    scale = _scale(path.stem)
    file = _find(path)
    if file is None:
        return _with_named_backbone(path, load_stock)
    own = read_yaml(file, error=ModelYamlError)
    if not isinstance(own, dict) or "base" not in own:
        _require_mapping(own, file)
        return {**own, "scale": scale, "yaml_file": str(path)} if file != path else None
    _require_own(own, file)
    base = _with_scale(own["base"], scale)
    if _find(Path(base)) in (file, *above):
        loop = "itself" if not above else f"{base}, which is based on it,"
        raise ModelYamlError(f"{file} names {loop} as its base; name a model of Ultralytics, such as yolo11n.yaml")
    model = load_own(Path(base), load_stock, above | {file}) or asked_for(base, load_stock)
    if scale in model.get("scales", ()):
        model["scale"] = scale
    if "backbone" in own:
        name, *options = own["backbone"] if isinstance(own["backbone"], list) else [own["backbone"]]
        model = exchange(model, name, *options)
    if "grafts" in own:
        model[YAML_KEY] = print_grafts(parse_grafts(own["grafts"]))
    if "head" in own:
        model["head"][-1][2:] = own["head"]
    model.update({key: value for key, value in own.items() if key not in OWN_KEYS})
    model["yaml_file"] = str(path)
    return model


def asked_for(name: str, load_stock: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Load a model YAML as Ultralytics does; one that is not there is named as it was asked for.

    Ultralytics takes the first letter behind a number out of the whole path, also that of a folder ``yolo11n``.

    Raises:
        FileNotFoundError: If there is none.
    """
    try:
        return load_stock(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"'{name}' does not exist") from error


def _scale(stem: str) -> str:
    """Return the letter of the scale that Ultralytics reads from a name; empty where there is none."""
    found = SCALED.search(stem)
    return (found and (found.group(2) or found.group(3))) or ""


def _with_scale(base: str, scale: str) -> str:
    """Put a letter into the name of a file, in the place of its own; what its folders are called stays."""
    if not scale:
        return base
    folder, slash, name = base.rpartition("/")
    return folder + slash + SCALED.sub(rf"\g<1>{scale}", name, count=1)


def _unscaled(name: str) -> str:
    return SCALED.sub(r"\1", name, count=1)


def _require_mapping(own: Any, file: Path) -> None:
    if not isinstance(own, dict):
        raise ModelYamlError(f"{file} is no model YAML: it holds no keys such as nc, backbone and head")


def _require_own(own: dict[str, Any], file: Path) -> None:
    """Require the values of a YAML in our form to be of their kinds.

    Raises:
        ModelYamlError: If one is not; names the key.
    """
    if not isinstance(own["base"], str) or not own["base"].endswith((".yaml", ".yml")):
        raise ModelYamlError(f"{file} needs base to be the YAML of a model, such as yolo11.yaml, got {own['base']!r}")
    if not isinstance(own.get("grafts", ""), str):
        raise ModelYamlError(f"{file} needs grafts in one line, such as mhsa@P5+ema@P4, got {own['grafts']!r}")
    for key in own.keys() - {*OWN_KEYS}:
        if (close := suggest(str(key), OWN_KEYS)).startswith("did you mean"):
            raise ModelYamlError(f"{file} has the key {key!r}, which nothing reads; {close}")
    backbone = own.get("backbone", "")
    word = backbone if isinstance(backbone, str) else None
    pair = isinstance(backbone, list) and len(backbone) == 2 and isinstance(backbone[1], dict)
    if word is None and not (pair and isinstance(backbone[0], str)):
        raise ModelYamlError(
            f"{file} needs backbone to be a classifier, such as botnet50 or [botnet50, {{position: absolute}}], "
            f"got {backbone!r}"
        )
    head = own.get("head")
    if head is not None and not (isinstance(head, list) and len(head) == 2 and isinstance(head[1], list)):
        raise ModelYamlError(
            f"{file} needs head to be a module and its arguments, [Segment, [nc, 32, 256]], got {head!r}"
        )


def is_ours(name: str) -> bool:
    """Tell whether a name without suffix, such as ``yolo11n-mhsa`` or ``yolo11n-botnet50``, is a model of ours."""
    return (FOLDER / f"{_unscaled(name)}.yaml").is_file() or _split(Path(f"{name}.yaml")) is not None


def _with_named_backbone(path: Path, load_stock: Callable[[str], dict[str, Any]]) -> dict[str, Any] | None:
    """Load the model whose name holds that of a classifier of ours, such as ``yolo11n-botnet50.yaml``."""
    split = _split(path)
    if split is None:
        return None
    base, backbone = split
    return {**exchange(load_stock(str(path.with_name(base + path.suffix))), backbone), "yaml_file": str(path)}


def _split(path: Path) -> tuple[str, str] | None:
    """Split a name into base and backbone, unless Ultralytics has a file of that name: ``yolov8-cls-resnet50.yaml``."""
    split = split_name(path.stem)
    unscaled = _unscaled(path.name)
    if split is None or any(check_yaml(name, hard=False) for name in (path.name, unscaled)):
        return None
    return split


def _find(path: Path) -> Path | None:
    """Return the file for a name: itself, the one without the scale letter, or one of ours."""
    unscaled = _unscaled(path.name)
    candidates = [path, path.with_name(unscaled)]
    if path.parent == Path():
        candidates.append(FOLDER / unscaled)
    return next((file for file in candidates if file.is_file()), None)
