"""The plan of a study: what is compared, on what, and by what rule; fixed and hashed before the first run.

data: fruit.yaml
base: yolo11n
arms: [mhsa@P5, ema@P4]
seeds: 3-15
train: {epochs: 50}
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from attngraft._core.errors import OptionError, PlanError, UnknownNameError, suggest
from attngraft._core.yaml_files import read_yaml
from attngraft.coco.metrics import is_metric, parse_metric
from attngraft.study.commands import split_command
from attngraft.yolo import Recipe

Match = Literal["parameters", "latency"]
Interrupted = Literal["resume", "restart"]
Kind = Literal["control", "arm"]
Control = Literal["stock", "noop", "conv"]
Split = Literal["val", "test", "train"]
RuleName = Literal["looks", "anytime"]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Count = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]
Points = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Chance = Annotated[float, Field(strict=True, gt=0, lt=1)]

CONTROLS: tuple[Control, ...] = get_args(Control)
STOCK: Control = "stock"
"""Name of the baseline among the arms."""
SEEDS: Any = "3-15"
"""Seeds of a plan that names none: it is judged after the third seed and after each one more, until it is decided."""

RUN_OPTIONS = {
    "workers": "parallel= says how many runs go on at once; loader processes of Ultralytics are train.workers=",
    "parallel": "give it to the command or to run()",
    "engine": "give it to the command or to run()",
    "address": "give it to the command or to run()",
    "gpus": "give it to the command or to run()",
    "anyway": "give it to the command or to run()",
    "folder": "give it to the command or to Study()",
}
GRAFT_TEXT = re.compile(r"\s*[A-Za-z_]\w*\s*[(@]")
SEED_RANGE = re.compile(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*")
BETWEEN_ARMS = re.compile(r",(?!\s*(?:[PN]\d|\d+(?:\.\w+)*)\s*(?:[,+]|\Z))(?![^(]*\))")


@dataclass(frozen=True)
class Arm:
    """One recipe of a study.

    Attributes:
        name: How it is called in records and reports.
        model: The recipe.
        kind: ``arm``, or ``control`` if the study added it.
        against: The arms whose cost it matches, for a ``conv`` control.
        note: How closely it does.
    """

    name: str
    model: str
    kind: Kind = "arm"
    against: tuple[str, ...] = ()
    note: str = ""

    @property
    def slug(self) -> str:
        """Return its name as files are called, unlike that of any other arm."""
        plain = re.sub(r"[^\w.@+-]+", "-", self.name).strip("-")[:60]
        return plain if plain == self.name else f"{plain}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Plan:
    r"""What a study promises before it begins.

    Args:
        data: Ultralytics' data file.
        arms: What to compare: grafts such as ``mhsa@P5`` on the base, or whole recipes such as ``yolo11s``.
        base: The model that arms are grafted onto.
        controls: Which of `CONTROLS` to add; ``stock`` must be among them.
        seeds: Runs of each arm, at seeds ``first_seed``, ``first_seed + 1``, ...; or the first and the most of them, as
            in ``3-15``, which is what a plan gets that says nothing of seeds.
        first_seed: The first of them.
        max_seeds: Where given, every arm is judged after ``seeds`` seeds and after each one more, until it is decided
            or has that many. A plan that gives ``seeds`` alone is judged once, after all of them.
        rule: How looks are allowed for: ``looks`` spends ``alpha`` over those that are planned; ``anytime`` needs no
            plan of them and may go on for as long as you like, which takes a few more seeds.
        metric: What verdicts are about: ``AP``, ``AP50``, ``APs``, ``AR100``, ``F1@0.25``, ``AP/cat`` of one class, or
            a weighted mean such as ``0.7*AP/cat + 0.3*AP/dog``. With ``command`` also any number that the program
            writes, such as ``top1``.
        sesoi: Smallest effect size of interest, in points (0 to 100).
        alpha: Family-wise error of the verdicts.
        max_latency: Most latency that an arm may have, as a multiple of the baseline's; the report says of each whether
            its measured interval stays within it.
        match: What the ``conv`` control has in common with its arm.
        split: What is detected on: ``val``, ``test`` or ``train``.
        interrupted: What becomes of a run that was killed: ``restart``, which gives the run that it would have been, or
            ``resume`` from its last epoch, where Ultralytics goes on from averaged half-precision weights and begins
            the order of images again: quicker, and another run, which the report names.
        folds: A validation fold for each seed: the images of the splits train and val are dealt into so many folds, and
            the runs of the first seed are validated on the first fold and trained on the others, and so on.
        group: A regular expression whose one group names, in an image's file name, what must not be torn apart, such as
            the patient: ``(patient\d+)_``. Folds and the bootstrap take whole groups.
        command: Any program that carries out a run, such as ``python train.py {arm} {seed} {folder}``; see
            `attngraft.study.running.program`. Arms are then names that it knows, and ``base`` is the baseline's.
        train: Ultralytics' training options; those left out are written into the plan's file with their defaults.

    Raises:
        PlanError: If it cannot be carried out.

    Example:
        >>> plan = Plan(data="fruit.yaml", arms=("eca@P5",), train={"epochs": 50})
        >>> plan.seeds, plan.max_seeds, plan.controls, plan.train["epochs"], plan.train["imgsz"]
        (3, 15, ('stock', 'noop', 'conv'), 50, 640)
    """

    data: Text
    arms: tuple[Text, ...]
    base: Text = "yolo11n"
    controls: tuple[Control, ...] = CONTROLS
    seeds: Count = SEEDS
    first_seed: Seed = 0
    max_seeds: Count | None = None
    rule: RuleName = "looks"
    metric: Text = "AP"
    sesoi: Points = 0.5
    alpha: Chance = 0.05
    max_latency: Points | None = None
    match: Match = "parameters"
    split: Split = "val"
    interrupted: Interrupted = "restart"
    folds: Annotated[int, Field(strict=True, ge=2, le=100)] | None = None
    group: Text | None = None
    command: Text | None = None
    train: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field and fill in the training's defaults."""
        for name in ("arms", "controls"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for name, value in zip(("seeds", "max_seeds"), _looks(self.seeds, self.max_seeds), strict=True):
            object.__setattr__(self, name, value)
        _check(self)
        object.__setattr__(self, "data", _absolute(str(self.data)))
        object.__setattr__(self, "base", _absolute(str(self.base)))
        if self.command is not None:
            object.__setattr__(self, "controls", (STOCK,))
            _check_command(self)
            return
        object.__setattr__(self, "train", _training(self.train))
        for arm in self.arms:
            arm_recipe(self.base, arm)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Plan:
        """Make a plan of keys and values; a training option may stand among the plan's own keys.

        Raises:
            PlanError: If a key is unknown (names the nearest), or the plan cannot be carried out.
        """
        from attngraft.yolo.training import training_defaults

        values = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in values.items()}
        for key in RUN_OPTIONS:
            if key in values:
                raise PlanError(f"{key} belongs to carrying a plan out, not to the plan; {RUN_OPTIONS[key]}")
        own, host = {f.name for f in fields(cls)}, training_defaults()
        unknown = [key for key in values if key not in own and key not in host]
        if unknown:
            raise PlanError(f"a plan has no key {unknown[0]!r}; {suggest(str(unknown[0]), sorted({*own, *host}))}")
        for key in ("data", "arms"):
            if key not in values:
                raise PlanError(f"a plan needs {key}, as in: data=fruit.yaml arms=mhsa@P5,ema@P4")
        train = values.get("train") or {}
        if not isinstance(train, Mapping):
            raise PlanError(f"train: holds training options, as in train: {{epochs: 50}}, got {train!r}")
        twice = [key for key in values if key in train]
        if twice:
            raise PlanError(f"the training option {twice[0]!r} is given twice, once under train:; leave one out")
        given = {key: value for key, value in values.items() if key in own and key != "train"}
        return cls(**given, train={**train} | {key: value for key, value in values.items() if key not in own})

    @classmethod
    def read(cls, file: str | Path) -> Plan:
        """Read a plan from a YAML file.

        Raises:
            PlanError: If it is no plan.
        """
        return cls.of(load(Path(file)))

    @property
    def own_metric(self) -> bool:
        """Whether the metric is a number that a program of the user's computes itself, not one of COCO's."""
        return self.command is not None and not is_metric(self.metric)

    def recipes(self) -> list[Arm]:
        """Return the arms that need no measurement: the controls ``stock`` and ``noop``, and what was asked for.

        A program of the user's has the control ``stock`` alone.
        """
        controls = [Arm(STOCK, self.base, "control")]
        if self.command is not None:
            return [*controls, *(Arm(name, name) for name in self.arms)]
        arms = [Arm(text, arm_recipe(self.base, text)) for text in self.arms]
        places = dict.fromkeys(p for arm in arms for g in Recipe.parse(arm.model).grafts for p in g.places)
        if "noop" in self.controls and places:
            controls.append(Arm("noop", f"{self.base}+noop@{','.join(places)}", "control"))
        return [*controls, *arms]


