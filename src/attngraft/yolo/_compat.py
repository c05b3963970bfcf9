"""Every touch of an Ultralytics internal, with what it relies on and the releases it was checked against.

Checked on 8.4.0, 8.4.100 and 8.4.190 (the newest when this was written).

``nn.tasks.parse_model`` (wrapped)
    Every rebuild (train, resume, tune, workers) goes through it, so grafts survive.
    Relies on the signature ``(d, ch, verbose)``, and on a result ``(Sequential, save)`` with ``i`` and ``f`` a layer.
``nn.tasks.BaseModel.load`` (wrapped)
    Says what a row that was put in costs of the pretrained weights, and lets grafts start under a training run's seed.
    Relies on the first argument being a model or a checkpoint's mapping, on ``model`` being the layers, on a trainer
    seeding PyTorch before it builds a model, and on its giving the model ``args`` after it loaded weights.
its local variables ``ch f width max_channels``
    A YAML row learns its channels from them. Relies on string arguments being looked up among its locals.
the globals of ``nn.tasks`` (added to)
    YAML rows are looked up there by name. Relies on ``globals()[name]``.
``nn.tasks.yaml_model_load`` (wrapped, also where ``engine.model`` imported it)
    Our YAMLs are found by name. Relies on the signature ``(path)`` and on the keys ``scale`` and ``yaml_file``.
``nn.tasks.torch_safe_load`` (wrapped)
    Checkpoints whose copied classes are not to be had, or were pasted over Ultralytics' own, load with ours in their
    place. Relies on a file as the first argument, on ``safe_only`` and on the result ``(checkpoint, file)``.
``engine.model.Model.reset_weights`` and ``models.yolo.classify.train.ClassificationTrainer.get_model`` (wrapped)
    Mechanisms draw their tensors again after the layers in them: Ultralytics calls ``reset_parameters`` of every
    module, a module before its layers, whose PyTorch draws stay otherwise. Relies on ``model`` of the object, and on
    ``args.pretrained`` and ``resume`` of the trainer, whose result is the model.
``nn.modules.block.MHSA`` and ``nn.modules.conv.MHSA`` (added)
    Checkpoints trained with the circulated class name these paths. Relies on Ultralytics having none of that name.
``nn.tasks.Index`` (named in rows)
    Rows that take one map from a backbone's list. Relies on the arguments ``[channels, index]``.
``utils.torch_utils.get_flops`` (wrapped)
    ``model.info()`` and the summary of a training run print it. Ultralytics profiles by hooks and stride-sized proxies:
    24 times too low for attention at P3 in 8.4.0 to 8.4.100, blind to kernels of an own autograd function in every
    release, and silently 0.0 where the unrelated package ``thop`` is installed. Ours counts what is dispatched at the
    size itself, for grafted and stock models alike, so that two summaries compare. Relies on the signature
    ``(model, imgsz)``, on a figure in units of 1e9, and on ``model_info`` looking it up in its own module.
``engine.trainer.BaseTrainer.freeze_layer_names`` (a descriptor)
    ``freeze=`` of layers does not reach into their grafts. Relies on Ultralytics setting that list before freezing, and
    on its reading the same list for parameters and norms by ``name in full_name``.
``get_model`` of YOLO-World's and YOLOE's trainers (wrapped)
    They rebuild a model from its YAML file, where others take the dict, so a graft would be gone without a word. Relies
    on ``cfg["yaml_file"]`` being handed to the model's class as its ``cfg``, which may be a file or a dict.
``engine.exporter.export_formats``, and the ``Exporter`` that ``on_export_end`` is given (read)
    An export is held against the model as it was exported. Relies on the key ``Argument``; on ``imgsz`` and
    ``model`` of the exporter, and on what it sets on the head: ``end2end max_det agnostic_nms xyxy dynamic``.
``torch.serialization.add_safe_globals``
    Ultralytics' restricted loading accepts our classes. Public PyTorch.

Never copied: the body of any of these functions.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import ultralytics
import wrapt
from ultralytics.utils.torch_utils import unwrap_model

from attngraft._core import plugins
from attngraft._core.errors import AttngraftError, CheckpointError, HostError, ModelYamlError, first_line
from attngraft._core.registry import mechanism, mechanisms
from attngraft.measure import flops
from attngraft.yolo import backbones, checkpoint, copied, grafting, joining, rows, structure
from attngraft.yolo.yamls import asked_for, load_own

OLDEST = "8.4.67"
"""The first release that opens checkpoints by ``weights_only``."""

TESTED, BEYOND = ("8.4.150", "8.4.190"), "8.5"
"""The oldest and the newest release that were tested, and the first that is too new to be like them. Others run, with a
warning: at 8.4.120 the heads of small models and what `look` finds are not what the tests expect."""

HOMES = ("attngraft.attention.", "attngraft.models.", grafting.__name__, backbones.__name__)
"""Beginnings of the names of the modules whose classes stand in checkpoints."""

HOOKS = {"parse_model": ["d", "ch", "verbose"], "yaml_model_load": ["path"]}
"""Functions of ``nn.tasks`` that are wrapped, and their parameters."""

FROM_FILE = {
    "world.train": ["WorldTrainer"],
    "yoloe.train": ["YOLOETrainer", "YOLOEPETrainer"],
    "yoloe.train_seg": ["YOLOEPESegTrainer"],
}
"""Trainers that rebuild a model from its YAML file, by their modules in ``ultralytics.models.yolo``."""

log = logging.getLogger("ultralytics")


def check_version(version: str) -> None:
    """Require an Ultralytics release that is new enough, and warn of one that is older or newer than any tested.

    Raises:
        HostError: If ``version`` is older than `OLDEST`.
    """
    oldest, newest = TESTED
    if _numbers(version) < _numbers(OLDEST):
        raise HostError(
            f"attngraft works with ultralytics {OLDEST} and newer, and found {version}; "
            f"run: pip install 'ultralytics>={oldest}'"
        )
    if not _numbers(oldest) <= _numbers(version) < _numbers(BEYOND):
        log.warning(
            f"attngraft was tested with ultralytics {oldest} to {newest}, and this is {version}: what it touches looks "
            "the same and may behave differently. If something fails, run: "
            f"pip install 'ultralytics>={oldest},<{BEYOND}', and report it"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def check_hooks(tasks: ModuleType) -> None:
    """Require the hook points to look as they did on the releases this was checked against.

    Raises:
        HostError: If one is missing or takes other arguments.
    """
    for name, expected in HOOKS.items():
        function = getattr(tasks, name, None)
        found = list(inspect.signature(function).parameters) if function else None
        if found != expected:
            raise HostError(
                f"ultralytics {ultralytics.__version__} has {name}{found}, and attngraft relies on {name}{expected}; "
                f"run: pip install 'ultralytics<{BEYOND}', and report this release"
            )


def install(tasks: ModuleType) -> None:
    """Join attngraft to ``ultralytics.nn.tasks``, once.

    Args:
        tasks: That module, as just imported.

    Raises:
        HostError: If this release is not one we can join.
    """
    if isinstance(tasks.parse_model, wrapt.FunctionWrapper):
        return
    check_version(ultralytics.__version__)
    check_hooks(tasks)
    wrapt.wrap_function_wrapper(tasks, "parse_model", _parse_model)
    wrapt.wrap_function_wrapper(tasks, "yaml_model_load", _yaml_model_load)
    wrapt.wrap_function_wrapper(tasks, "torch_safe_load", _torch_safe_load)
    wrapt.wrap_function_wrapper(tasks, "BaseModel.load", _load)
    wrapt.register_post_import_hook(
        lambda engine: setattr(engine, "yaml_model_load", tasks.yaml_model_load), "ultralytics.engine.model"
    )
    wrapt.register_post_import_hook(_wrap_get_flops, "ultralytics.utils.torch_utils")
    wrapt.register_post_import_hook(_keep_apostrophes, "ultralytics.utils.downloads")
    for home, trainers in FROM_FILE.items():
        wrapt.register_post_import_hook(partial(_keep_grafts, trainers), f"ultralytics.models.yolo.{home}")
    for home in ("block", "conv"):
        wrapt.register_post_import_hook(
            lambda module: setattr(module, "MHSA", mechanism("mhsa").cls), f"ultralytics.nn.modules.{home}"
        )
    _join_resets()
    allow_safe_loading()


def allow_safe_loading() -> None:
    """Tell PyTorch's restricted unpickler that our classes are data."""
    homes = [module for name, module in sys.modules.items() if name.startswith(HOMES)]
    homes += [sys.modules[record.cls.__module__] for record in mechanisms().values()]  # the user's own among them
    layers = {cls for home in homes for cls in _layers(home)}
    known = (plugins.rebuild_known, f"{plugins.__name__}.{plugins.rebuild.__name__}")  # runs no file for a pickle
    torch.serialization.add_safe_globals([grafting.apply_grafts, known, *layers])


