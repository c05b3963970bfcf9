"""`YOLO`: Ultralytics' own object, opened by a recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ultralytics import RTDETR
from ultralytics import YOLO as StockYOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import RTDETRDecoder
from ultralytics.utils import ONLINE, SETTINGS
from ultralytics.utils.checks import check_model_file_from_stem
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from attngraft._core.cache import ADVICE
from attngraft._core.errors import AttngraftError, CheckpointError, ModelYamlError, OutputError, first_line
from attngraft._core.files import CHOOSE
from attngraft.yolo import checkpoint, structure
from attngraft.yolo.joining import graft_model
from attngraft.yolo.rebuilding import changed_by_rebuild
from attngraft.yolo.recipe import Recipe
from attngraft.yolo.yamls import is_ours

log = logging.getLogger("ultralytics")


@contextmanager
def quiet(level: int = logging.ERROR) -> Iterator[None]:
    """Keep Ultralytics from printing what is below a level."""
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)


CONFIGS = (".yaml", ".yml")


class YOLO(StockYOLO):
    """A host model opened by a recipe; train, val, predict, track, tune and export are Ultralytics' own.

    A base with weights keeps every one of them. A base without weights (a YAML), and grafts that were never trained or
    changed, are re-initialized, with the ``seed`` of the training run, by ``train()``, as Ultralytics does.

    Args:
        model: A recipe such as ``yolo11n.pt+mhsa@P5``, or anything Ultralytics takes.
        task: Ultralytics' task; None takes the model's own.
        verbose: Whether Ultralytics prints the layers.

    Raises:
        RecipeError: If the recipe cannot be read.
        PlaceError: If the base lacks a place.
        OptionError: If a mechanism cannot be built at that width.

    Example:
        >>> model = YOLO("yolo11n.yaml+mhsa@P5")  # doctest: +SKIP
        >>> model.train(data="my.yaml", epochs=50)  # doctest: +SKIP
    """

    def __init__(self, model: str | Path = "yolo11n", task: str | None = None, verbose: bool = False) -> None:
        recipe = Recipe.parse(str(model))
        base = resolve_base(recipe.base)
        if not recipe.grafts and not base.lower().endswith((*CONFIGS, ".pt")):
            super().__init__(base, task=task, verbose=verbose)  # an exported model
            return
        stock = open_stock(base, task=task, verbose=verbose)
        if not recipe.grafts and (stock.ckpt or not checkpoint.is_grafted(stock.model.yaml)):
            self.__class__, self.__dict__ = _like(stock), stock.__dict__
            return
        from_weights = bool(stock.ckpt)
        seed = checkpoint.seed_file(recipe)
        _write(stock, recipe, seed, ADVICE)
        super().__init__(str(seed), task=task, verbose=verbose)
        if not from_weights and any(spec.mode == "after" and spec.init == "identity" for spec in recipe.grafts):
            log.info(
                "attngraft: the base has no pretrained weights, so identity initialization brings no benefit; "
                "init=paper converges faster"
            )
        if not from_weights:
            self.overrides["pretrained"] = False  # train() then builds from the YAML under the seed of the run


def graft(base: str, grafts: str, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write a grafted checkpoint that the stock ``yolo`` command trains, validates, predicts with and exports.

    Args:
        base: Anything Ultralytics takes: weights, or a YAML name when there are none.
        grafts: What to join, such as ``mhsa@P5+ema@P4``.
        out: The file to write, ending in ``.pt``.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The file that was written.

    Raises:
        OutputError: If ``out`` exists, cannot be written or is not a ``.pt``.
        RecipeError: If ``grafts`` cannot be read.
        PlaceError: If the base lacks a place.
        OptionError: If a mechanism cannot be built at that width.
    """
    out = Path(out)
    if out.suffix != ".pt":
        raise OutputError(f"a checkpoint's name ends in .pt, got {out}")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists and is left as it is; name another file, or allow overwriting")
    recipe = Recipe.parse(f"{base}+{grafts}")
    stock = open_stock(resolve_base(recipe.base))
    _write(stock, recipe, out)
    return out


def open_stock(base: str, *, task: str | None = None, verbose: bool = False) -> Any:
    """Open a base with Ultralytics' class for it.

    Raises:
        CheckpointError: If it is not there, or a file that Ultralytics cannot open.
    """
    if base.endswith(".pt") and Path(base).is_file():
        checkpoint.inspect_file(Path(base))
    if base.lower().endswith(CONFIGS):
        return _build(base, task=task, verbose=verbose)
    return StockYOLO(base, task=task, verbose=verbose)