def split_arms(text: str) -> tuple[str, ...]:
    """Split arms at the commas that do not belong to places or options.

    Example:
        >>> split_arms("mhsa@P5,ema(groups=8)@P3,P4,se@N3+eca@P5,yolo11s+se@P5")
        ('mhsa@P5', 'ema(groups=8)@P3,P4', 'se@N3+eca@P5', 'yolo11s+se@P5')
    """
    return tuple(part.strip() for part in BETWEEN_ARMS.split(text))


def arm_recipe(base: str, arm: str) -> str:
    """Say the recipe that an arm of a plan stands for.

    Raises:
        RecipeError: If it cannot be read.
    """
    return str(Recipe.parse(f"{base}+{arm}" if GRAFT_TEXT.match(arm) else arm))


def _check(plan: Plan) -> None:
    check_fields(plan, *_adapters())
    if not plan.arms:
        raise PlanError("a plan needs an arm to compare with the baseline, as in: arms=mhsa@P5")
    if "stock" not in plan.controls:
        raise PlanError("a study compares with the baseline; put stock among the controls")
    if plan.command is None:
        try:
            parse_metric(plan.metric)
        except (OptionError, UnknownNameError) as error:
            raise PlanError(str(error)) from error
    if plan.rule == "anytime" and plan.max_seeds is None:
        raise PlanError("the rule anytime looks after every seed; give the first and the most, as in seeds=3-15")
    if plan.folds is not None and plan.split != "val":
        raise PlanError(f"with folds, a run is evaluated on its own fold, and split is val, got {plan.split}")
    if plan.group is not None:
        _check_group(plan.group)
    doubled = [name for name in plan.arms if plan.arms.count(name) > 1 or name in CONTROLS]
    if doubled:
        raise PlanError(f"the arm {doubled[0]!r} stands in the plan twice; leave one out")
    if plan.max_seeds is not None and plan.max_seeds < max(plan.seeds, 2):
        raise PlanError(
            f"max_seeds is at least seeds={plan.seeds} and 2, got {plan.max_seeds}; leave it out to judge once"
        )


