"""Model cards: what was grafted, on what it was trained, what it reached, and whether that is more than luck."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from attngraft._core.errors import CheckpointError, DataError, RecipeError
from attngraft._core.imports import file_of
from attngraft.measure import flops, parameters
from attngraft.study.judging.results import ArmResult, Results
from attngraft.study.layout import RESULTS
from attngraft.study.reporting import words
from attngraft.yolo import YOLO, GraftSpec
from attngraft.yolo.recipe import Recipe, parse_grafts
from attngraft.yolo.rows import YAML_KEY

PIPELINES = {
    "detect": "object-detection",
    "segment": "image-segmentation",
    "pose": "keypoint-detection",
    "obb": "object-detection",
    "classify": "image-classification",
}
"""What Hugging Face calls Ultralytics' tasks."""

SETTINGS = ("epochs", "imgsz", "batch", "optimizer", "lr0", "seed", "freeze", "pretrained")
"""Training options that a reader of a card looks for."""


@dataclass(frozen=True)
class Card:
    """What a card says, apart from how.

    Attributes:
        file: The checkpoint.
        task: Ultralytics' task.
        grafts: What was joined, in order; empty for a model without grafts of ours.
        base: What it was joined to, where the checkpoint or the caller says.
        data: The data file and its folder.
        classes: The class names.
        training: The options of the training run, those of `SETTINGS`.
        figures: The metrics of the checkpoint's own validation, such as ``metrics/mAP50-95(B)``.
        parameters: Of the whole model.
        flops: Of one image at the training size.
        imgsz: That size.
        versions: Of Ultralytics, and when.
        verdict: The arm's line of a study, where one was given.
        study: That study's results.
    """

    file: str
    task: str
    grafts: tuple[GraftSpec, ...]
    base: str
    data: str
    classes: tuple[str, ...]
    training: Mapping[str, Any]
    figures: Mapping[str, float]
    parameters: int
    flops: float
    imgsz: int
    versions: str
    verdict: ArmResult | None = None
    study: Results | None = None

    def markdown(self) -> str:
        """Return the card: the metadata that Hugging Face reads, then Markdown."""
        metadata = yaml.safe_dump(self.metadata(), sort_keys=False, allow_unicode=True)
        parts = [self._what(), self._use(), self._training(), self._verdict(), self._cost(), self._licence()]
        return f"---\n{metadata}---\n\n# {self._title()}\n\n" + "\n".join(parts)

    def metadata(self) -> dict[str, Any]:
        """Return what the front matter holds."""
        mechanisms = list(dict.fromkeys(spec.name for spec in self.grafts))
        metadata: dict[str, Any] = {
            "license": "agpl-3.0",
            "library_name": "ultralytics",
            "pipeline_tag": PIPELINES.get(self.task, "object-detection"),
            "tags": ["yolo", "attention", "attngraft", *mechanisms],
        }
        scores = [
            {"type": _metric(name), "name": name, "value": round(float(value), 5)}
            for name, value in self.figures.items()
        ]
        if scores:
            row = {
                "task": {"type": metadata["pipeline_tag"]},
                "dataset": {"name": self.data or "unknown", "type": self.data or "unknown"},
                "metrics": scores,
            }
            metadata["model-index"] = [{"name": self._title(), "results": [row]}]
        return metadata

    def _title(self) -> str:
        grafts = "".join(f"+{spec}" for spec in self.grafts)
        return f"{Path(self.base).stem or Path(self.file).stem}{grafts}"

    def _what(self) -> str:
        if not self.grafts:
            return "A model without grafts.\n"
        lines = ["## What was grafted", ""]
        for spec in self.grafts:
            record = spec.record
            told = [f"{record.summary.rstrip('.')}."] if record.summary else []
            told += [f"`{record.formula}`."] if record.formula else []
            told.append(f"Paper: {record.paper}" if record.paper else "No paper is named.")
            lines.append(f"- **`{spec}`**: {' '.join(told)}")
            if record.differs:
                lines.append(f"  Differs from it: {record.differs}".replace("``", "`"))
        return "\n".join([*lines, *self._elsewhere()]) + "\n"

    def _elsewhere(self) -> list[str]:
        """Say what has to be there besides attngraft: classes of others' files and packages."""
        said = []
        for cls in dict.fromkeys(spec.record.cls for spec in self.grafts):
            file, package = file_of(cls), cls.__module__.partition(".")[0]
            if file is not None:
                said.append(f"`{cls.__name__}` is in `{file.name}`, which has to come with the checkpoint.")
            elif package != "attngraft":
                said.append(f"`{cls.__name__}` is in the package `{package}`, which has to be installed.")
        return ["", *said] if said else []

    def _plugins(self) -> str:
        """Return the options that give the files of grafts that are not attngraft's own."""
        files = dict.fromkeys(file.name for spec in self.grafts if (file := file_of(spec.record.cls)))
        return "".join(f"--plugin {name} " for name in files)

    def _use(self) -> str:
        predict = f"predict model={Path(self.file).name} source=image.jpg imgsz={self.imgsz}"
        return (
            f"## Use\n\n```console\npip install attngraft\nattngraft {self._plugins()}{predict}\n```\n\n"
            f"Task: {self.task}. Classes: {', '.join(self.classes)}. A checkpoint is a pickle: with "
            "`ULTRALYTICS_SAFE_LOAD=1` nothing in it is run.\n"
        )

    def _training(self) -> str:
        lines = ["## Training and figures", "", f"Data: `{self.data or 'unknown'}`. {self.versions}", ""]
        if self.training:
            lines += ["| option | value |", "|---|---|"]
            lines += [f"| `{key}` | `{value}` |" for key, value in self.training.items()] + [""]
        if self.figures:
            lines += ["| metric of its validation split | value |", "|---|--:|"]
            lines += [f"| {name} | {float(value):.4f} |" for name, value in self.figures.items()] + [""]
        lines.append("These are the figures of one training run; another seed gives others.")
        return "\n".join(lines) + "\n"

    def _verdict(self) -> str:
        if self.study is None or self.verdict is None:
            return (
                "## Did the attention help?\n\nNot known: this card was written without a study. "
                "`attngraft study` compares the recipe with its baseline over several seeds.\n"
            )
        arm, setting = self.verdict, self.study.setting
        said = words.answer(arm, self.study)
        of = f" of {words.compared(setting)}" if setting.task else ""
        pairs = f"{arm.estimate.seeds} pair{'' if arm.estimate.seeds == 1 else 's'} of runs"
        return f"## Did the attention help?\n\n{said}\n\nJudged by {setting.metric}{of} in {pairs}.\n"

    def _cost(self) -> str:
        lines = [
            "## Cost",
            "",
            f"{self.parameters:,} parameters, {self.flops / 1e9:.2f} GFLOPs for one image of {self.imgsz} pixels.",
        ]
        latency = self.verdict.cost.latency if self.verdict else None
        if latency and self.study:
            lines.append(
                f"Latency: {latency[0]:.2f} times the baseline's ({latency[1]:.2f} to {latency[2]:.2f}), on "
                f"{self.study.costs_on.get('device', 'the machine of the study')}."
            )
        return "\n".join(lines) + "\n"

    def _licence(self) -> str:
        return (
            "## Licence\n\nUltralytics, which trained this model, is AGPL-3.0, and its vendor reads that as covering "
            "the weights, unless you hold its Enterprise licence. The licence of the data is that of their source.\n"
        )