def _layers(home: ModuleType) -> list[type]:
    """Return the module classes that a file defines."""
    classes = [member for member in vars(home).values() if isinstance(member, type)]
    return [cls for cls in classes if issubclass(cls, torch.nn.Module) and cls.__module__ == home.__name__]


def _parse_model(wrapped: Callable[..., Any], _instance: None, args: Any, kwargs: Any) -> Any:
    _join_resets()
    call = inspect.signature(wrapped).bind(*args, **kwargs)
    call.apply_defaults()
    d, channels, verbose = dict(call.arguments["d"]), call.arguments["ch"], call.arguments["verbose"]
    where = str(d.get("yaml_file") or "the model YAML")
    structure.require_model_yaml(d, where)
    structure.drop_anchors(d)
    specs = rows.take_grafts(d)
    host_names = wrapped.__globals__
    host_names.update({**rows.row_classes(), backbones.ROW: backbones.Backbone})
    backbone = len(d["backbone"])
    try:
        d["backbone"], blocks = rows.rewrite(d["backbone"], host_names)
        d["head"], others = rows.rewrite(d["head"], host_names, backbone)
    except ModelYamlError as error:
        raise ModelYamlError(f"{where}: {error}") from None
    layers, save = _built(wrapped, d, channels, verbose, where)
    if verbose and (slip := structure.misplaced(call.arguments["d"])):
        log.warning(f"attngraft: in {where} {slip}. {structure.SHIFTED}")
    said = (
        joining.join_blocks(layers, [*blocks, *others], backbone=backbone, channels=channels) if blocks + others else []
    )
    said += joining.attach(layers, specs, backbone=backbone, channels=channels) if specs else []
    for line in said if verbose else ():
        log.info(line)
    return layers, save


