"""The structure of a model YAML, checked before Ultralytics builds it, so that a slip names its row and its cause."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from attngraft._core.errors import ModelYamlError

PARTS = ("from", "repeats", "module", "arguments")

MOST_REPEATS = 1000
"""Of a row; the deepest stock models repeat one 48 times, and each further one takes time and memory to build."""

SHIFTED = "A row that was put in shifts every absolute index after it: correct them, or use a recipe, which moves none"

BARE = ("Concat", "nn.Upsample")
"""Modules without weights, whose maps no head of a stock model reads."""

READ_OTHERWISE = ("ImagePoolingAttn",)
"""Modules whose result Ultralytics reads by itself, with the texts of YOLO-World."""

HEADS = re.compile(r"(\w*(Detect|Segment)|Pose|OBB|Classify|Depth|RTDETRDecoder)(26)?")
"""Names of Ultralytics' modules that end a model and say its task."""

ANCHORS = "anchors"
"""Word of the YOLOv5 repository in the row of a head."""

ACTIVATION_HOMES = ("nn", "torch.nn")
"""Where the class of an activation lies; Ultralytics evaluates the text, which could be any program."""


def require_model_yaml(model_yaml: Any, where: str) -> None:
    """Require a mapping with a backbone and a head whose rows can be read.

    Args:
        model_yaml: The parsed YAML.
        where: Its file, for the message.

    Raises:
        ModelYamlError: If something is missing or of another kind; names the row.
    """
    if not isinstance(model_yaml, Mapping):
        raise ModelYamlError(
            f"{where} is no model YAML: it holds {_kind(model_yaml)} where nc, backbone and head stand"
        )
    for part in ("backbone", "head"):
        rows = model_yaml.get(part)
        if not isinstance(rows, list) or (part == "head" and not rows):
            raise ModelYamlError(
                f"{where} needs a {part}: a list of rows such as [-1, 1, Conv, [64, 3, 2]], got {_kind(rows)}"
            )
    first = 0
    for part in ("backbone", "head"):
        for row in model_yaml[part]:
            _require_row(row, first, where)
            first += not _is_guard(row)
    _require_numbers(model_yaml, where)
    _require_head_last(model_yaml, where)
    activation = model_yaml.get("activation")
    if activation and not _is_activation(activation):
        raise ModelYamlError(
            f"{where} needs activation to be a class of torch.nn with plain values, such as nn.LeakyReLU(0.1), "
            f"got {activation!r}"
        )


def drop_anchors(model_yaml: Any) -> bool:
    """Take the word ``anchors`` out of the last row, as the YOLOv5 repository has it: ``Detect, [nc, anchors]``.

    Args:
        model_yaml: A parsed YAML, changed in place; one that is no model stays as it is.

    Returns:
        Whether it was there.
    """
    head = model_yaml.get("head") if isinstance(model_yaml, dict) else None
    last = head[-1] if isinstance(head, list) and head else None
    if not isinstance(last, list) or not last or not isinstance(last[-1], list) or ANCHORS not in last[-1]:
        return False
    last[-1] = [value for value in last[-1] if value != ANCHORS]
    return True


def misplaced(model_yaml: Mapping[str, Any]) -> str:
    """Say what in a model that builds looks as if a row was put in and the indices behind it were left as they were.

    In every stock YAML each row is read by one behind it, and the last row reads no bare `Concat` or upsampling.

    Args:
        model_yaml: The parsed YAML, of a form that `require_model_yaml` takes.

    Returns:
        A clause that names the rows; an empty text where nothing looks so.
    """
    rows = [row for part in ("backbone", "head") for row in model_yaml[part] if not _is_guard(row)]
    sources = [[one % index if one < 0 and index else one for one in _sources(row)] for index, row in enumerate(rows)]
    last, read = len(rows) - 1, {one for found in sources for one in found}
    bare = [one for one in sources[last] if rows[one][2] in BARE]
    unread = [i for i in range(last) if i not in read and rows[i][2] not in READ_OTHERWISE]
    found = [f"row {last} ({rows[last][2]}) reads row {i} ({rows[i][2]})" for i in bare]
    found += [f"no row reads row {i} ({rows[i][2]})" for i in unread]
    return ", and ".join(found)