def _build(base: str, *, task: str | None, verbose: bool) -> Any:
    """Build a YAML with Ultralytics' class for it.

    Raises:
        ModelYamlError: If it cannot be built.
    """
    model_yaml = load_yaml(base)
    structure.require_model_yaml(model_yaml, base)
    head = getattr(tasks, model_yaml["head"][-1][2], None)
    try:
        if isinstance(head, type) and issubclass(head, RTDETRDecoder):
            return RTDETR(base)  # asked for YOLO Ultralytics cannot tell the task of this head's YAML
        return StockYOLO(base, task=task, verbose=verbose)
    except (AttngraftError, MemoryError):
        raise
    except NotImplementedError as error:
        last = model_yaml["head"][-1][2]
        raise ModelYamlError(
            f"{base} ends in {last}, which says no task; end it in a head such as Detect, or name the task: task=detect"
        ) from error
    except Exception as error:
        raise ModelYamlError(
            f"{base} cannot be built: {first_line(error)}; check what its rows read and give"
        ) from error


def load_yaml(base: str) -> dict[str, Any]:
    """Load a model YAML by file or name.

    Raises:
        CheckpointError: If it, or the one that it is based on, is not there.
        ModelYamlError: If it cannot be read.
    """
    try:
        loaded: dict[str, Any] = tasks.yaml_model_load(base)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"the model {error}; check the path, or take a name of Ultralytics, such as yolo11n.yaml"
        ) from error
    return loaded


def resolve_base(base: str) -> str:
    """Say which file or YAML name a base stands for.

    A bare stem such as ``yolo11n`` means Ultralytics' weights of that name, here or downloaded; where there are none
    and none can be had, it means the YAML of that name, and a warning says so. A model of ours, such as ``may``, means
    a file of weights that is here, or its YAML.

    Args:
        base: The base of a recipe.

    Raises:
        CheckpointError: If it is a ``.pt`` that neither exists nor can be downloaded by that name.
    """
    if Path(base).suffix == ".pt" and not _local(base):
        if Path(base).name not in GITHUB_ASSETS_NAMES:
            raise CheckpointError(
                f"there is no file {base}, and Ultralytics has no weights of that name; check the path"
            )
        if not ONLINE:
            raise CheckpointError(
                f"{base} was not found, and there is no network to download it; put the file here, or name its path"
            )
    if Path(base).suffix:
        return base
    if is_ours(base):
        return f"{base}.pt" if Path(f"{base}.pt").is_file() else f"{base}.yaml"
    weights = str(check_model_file_from_stem(base))
    try:
        found = attempt_download_asset(weights) if ONLINE or _local(weights) else ""
    except (ConnectionError, FileNotFoundError):
        found = ""
    if found and Path(found).is_file():
        return str(found)
    _warn_once(
        f"attngraft: {base}.pt was not found and could not be downloaded; building {base}.yaml with random weights"
    )
    return f"{base}.yaml"


def _local(weights: str) -> bool:
    """Tell whether weights are where Ultralytics looks for them before it downloads."""
    return Path(weights).is_file() or (Path(SETTINGS["weights_dir"]) / weights).is_file()


@cache
def _warn_once(message: str) -> None:
    """Warn once a process: a study builds the same base for every arm that it resolves."""
    log.warning(message)


def _write(stock: Any, recipe: Recipe, file: Path, advice: str = CHOOSE) -> None:
    if not hasattr(stock.model, "yaml"):
        raise CheckpointError(f"{recipe.base} is not a PyTorch model of Ultralytics, and only those can be grafted")
    if recipe.grafts:
        if stock.ckpt:
            _warn_of_other_yaml(stock.model, recipe.base)
        graft_model(stock.model, recipe.grafts)
    arguments = {"task": stock.task, "model": str(recipe)}
    checkpoint.save(stock.model, file, arguments=arguments, advice=advice)


def _warn_of_other_yaml(model: Any, base: str) -> None:
    dropped, replaced = changed_by_rebuild(model)
    if dropped:
        log.warning(
            f"attngraft: {len(dropped)} of the {len(model.state_dict())} pretrained tensors of {base}, such as "
            f"{dropped[0]}, are not those of its own YAML ({model.yaml.get('yaml_file')}): Ultralytics rebuilds from "
            "that to train and drops them, with or without grafts. Prediction, validation and export keep them"
        )
    if replaced:
        first = type(model.get_submodule(replaced[0])).__name__
        log.warning(
            f"attngraft: {len(replaced)} layers of {base}, such as {first} at {replaced[0]}, are of another class than "
            f"in its own YAML ({model.yaml.get('yaml_file')}): Ultralytics rebuilds from that to train and takes the "
            "YAML's, with or without grafts. Prediction, validation and export keep them"
        )


def _like(stock: Any) -> type:
    """Return our class for a plain YOLO, and Ultralytics' for what it turned into (RT-DETR, World, YOLOE)."""
    return YOLO if type(stock) is StockYOLO else type(stock)
