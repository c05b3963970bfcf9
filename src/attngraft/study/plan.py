"""The plan of a study: what is compared, on what, and by what rule; fixed and hashed before the first run.

data: fruit.yaml
base: yolo11n
arms: [mhsa@P5, ema@P4]
seeds: 5
train: {epochs: 50}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from attngraft._core.errors import PlanError, suggest
from attngraft._core.files import write_text
from attngraft.yolo import Recipe

Match = Literal["parameters", "latency"]
Interrupted = Literal["resume", "restart"]
Kind = Literal["control", "arm"]

CONTROLS = ("stock", "noop", "conv")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
RUN_OPTIONS = {
    "workers": "give it to the command as parallel= or to run(); loader processes of Ultralytics go under train:",
    "parallel": "give it to the command, or to run() as workers",
    "engine": "give it to the command or to run()",
    "address": "give it to the command or to run()",
    "gpus": "give it to the command or to run()",
    "folder": "give it to the command or to Study()",
}
GRAFT_TEXT = re.compile(r"\s*[A-Za-z_]\w*\s*[(@]")
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
    """What a study promises before it begins.

    Args:
        data: The host's data file.
        arms: What to compare: grafts such as ``mhsa@P5`` on the base, or whole recipes such as ``yolo11s``.
        base: The model that arms are grafted onto.
        controls: Which of `CONTROLS` to add; ``stock`` must be among them.
        seeds: Runs of each arm, at seeds ``first_seed``, ``first_seed + 1``, ...
        first_seed: The first of them.
        max_seeds: Where given, every arm is judged after ``seeds`` seeds and after each one more, until it is decided
            or has that many.
        metric: What verdicts are about, one of `METRICS`.
        sesoi: Smallest effect worth having, in AP points (0 to 100).
        alpha: Family-wise error of the verdicts.
        match: What the ``conv`` control has in common with its arm.
        split: What is detected on: ``val``, ``test`` or ``train``.
        interrupted: What becomes of a training that was killed: ``resume`` from its last epoch, where the host goes on
            from averaged half-precision weights, or ``restart``.
        train: The host's training options; those left out are written into the plan's file with their defaults.

    Raises:
        PlanError: If it cannot be carried out.

    Example:
        >>> plan = Plan(data="fruit.yaml", arms=("eca@P5",), train={"epochs": 50})
        >>> plan.seeds, plan.controls, plan.train["epochs"], plan.train["imgsz"]
        (5, ('stock', 'noop', 'conv'), 50, 640)
    """

    data: str
    arms: tuple[str, ...]
    base: str = "yolo11n"
    controls: tuple[str, ...] = CONTROLS
    seeds: int = 5
    first_seed: int = 0
    max_seeds: int | None = None
    metric: str = "AP"
    sesoi: float = 0.5
    alpha: float = 0.05
    match: Match = "parameters"
    split: str = "val"
    interrupted: Interrupted = "resume"
    train: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field and fill in the training's defaults."""
        for name in ("arms", "controls"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        _check(self)
        object.__setattr__(self, "data", _absolute(str(self.data)))
        object.__setattr__(self, "base", _absolute(str(self.base)))
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
        train = dict(values.get("train") or {})
        twice = [key for key in values if key in train]
        if twice:
            raise PlanError(f"the training option {twice[0]!r} is given twice, once under train:; leave one out")
        given = {key: value for key, value in values.items() if key in own and key != "train"}
        return cls(**given, train=train | {key: value for key, value in values.items() if key not in own})

    @classmethod
    def read(cls, file: str | Path) -> Plan:
        """Read a plan from a YAML file.

        Raises:
            PlanError: If it is no plan.
        """
        return cls.of(load(Path(file)))

    def recipes(self) -> list[Arm]:
        """Return the arms that need no measurement: the controls ``stock`` and ``noop``, and what was asked for."""
        arms = [Arm(text, arm_recipe(self.base, text)) for text in self.arms]
        controls = [Arm("stock", self.base, "control")]
        places = dict.fromkeys(p for arm in arms for g in Recipe.parse(arm.model).grafts for p in g.places)
        if "noop" in self.controls and places:
            controls.append(Arm("noop", f"{self.base}+noop@{','.join(places)}", "control"))
        return [*controls, *arms]


@dataclass(frozen=True)
class Fixed:
    """A plan with its arms settled, as it stands in the study's folder.

    Attributes:
        plan: The plan.
        arms: Every arm and control, the first being ``stock``.
    """

    plan: Plan
    arms: tuple[Arm, ...]

    FILE = "plan.yaml"
    HEAD = (
        "# The plan of this study, with every default written out; it was fixed before the first run.\n"
        "# Its hash stands in every record: a changed plan is a new study, in a folder of its own.\n"
    )

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, equal exactly for equal plans."""
        return hashlib.sha256(json.dumps(self._plain(), sort_keys=True).encode()).hexdigest()[:16]

    def arm(self, name: str) -> Arm:
        """Return an arm by name.

        Raises:
            PlanError: If there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise PlanError(f"the study has no arm {name!r}; {suggest(name, [arm.name for arm in self.arms])}")

    def write(self, folder: Path) -> None:
        """Write the plan into the study's folder."""
        text = yaml.safe_dump(self._plain(), sort_keys=False, allow_unicode=True, width=100)
        write_text(folder / self.FILE, f"{self.HEAD}hash: {self.hash}\n{text}")

    @classmethod
    def read(cls, folder: Path) -> Fixed:
        """Read the plan of a study's folder.

        Raises:
            PlanError: If there is none, or it was changed.
        """
        file = folder / cls.FILE
        if not file.is_file():
            raise PlanError(f"{folder} holds no study; start one with: attngraft study plan.yaml folder={folder}")
        values = load(file)
        wanted, arms = values.pop("hash", None), values.pop("resolved", [])
        fixed = cls(Plan.of(values), tuple(Arm(**{**arm, "against": tuple(arm["against"])}) for arm in arms))
        if fixed.hash != wanted:
            raise PlanError(f"{file} was changed after the study began; put it back, or begin a new study with it")
        return fixed

    def _plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = {**asdict(self.plan), "resolved": [asdict(arm) for arm in self.arms]}
        return dict(json.loads(json.dumps(plain, default=str)))


def split_arms(text: str) -> tuple[str, ...]:
    """Split arms at the commas that do not belong to places or options.

    Example:
        >>> split_arms("mhsa@P5,ema(factor=8)@P3,P4,se@N3+eca@P5,yolo11s+se@P5")
        ('mhsa@P5', 'ema(factor=8)@P3,P4', 'se@N3+eca@P5', 'yolo11s+se@P5')
    """
    return tuple(part.strip() for part in BETWEEN_ARMS.split(text))


def arm_recipe(base: str, arm: str) -> str:
    """Say the recipe that an arm of a plan stands for.

    Raises:
        RecipeError: If it cannot be read.
    """
    return str(Recipe.parse(f"{base}+{arm}" if GRAFT_TEXT.match(arm) else arm))


def _check(plan: Plan) -> None:
    if not plan.arms:
        raise PlanError("a plan needs an arm to compare with the stock model, as in: arms=mhsa@P5")
    for name in plan.controls:
        if name not in CONTROLS:
            raise PlanError(f"no control is called {name!r}; {suggest(name, CONTROLS)}")
    if "stock" not in plan.controls:
        raise PlanError("a study compares with the stock model; put stock among the controls")
    doubled = [name for name in plan.arms if plan.arms.count(name) > 1 or name in CONTROLS]
    if doubled:
        raise PlanError(f"the arm {doubled[0]!r} stands in the plan twice; leave one out")
    for name, allowed in {"metric": METRICS, "match": get_args(Match), "interrupted": get_args(Interrupted)}.items():
        if getattr(plan, name) not in allowed:
            raise PlanError(f"{name} is one of {', '.join(allowed)}, got {getattr(plan, name)!r}")
    for name, least in {"seeds": 1, "first_seed": 0}.items():
        value = getattr(plan, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise PlanError(f"{name} is a whole number from {least} up, got {value!r}")
    if plan.max_seeds is not None and not (isinstance(plan.max_seeds, int) and plan.max_seeds >= max(plan.seeds, 2)):
        raise PlanError(
            f"max_seeds is at least seeds={plan.seeds} and 2, got {plan.max_seeds!r}; leave it out for one look"
        )
    if not _number(plan.sesoi) or plan.sesoi <= 0:
        raise PlanError(f"sesoi is a difference in AP points above 0, such as 0.5, got {plan.sesoi!r}")
    if not _number(plan.alpha) or not 0 < plan.alpha < 1:
        raise PlanError(f"alpha is between 0 and 1, such as 0.05, got {plan.alpha!r}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _training(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults.

    Raises:
        PlanError: If an option is unknown, or is the study's to set.
    """
    from attngraft.yolo.training import RESERVED, training_defaults

    known = training_defaults()
    for key in given:
        if key in RESERVED:
            raise PlanError(f"the training option {key!r} is set by the study itself; leave it out of train:")
        if key not in known:
            raise PlanError(f"training has no option {key!r}; {suggest(str(key), sorted(known))}")
    return known | dict(given)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        text = value.strip()
        text = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        return split_arms(text) if name == "arms" else tuple(word.strip() for word in text.split(","))
    if isinstance(value, Iterable) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise PlanError(f"{name} is a list of texts such as [mhsa@P5, ema@P4], got {value!r}")


def _absolute(name: str) -> str:
    """Make a path that exists independent of the working folder."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def load(file: Path) -> dict[str, Any]:
    """Read a YAML file with the keys of a plan.

    Raises:
        PlanError: If it cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"cannot read the plan {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise PlanError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise PlanError(f"{file} holds no plan; it needs keys such as data: and arms:")
    return values
