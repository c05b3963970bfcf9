"""Where studies lie: the folder of one that was given none, and the others beside it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from attngraft._core.errors import PlanError
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.layout import RECORDS
from attngraft.study.plan import Plan, load

HOME = Path("runs/study")
OLD_HOME = Path("studies")
"""Where studies went before; one that was begun there goes on there."""


def home(name: str) -> Path:
    """Return the folder of a study that was given none."""
    old = OLD_HOME / name
    return old if (old / FrozenPlan.FILE).is_file() and not (HOME / name).exists() else HOME / name


def other_plans(folder: Path, plan: Plan) -> list[str]:
    """Name the other studies in a study's home that are on the same data: one that was dropped or renamed is there."""
    found = []
    for file in sorted(folder.parent.glob(f"*/{FrozenPlan.FILE}")):
        with suppress(PlanError):
            values = load(file) | FrozenPlan.places(file.parent)
            if file.parent != folder and values.get("data") == plan.data:
                runs = len(list((file.parent / RECORDS).glob("*.json")))
                found.append(f"{file.parent.name} (plan {values.get('hash', 'not fixed')}, {runs} runs finished)")
    return found
