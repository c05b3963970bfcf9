"""A grafted checkpoint without its base: what differs from the base, in a file that holds numbers only.

The file is safetensors, so reading it runs nothing. It says which grafts belong to it and, by a checksum, which base:
put onto any other, the numbers would be wrong and nothing would say so.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import CheckpointError, OutputError, PlaceError, RecipeError, first_line
from attngraft._core.extras import extra_package
from attngraft._core.files import write_whole
from attngraft.yolo import checkpoint
from attngraft.yolo.joining import graft_model
from attngraft.yolo.model import open_stock, quiet, resolve_base
from attngraft.yolo.recipe import Recipe
from attngraft.yolo.rows import YAML_KEY

FORM = "attngraft-difference-1"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Difference:
    """What a file of differences says of itself.

    Attributes:
        grafts: What was joined to the base, such as ``mhsa@P5``.
        base: Name of the file that it was taken from.
        base_checksum: SHA-256 of that base's tensors.
        task: Ultralytics' task.
        names: The class names, in order.
        added: How many tensors belong to the grafts.
        changed: How many tensors of the base have other values or another shape.
        total: How many tensors the whole model has.
    """

    grafts: str
    base: str
    base_checksum: str
    task: str
    names: tuple[str, ...]
    added: int
    changed: int
    total: int


def diff(model: str | Path, base: str | Path, out: str | Path) -> Difference:
    """Write what distinguishes a grafted checkpoint from its base.

    Where the base was frozen in training, that is the grafts and what else was trained, some hundred KB; where it was
    trained along, nearly all tensors differ, and the file is as large as the checkpoint. Half precision is used for
    tensors that lose nothing by it.

    Args:
        model: A checkpoint of a grafted model.
        base: The checkpoint that training began from.
        out: The file to write, ending in ``.safetensors``.

    Returns:
        What the file says of itself.

    Raises:
        CheckpointError: If one of the two is no checkpoint, or the model is not that base with grafts.
        OutputError: If the file exists, cannot be written or ends in something else.
        MissingExtraError: If safetensors is not installed.
    """
    out = _free(out, SUFFIX)
    library = extra_package("safetensors.torch", "share")
    whole, bare = _open(model), _open(base)
    own, earlier = whole.model.yaml.get(YAML_KEY) or "", bare.model.yaml.get(YAML_KEY) or ""
    if not own.startswith(earlier) or own == earlier:
        raise CheckpointError(
            f"{model} has the grafts {own or 'none'!r} and {base} {earlier or 'none'!r}; give a grafted checkpoint, "
            "and as base= the one that it was grafted onto"
        )
    state, before = whole.model.state_dict(), bare.model.state_dict()
    differs = {name: tensor for name, tensor in state.items() if not _is_same(before.get(name), tensor)}
    told = Difference(
        grafts=own[len(earlier) :].lstrip("+"),
        base=Path(base).name,
        base_checksum=checksum(before),
        task=whole.task,
        names=tuple(whole.model.names.values()),
        added=sum(name not in before for name in differs),
        changed=sum(name in before for name in differs),
        total=len(state),
    )
    metadata = {"form": FORM, "difference": json.dumps(asdict(told))}
    packed = {name: _smallest(tensor) for name, tensor in differs.items()}
    write_whole(out, lambda partial: library.save_file(packed, partial, metadata=metadata))
    return told


def apply_diff(file: str | Path, base: str | Path, out: str | Path) -> Path:
    """Put a file of differences onto its base, and write the grafted checkpoint.

    Args:
        file: What `diff` wrote.
        base: The base that it was taken from, here.
        out: The checkpoint to write, ending in ``.pt``.

    Returns:
        The checkpoint, which has the numbers of the one that the differences were taken from.

    Raises:
        CheckpointError: If the file is not one of differences, or the base is another.
        OutputError: If ``out`` exists, cannot be written or ends in something else.
        UnknownNameError: If a graft's mechanism is not to be had here; a plugin's has to be given.
        MissingExtraError: If safetensors is not installed.
    """
    out = _free(out, ".pt")
    told, differs = read_diff(file)
    bare = _open(base)
    before = bare.model.state_dict()
    if checksum(before) != told.base_checksum:
        raise CheckpointError(
            f"{file} belongs to another base than {base}: it was taken from one named {told.base}, whose tensors have "
            f"the checksum {told.base_checksum[:12]}, and here it is {checksum(before)[:12]}"
        )
    model = _fitting(_rebuilt(bare.model, told), before, differs)
    if model is None:
        raise CheckpointError(
            f"{file} does not fit the model that its grafts {told.grafts!r} give here; it was written by another "
            "release of a mechanism or of Ultralytics"
        )
    arguments = {"task": told.task, "model": f"{Path(base).name}+{told.grafts}"}
    checkpoint.save(model, out, arguments=arguments)
    return out


def read_diff(file: str | Path) -> tuple[Difference, dict[str, Tensor]]:
    """Read a file of differences; nothing in it is run.

    Raises:
        CheckpointError: If it is not one.
        MissingExtraError: If safetensors is not installed.
    """
    library = extra_package("safetensors", "share")
    try:
        with library.safe_open(str(file), framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, library.SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as a file of differences: {first_line(error)}") from error
    if metadata.get("form") != FORM:
        raise CheckpointError(f"{file} is not a file of differences; attngraft diff writes one")
    try:
        given = json.loads(metadata["difference"])
        told = Difference(**{**given, "names": tuple(map(str, given["names"]))})
        Recipe.parse(f"base+{told.grafts}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} does not say what it belongs to: {first_line(error)}") from error
    return told, tensors


def checksum(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a model's tensors: their names, shapes and values in single precision."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _open(file: str | Path) -> Any:
    """Open a checkpoint with Ultralytics' class for it."""
    resolved = resolve_base(str(file))
    if not resolved.endswith(".pt"):
        raise CheckpointError(f"{file} is no checkpoint with weights; give a file that ends in .pt")
    if not Path(resolved).is_file():
        raise CheckpointError(f"there is no file {file}; check the path")
    with quiet():
        return open_stock(resolved)