def _load(wrapped: Callable[..., Any], model: Any, args: Any, kwargs: Any) -> Any:
    """Load weights as Ultralytics does, and say where rows of ours moved layers away from theirs.

    A graft that was never trained starts under the training run's seed, as a base without weights does: what a trainer
    has just built is kept of it. `YOLO` gives its models arguments, a trainer has not yet. A graft takes nothing of one
    of another mechanism, whose ``gamma`` has its name and shape.
    """
    weights = args[0] if args else kwargs["weights"]
    source = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
    given = {name: value.shape for name, value in source.state_dict().items()}
    before, after = len(getattr(source, "model", ())), len(model.model)
    others = joining.of_another(model, source)
    redrawn = set() if hasattr(model, "args") else joining.untrained(source)
    redrawn.update(*others.values())
    drawn = {name: value.clone() for name, value in model.state_dict().items() if name in redrawn}
    result = wrapped(*args, **kwargs)
    model.load_state_dict(drawn, strict=False)
    if others:
        at = ", ".join(others)
        log.warning(f"attngraft: the weights have another mechanism at {at}; this model's starts as it was built")
    names, grafts = rows.as_grafts(model.yaml, wrapped.__globals__) if after > before else ([], "")
    if names:
        found = sum(given.get(name) == value.shape for name, value in model.state_dict().items())
        log.warning(
            f"attngraft: {found} of {len(given)} pretrained tensors are found by name, since every layer behind "
            f"{'row' if len(names) == 1 else 'rows'} {', '.join(names)} has another index. A graft moves none and "
            f"keeps all: model=BASE.pt+{grafts}, where BASE.pt has these weights"
        )
    return result