def _sources(row: list[Any]) -> list[int]:
    return row[0] if isinstance(row[0], list) else [row[0]]


def _is_activation(text: Any) -> bool:
    try:
        call = ast.parse(text, mode="eval").body if isinstance(text, str) else None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            return False
        for value in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return ast.unparse(call.func.value) in ACTIVATION_HOMES and not call.func.attr.startswith("_")


def _require_row(row: Any, index: int, where: str) -> None:
    if not isinstance(row, list) or len(row) != len(PARTS):
        raise ModelYamlError(f"row {index} of {where} is [from, repeats, module, arguments], got {row!r}")
    source, repeats, module, arguments = row
    if not isinstance(module, str) or not module:
        raise ModelYamlError(f"row {index} of {where} names a module third, such as Conv, got {module!r}")
    sources = source if isinstance(source, list) else [source]
    if not sources or not all(isinstance(one, int) and not isinstance(one, bool) for one in sources):
        raise ModelYamlError(f"row {index} of {where} begins with the layers that it reads, got from={source!r}")
    for one in sources:
        if not _is_guard(row) and (one >= index or (one < 0 and one < -max(index, 1))):
            raise ModelYamlError(
                f"row {index} ({module}) of {where} reads layer {one}, and only layers before it can be read; "
                f"{SHIFTED[0].lower()}{SHIFTED[1:]}"
            )
    if not isinstance(repeats, int) or isinstance(repeats, bool) or not 1 <= repeats <= MOST_REPEATS:
        raise ModelYamlError(
            f"row {index} ({module}) of {where} is repeated a positive number of times, {MOST_REPEATS} at most, "
            f"got {repeats!r}"
        )
    if not isinstance(arguments, list):
        raise ModelYamlError(f"row {index} ({module}) of {where} ends in a list of arguments, got {arguments!r}")


def _is_guard(row: Any) -> bool:
    return isinstance(row, list) and len(row) == len(PARTS) and row[2] == "Attngraft"


def _require_head_last(model_yaml: Mapping[str, Any], where: str) -> None:
    rows = [row for part in ("backbone", "head") for row in model_yaml[part] if not _is_guard(row)]
    last = len(rows) - 1
    heads = [index for index, row in enumerate(rows) if HEADS.fullmatch(row[2])]
    if heads and last not in heads:
        raise ModelYamlError(
            f"{where} ends in row {last} ({rows[last][2]}), behind its head, row {heads[-1]} ({rows[heads[-1]][2]}), "
            "which has to be the last; put it before, where a row of the head reads it"
        )


def _require_numbers(model_yaml: Mapping[str, Any], where: str) -> None:
    nc = model_yaml.get("nc")
    if nc is None and any("nc" in row[3] for part in ("backbone", "head") for row in model_yaml[part]):
        raise ModelYamlError(f"{where} needs nc, the number of classes, since its head reads it; add a line nc: 80")
    if nc is not None and (isinstance(nc, bool) or not isinstance(nc, int) or nc < 1):
        raise ModelYamlError(f"{where} needs nc, the number of classes, to be a positive integer, got {nc!r}")
    for key in ("depth_multiple", "width_multiple"):
        value = model_yaml.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise ModelYamlError(f"{where} needs {key} to be a positive number, got {value!r}")
    scales, scale = model_yaml.get("scales"), model_yaml.get("scale")
    if scales is None:
        return
    if not isinstance(scales, Mapping) or not scales or not all(_is_scale(value) for value in scales.values()):
        raise ModelYamlError(
            f"{where} gives a depth, a width and the most channels for each letter of scales, as in "
            f"n: [0.50, 0.25, 1024], got {scales!r}"
        )
    if scale and scale not in scales:
        raise ModelYamlError(f"{where} has the scales {', '.join(map(str, scales))}, and none is called {scale!r}")


def _is_scale(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return False
    return all(isinstance(one, (int, float)) and not isinstance(one, bool) and one > 0 for one in value)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