def _fitting(models: Iterable[Any], before: Mapping[str, Tensor], differs: Mapping[str, Tensor]) -> Any:
    """Return the first model that takes the tensors of a base and a difference, with them; None where none does."""
    for model in models:
        own = model.state_dict()
        filled = {name: differs.get(name, before.get(name)) for name in own}
        if differs.keys() <= own.keys() and all(t is not None and t.shape == own[n].shape for n, t in filled.items()):
            model.load_state_dict(filled)
            return model
    return None


def _rebuilt(bare: nn.Module, told: Difference) -> Iterator[Any]:
    """Yield the models that the base's YAML, the grafts and the classes of a difference can mean.

    Trained from weights, a head keeps the base's widths; trained from scratch it has those of its own classes.
    """
    bare = copy.deepcopy(bare)
    try:
        with quiet():
            graft_model(bare, Recipe.parse(f"base+{told.grafts}").grafts)
    except (PlaceError, RecipeError) as error:
        raise CheckpointError(f"the grafts {told.grafts!r} cannot be joined to this base: {error}") from error
    for from_weights in (True, False):
        description: dict[str, Any] = copy.deepcopy(bare.yaml)  # type: ignore[arg-type]
        with quiet(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            model: Any = type(bare)(description, ch=description.get("channels", 3), nc=len(told.names), verbose=False)
            if from_weights:
                model.args = {}  # of a model that is here to be compared, all weights are loaded
                model.load(bare, verbose=False)
        model.names = dict(enumerate(told.names))
        model.task = told.task
        yield model.eval()


def _is_same(before: Tensor | None, after: Tensor) -> bool:
    return before is not None and before.shape == after.shape and torch.equal(before.to(after.dtype), after)


def _smallest(tensor: Tensor) -> Tensor:
    """Return a tensor in half precision where that keeps every value."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _free(out: str | Path, suffix: str) -> Path:
    """Return a file to write.

    Raises:
        OutputError: If it has another suffix or exists.
    """
    out = Path(out)
    if out.suffix != suffix:
        raise OutputError(f"the file's name has to end in {suffix}, got {out}")
    if out.exists():
        raise OutputError(f"{out} exists and is left as it is; name another file")
    return out