def _built(wrapped: Callable[..., Any], d: dict[str, Any], channels: int, verbose: bool, where: str) -> Any:
    """Let Ultralytics build the rows; an error of its own names the row."""
    try:
        return wrapped(d, channels, verbose)
    except (AttngraftError, MemoryError):
        raise
    except Exception as error:
        row = _failed_row(error, wrapped)
        raise ModelYamlError(
            f"{where} cannot be built{row}: {_reason(error)}; check the row's arguments and the layers it reads"
        ) from error


def _failed_row(error: BaseException, wrapped: Callable[..., Any]) -> str:
    """Say at which row Ultralytics stopped, from its own local variables; empty where they cannot be read."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is getattr(wrapped, "__code__", None):
            found = trace.tb_frame.f_locals
            module = found.get("m")
            name = getattr(module, "__name__", module)
            return f" at row {found['i']} ({name})" if "i" in found else ""
        trace = trace.tb_next
    return ""


def _reason(error: Exception) -> str:
    """Say what went wrong; of an ``assert`` without words its condition, and the integers in it."""
    if not isinstance(error, AssertionError) or str(error) or error.__traceback__ is None:
        return first_line(error)
    *_, last = traceback.extract_tb(error.__traceback__)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    condition = (last.line or "").removeprefix("assert ")
    found = ((name, frame.f_locals.get(name)) for name in re.findall(r"\b[a-z]\w*", condition))
    got = ", ".join(f"{name}={value}" for name, value in found if isinstance(value, int))
    return f"it requires {condition}, got {got}" if got else first_line(error)


def _torch_safe_load(wrapped: Callable[..., Any], _instance: None, args: Any, kwargs: Any) -> Any:
    """Load a checkpoint of copied classes with ours in their place; any other as Ultralytics does."""
    _join_resets()
    call = inspect.signature(wrapped).bind(*args, **kwargs)
    file, asked = Path(str(call.args[0])), call.arguments.get("safe_only")
    if asked is None and plugins.safe_loading():  # Ultralytics looked at its variable once, when it was imported
        asked, args, kwargs = True, call.args[:1], {"safe_only": True}
    is_safe = wrapped.__globals__.get("SAFE_LOAD", False) if asked is None else asked
    missing = checkpoint.missing_classes(file) if file.is_file() and not is_safe else []
    if not missing or not all(map(copied.may_be_ours, missing)):
        loaded, name = _with_model(wrapped, file, args, kwargs)
        copied.replace_pasted(file, loaded)
        copied.require_called(file, loaded)
        return loaded, name
    with copied.stand_ins(missing):
        loaded, name = _with_model(wrapped, file, args, kwargs)
    copied.replace_pasted(file, loaded)
    if left := copied.left_over(loaded):
        raise CheckpointError(checkpoint.not_here(file, left))
    copied.require_called(file, loaded)
    copied.find_widths(loaded)
    copied.say_what_is_unsure(file, loaded)
    return loaded, name


def _keep_apostrophes(downloads: ModuleType) -> None:
    """Let Ultralytics open a file with an apostrophe in its path: it leaves that out and opens another file or none."""

    def named(wrapped: Callable[..., Any], _instance: None, args: Any, kwargs: Any) -> Any:
        file = str(args[0] if args else kwargs.get("file", ""))
        return file if "'" in file and Path(file).is_file() else wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(downloads, "attempt_download_asset", named)


def _with_model(wrapped: Callable[..., Any], file: Path, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Load a checkpoint as Ultralytics does, which takes anything with an attribute ``model`` for one."""
    try:
        loaded, name = wrapped(*args, **kwargs)
    except AttributeError as error:
        if getattr(error, "name", None) != "model":
            raise
        loaded, name = error.obj, file
    checkpoint.require_model(file, loaded)
    return loaded, name