def check_fields(plan: Plan, *names: str) -> None:
    """Check fields of a plan one by one.

    Raises:
        PlanError: If one cannot be.
    """
    for name in names:
        try:
            _adapters()[name].validate_python(getattr(plan, name))
        except ValidationError as error:
            raise PlanError(_sentence(name, error)) from error


@lru_cache(maxsize=1)
def _adapters() -> dict[str, TypeAdapter[Any]]:
    """Return what checks each field of a plan."""
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(Plan, include_extras=True).items()}


def _sentence(name: str, error: ValidationError) -> str:
    """Say what a field should be, what it is, and which word is near."""
    found = error.errors()[0]
    said = f"{name} {found['msg'][0].lower()}{found['msg'][1:]}".replace("input should", "should")
    sentence = f"{said}, got {found['input']!r}"
    if found["type"] != "literal_error":
        return sentence
    allowed = re.findall(r"'([^']*)'", found["ctx"]["expected"])
    return f"{sentence}; {suggest(str(found['input']), allowed)}"


def _looks(seeds: Any, max_seeds: Any) -> tuple[Any, Any]:
    """Read ``3-15`` as the first look and the last."""
    match = SEED_RANGE.fullmatch(seeds) if isinstance(seeds, str) else None
    if match is None:
        return seeds, max_seeds
    if max_seeds is None:
        return int(match[1]), int(match[2])
    if seeds != SEEDS:
        raise PlanError(f"seeds={seeds} names the most seeds already; leave out max_seeds={max_seeds!r}")
    return (min(int(match[1]), max_seeds) if isinstance(max_seeds, int) else int(match[1])), max_seeds


