"""A plan with its arms resolved and its hash, as it stands in the folder of a study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from attngraft._core.errors import PlanError, suggest
from attngraft._core.files import write_text
from attngraft.study.plan import Arm, Plan, load
from attngraft.study.plan_schema import schema


@dataclass(frozen=True)
class FrozenPlan:
    """A plan with its arms resolved, as it stands in the study's folder.

    Attributes:
        plan: The plan.
        arms: Every arm and control, the first being ``stock``.
        hash: Sixteen hexadecimal digits, equal exactly for equal plans; computed where it is left out.
    """

    plan: Plan
    arms: tuple[Arm, ...]
    hash: str = field(default="", compare=False)

    FILE: ClassVar[str] = "plan.yaml"
    MOVED: ClassVar[str] = "moved.json"
    SCHEMA: ClassVar[str] = "plan.schema.json"
    HEAD: ClassVar[str] = (
        f"# yaml-language-server: $schema={SCHEMA}\n"
        "# The plan of this study, with every default written out; it was fixed before the first run.\n"
        "# Its hash stands in every record: a changed plan is a new study, in a folder of its own.\n"
    )

    def __post_init__(self) -> None:
        """Compute the hash."""
        object.__setattr__(self, "hash", self.hash or _hash(self._plain()))

    def arm(self, name: str) -> Arm:
        """Return an arm by name.

        Raises:
            PlanError: If there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise PlanError(f"the study has no arm {name!r}; {suggest(name, [arm.name for arm in self.arms])}")

    def at(self, *, data: str | None = None, base: str | None = None) -> FrozenPlan:
        """Return the same plan, hash included, with its data or its base in another place.

        Args:
            data: Where the data file lies; None leaves it.
            base: Where the base's file lies; None leaves it.
        """
        return self._at(self.plan.base, data, base)

    def _at(self, old: str, data: str | None = None, base: str | None = None) -> FrozenPlan:
        """Return the plan with its files elsewhere; arms name the base as it was called when they were resolved."""
        if data is base is None:
            return self
        plan = replace(self.plan, data=data or self.plan.data, base=base or self.plan.base)
        arms = [
            replace(arm, model=plan.base + arm.model[len(old) :]) if f"{arm.model}+".startswith(f"{old}+") else arm
            for arm in self.arms
        ]
        return replace(self, plan=plan, arms=tuple(arms))

    def write(self, folder: Path) -> None:
        """Write the plan into the study's folder, and beside it the schema by which editors complete its keys."""
        (folder / self.MOVED).unlink(missing_ok=True)
        text = yaml.safe_dump(self._plain(), sort_keys=False, allow_unicode=True, width=100)
        write_text(folder / self.SCHEMA, json.dumps(schema(), indent=1))
        write_text(folder / self.FILE, f"{self.HEAD}hash: '{self.hash}'\n{text}")  # in quotes: a hash may be all digits

    @classmethod
    def read(cls, folder: Path) -> FrozenPlan:
        """Read the plan of a study's folder, with data and base where they lie now.

        Raises:
            PlanError: If there is none, or it was changed.
        """
        file = folder / cls.FILE
        if not file.is_file():
            raise PlanError(f"{folder} holds no study; start one with: attngraft study plan.yaml -o {folder}")
        values = load(file)
        wanted, arms = values.pop("hash", None), values.pop("resolved", [])
        # The file's own words are hashed: a plan of before lacks keys that were added since, with their defaults.
        if _hash({**values, "resolved": arms}) != str(wanted):  # older files have it without quotes
            raise PlanError(f"{file} was changed after the study began; put it back, or begin a new study with it")
        resolved = tuple(Arm(**{**arm, "against": tuple(arm["against"])}) for arm in arms)
        found = cls(Plan.of({"max_seeds": None, **values}), resolved, str(wanted))
        return found._at(str(values.get("base", found.plan.base)), **cls.places(folder))

    @classmethod
    def places(cls, folder: Path) -> dict[str, str]:
        """Return where data and base lie now, if they were moved since the plan was fixed."""
        file = folder / cls.MOVED
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def _plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = {**asdict(self.plan), "resolved": [asdict(arm) for arm in self.arms]}
        return dict(json.loads(json.dumps(plain, default=str)))


def _hash(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]