def _join_resets() -> None:
    """Wrap what resets weights: as we join, or, where these modules are half imported then, with the first model."""
    for home, name, method, wrapper in (
        ("ultralytics.engine.model", "Model", "reset_weights", _reset_weights),
        ("ultralytics.models.yolo.classify.train", "ClassificationTrainer", "get_model", _classifier),
    ):
        cls = getattr(sys.modules.get(home), name, None)
        if cls is not None and not isinstance(vars(cls)[method], wrapt.FunctionWrapper):
            wrapt.wrap_function_wrapper(cls, method, wrapper)


def _reset_weights(wrapped: Callable[..., Any], engine: Any, args: Any, kwargs: Any) -> Any:
    result = wrapped(*args, **kwargs)
    grafting.reset_mechanisms(engine.model)
    return result


def _classifier(wrapped: Callable[..., Any], trainer: Any, args: Any, kwargs: Any) -> Any:
    """Build a classifier as Ultralytics does, which resets every module where ``pretrained=False`` was asked for."""
    model = wrapped(*args, **kwargs)
    if trainer.args.pretrained is False and not trainer.resume:
        grafting.reset_mechanisms(model)
    return model


def _keep_grafts(trainers: list[str], module: ModuleType) -> None:
    """Let trainers that would rebuild a model from its YAML file take the grafts that stand in its dict alone."""

    def get_model(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        call = inspect.signature(wrapped).bind(*args, **kwargs)
        cfg = call.arguments.get("cfg")
        if isinstance(cfg, dict) and checkpoint.is_grafted(cfg):
            call.arguments["cfg"] = {"yaml_file": cfg}
        return wrapped(*call.args, **call.kwargs)

    for name in trainers:
        trainer = getattr(module, name)
        if not hasattr(trainer.get_model, "__wrapped__"):  # one of them takes another's as its own
            wrapt.wrap_function_wrapper(trainer, "get_model", get_model)


def _wrap_get_flops(utils: ModuleType) -> None:
    if list(inspect.signature(utils.get_flops).parameters) == ["model", "imgsz"]:
        wrapt.wrap_function_wrapper(utils, "get_flops", _get_flops)


def _get_flops(wrapped: Callable[..., float], _instance: None, args: Any, kwargs: Any) -> float:
    call = inspect.signature(wrapped).bind(*args, **kwargs)
    call.apply_defaults()
    model, size = unwrap_model(call.arguments["model"]), call.arguments["imgsz"]
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    try:
        weight = next(model.parameters())
        channels = getattr(model, "yaml", {}).get("channels", 3)
        return flops(model, torch.empty(1, channels, height, width, device=weight.device, dtype=weight.dtype)) / 1e9
    except Exception:  # noqa: BLE001 (a model that takes more than an image: Ultralytics has a way, or says 0.0)
        return float(wrapped(*args, **kwargs))


def _yaml_model_load(
    wrapped: Callable[[str], dict[str, Any]], _instance: None, args: Any, kwargs: Any
) -> dict[str, Any]:
    path = Path(inspect.signature(wrapped).bind(*args, **kwargs).arguments["path"])
    loaded = load_own(path, wrapped) or asked_for(str(path), wrapped)
    if structure.drop_anchors(loaded):
        _say_that_anchors_are_left_out(path)
    return loaded


@cache
def _say_that_anchors_are_left_out(path: Path) -> None:
    log.warning(
        f"attngraft: {path} has the anchors of the YOLOv5 repository, which heads of Ultralytics do not take; they are "
        "left out, as in Ultralytics' own yolov5.yaml"
    )