def _training(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults.

    Raises:
        PlanError: If an option is unknown, or is the study's to set.
    """
    from attngraft.yolo.options import check_training
    from attngraft.yolo.training import RESERVED, training_defaults

    known = training_defaults()
    for key in given:
        if key in RESERVED:
            raise PlanError(f"the training option {key!r} is set by the study itself; leave it out of train:")
        if key not in known:
            raise PlanError(f"training has no option {key!r}; {suggest(str(key), sorted(known))}")
    merged = known | dict(given)
    try:
        check_training(merged)
    except OptionError as error:
        raise PlanError(f"training option {error}") from error
    return merged


def _check_group(group: str) -> None:
    """Check the regular expression that names an image's group.

    Raises:
        PlanError: If it is none, or marks another number of groups than one.
    """
    try:
        marked = re.compile(group).groups
    except re.error as error:
        raise PlanError(f"group {group!r} is no regular expression ({error}); as in: (patient\\d+)_") from error
    if marked != 1:
        raise PlanError(f"group {group!r} marks {marked} groups, expected one; as in: (patient\\d+)_")


def _check_command(plan: Plan) -> None:
    """Check what a plan with a program of the user's may say.

    Raises:
        PlanError: If it says more.
    """
    split_command(plan.command or "")
    if plan.train:
        raise PlanError(
            f"the training option {next(iter(plan.train))!r} is Ultralytics', and command: trains with a program of "
            "yours; put it into the command"
        )
    if plan.folds is not None:
        raise PlanError("folds deals the images of Ultralytics' data files; a program of yours has splits of its own")
    if plan.group is not None and plan.own_metric:
        raise PlanError(f"group is how images are drawn, and {plan.metric!r} is a number of a whole run; leave it out")
    if plan.base in plan.arms:
        raise PlanError(f"the baseline {plan.base!r} stands among the arms; leave it out there")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        text = value.strip()
        text = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        return split_arms(text) if name == "arms" else tuple(word.strip() for word in text.split(","))
    if isinstance(value, Iterable) and all(isinstance(item, str) for item in value):
        return tuple(value)
    example = "[mhsa@P5, ema@P4]" if name == "arms" else f"[{', '.join(CONTROLS)}], or stock alone for the fewest"
    raise PlanError(f"{name} is a list of texts such as {example}, got {value!r}")


def _absolute(name: str) -> str:
    """Make a path that exists independent of the working folder."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def load(file: Path) -> dict[str, Any]:
    """Read a YAML file with the keys of a plan.

    Raises:
        PlanError: If it cannot be read, or holds something else.
    """
    values = read_yaml(file, error=PlanError, once=True)
    if not isinstance(values, dict):
        raise PlanError(f"{file} holds no plan; it needs keys such as data: and arms:")
    return values