def card(
    model: str | os.PathLike[str],
    *,
    study: str | os.PathLike[str] | None = None,
    arm: str | None = None,
    base: str | None = None,
) -> Card:
    """Read what a card says from a checkpoint, and its verdict from a study.

    Args:
        model: A checkpoint.
        study: Folder of a study, or its ``results.json``; None writes a card without a verdict.
        arm: Which arm of the study the model is of; None takes the one with the model's grafts.
        base: What the grafts were joined to; None takes what the checkpoint says.

    Raises:
        CheckpointError: If the checkpoint cannot be opened.
        DataError: If the study has no results, or no such arm.
    """
    opened = YOLO(os.fspath(model))
    if not opened.ckpt:
        raise CheckpointError(f"{model} is no checkpoint with weights; give a file that ends in .pt")
    checkpoint, network = opened.ckpt, opened.model
    grafts = parse_grafts(network.yaml.get(YAML_KEY) or "") if network.yaml.get(YAML_KEY) else ()
    arguments = {**checkpoint.get("train_args", {})}
    size = arguments.get("imgsz") or 640
    imgsz = int(max(size) if isinstance(size, (list, tuple)) else size)
    results = _results(study)
    return Card(
        file=os.fspath(model),
        task=opened.task,
        grafts=grafts,
        base=base or str(network.yaml.get("yaml_file") or arguments.get("model") or ""),
        data="/".join(Path(str(arguments.get("data") or "")).parts[-2:]),
        classes=tuple(map(str, network.names.values())),
        training={key: arguments[key] for key in SETTINGS if key in arguments},
        figures={k: v for k, v in (checkpoint.get("train_metrics") or {}).items() if k.startswith("metrics/")},
        parameters=parameters(network),
        flops=flops(network, torch.zeros(1, network.yaml.get("channels", 3), imgsz, imgsz)),
        imgsz=imgsz,
        versions=f"Ultralytics {checkpoint.get('version', '?')}, {str(checkpoint.get('date', ''))[:10]}.",
        verdict=_arm(results, arm, grafts) if results else None,
        study=results,
    )


def _results(study: str | os.PathLike[str] | None) -> Results | None:
    """Read a study's results.

    Raises:
        DataError: If there are none.
    """
    if study is None:
        return None
    path = Path(study)
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{study} has no {RESULTS}; write it first: attngraft study report {study}")
    return Results.load(file)


def _arm(results: Results, name: str | None, grafts: tuple[GraftSpec, ...]) -> ArmResult:
    """Find the arm of a model.

    Raises:
        DataError: If there is none, or more than one.
    """
    own = "+".join(map(str, grafts))
    found = [arm for arm in results.asked if (_grafts(arm) == grafts if name is None else arm.name == name)]
    if len(found) != 1:
        raise DataError(
            f"the study has the arms {', '.join(arm.name for arm in results.asked) or 'none'}, and none of them is "
            f"{name or own or 'a model without grafts'!r}; name the model's as arm="
        )
    return found[0]


def _grafts(arm: ArmResult) -> tuple[GraftSpec, ...] | None:
    """Return an arm's grafts; None where its model is no recipe that can be read here."""
    try:
        return Recipe.parse(arm.model).grafts
    except RecipeError:
        return None


def _metric(name: str) -> str:
    """Return the type that Hugging Face knows a metric by."""
    return "mAP" if "mAP" in name else name.removeprefix("metrics/").partition("(")[0]
