"""Plans: every default written out, one hash for one plan, and errors that name the nearest key."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attngraft._core.errors import AttngraftError, PlanError, RecipeError
from attngraft.study import Study
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import Arm, Plan, split_arms
from attngraft.study.plan_schema import schema

PLAN = {"data": "fruit.yaml", "arms": "eca@P5,se@P4", "base": "yolo11n.yaml", "epochs": 3}


def frozen(**changes: object) -> FrozenPlan:
    plan = Plan.of({**PLAN, **changes})
    return FrozenPlan(plan, tuple(plan.recipes()))


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    before = frozen()
    before.write(tmp_path)
    assert FrozenPlan.read(tmp_path) == before


def test_a_hash_of_digits_alone_is_read_as_it_was_written(tmp_path: Path) -> None:
    """YAML reads sixteen digits without quotes as a number."""
    plans = (frozen(data=f"fruit-{number}.yaml") for number in range(100_000))
    before = next(one for one in plans if one.hash.isdigit())
    before.write(tmp_path)
    assert FrozenPlan.read(tmp_path).hash == before.hash


def test_the_file_spells_out_every_default(tmp_path: Path) -> None:
    frozen().write(tmp_path)
    text = (tmp_path / "plan.yaml").read_text()
    for line in (
        "seeds: 3",
        "max_seeds: 15",
        "sesoi: 0.5",
        "alpha: 0.05",
        "  epochs: 3",
        "  imgsz: 640",
        "  mosaic: 1.0",
        "  patience: 0",
    ):
        assert f"{line}\n" in text


@pytest.mark.parametrize("change", [{"seeds": 6}, {"epochs": 4}, {"arms": "eca@P5"}, {"sesoi": 0.3}, {"mosaic": 0}])
def test_another_plan_has_another_hash(change: dict[str, object]) -> None:
    assert frozen(**change).hash != frozen().hash == frozen().hash


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    frozen().write(tmp_path)
    file = tmp_path / "plan.yaml"
    file.write_text(file.read_text().replace("sesoi: 0.5", "sesoi: 0.1"))
    with pytest.raises(PlanError, match="changed after the study began"):
        FrozenPlan.read(tmp_path)


def test_controls_come_first_and_noop_stands_where_the_arms_do() -> None:
    assert [(arm.name, arm.model) for arm in frozen().arms] == [
        ("stock", "yolo11n.yaml"),
        ("noop", "yolo11n.yaml+noop@P5,P4"),
        ("eca@P5", "yolo11n.yaml+eca@P5"),
        ("se@P4", "yolo11n.yaml+se@P4"),
    ]


def test_an_arm_may_be_a_whole_recipe() -> None:
    assert frozen(arms=["yolo11s.yaml"]).arms[-1].model == "yolo11s.yaml"


@pytest.mark.parametrize(
    ("text", "arms"),
    [
        ("mhsa@P5", ("mhsa@P5",)),
        ("se@P3,P4, eca@P5", ("se@P3,P4", "eca@P5")),
        ("mhsa(heads=4,position=none)@P5,P4,se@8.m.0", ("mhsa(heads=4,position=none)@P5,P4", "se@8.m.0")),
        ("se@P5,yolo11s", ("se@P5", "yolo11s")),
        ("se@P5+eca@P4,yolo11s.yaml+se@P5", ("se@P5+eca@P4", "yolo11s.yaml+se@P5")),
    ],
)
def test_arms_split_where_they_should(text: str, arms: tuple[str, ...]) -> None:
    assert split_arms(text) == arms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "no key 'seed'; did you mean seeds"),
        ({"epoch": 5}, "no key 'epoch'; did you mean epochs"),
        ({"train": {"imgs": 5}}, "training has no option 'imgs'; did you mean imgsz"),
        ({"train": {"resume": True}}, "'resume' is set by the study itself"),
        ({"train": {"epochs": 4}}, "'epochs' is given twice"),
        ({"seeds": 0}, "seeds should be greater than or equal to 1, got 0"),
        ({"controls": "noop"}, "put stock among the controls"),
        ({"controls": "stock,nop"}, "controls should be 'stock', 'noop' or 'conv', got 'nop'; did you mean noop"),
        ({"metric": "mAP"}, "no metric is called 'mAP'.*did you mean AP"),
        ({"sesoi": 0}, "sesoi should be greater than 0, got 0"),
        ({"alpha": 5}, "alpha should be less than 1, got 5"),
        ({"seeds": 5, "max_seeds": 3}, "max_seeds is at least seeds=5"),
        ({"seeds": "3-8", "max_seeds": 9}, "seeds=3-8 names the most seeds already"),
        ({"seeds": "8-3"}, "max_seeds is at least seeds=8"),
        ({"seeds": True}, "seeds should be a valid integer, got True"),
        ({"sesoi": float("nan")}, "sesoi should be a finite number, got nan"),
        ({"sesoi": "big"}, "sesoi should be a valid number, got 'big'"),
        ({"split": "vall"}, "split should be 'val', 'test' or 'train', got 'vall'; did you mean val"),
        ({"interrupted": "go"}, "interrupted should be 'resume' or 'restart', got 'go'"),
        ({"train": 3}, "train: holds training options"),
        ({"epochs": "x"}, "epochs should be 1 or more, got 'x'"),
        ({"epochs": 0}, "epochs should be 1 or more, got 0"),
        ({"epochs": -1}, "epochs should be 1 or more, got -1"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"imgsz": 0}, "imgsz should be 32 or more, got 0"),
        ({"imgsz": 64.5}, "imgsz should be an integer number of pixels"),
        ({"batch": 0}, "batch should be 1 or more images"),
        ({"batch": "many"}, "batch should be 1 or more images"),
        ({"optimizer": "SDG"}, "optimizer 'SDG' does not exist; did you mean SGD"),
        ({"lr0": float("nan")}, "lr0 should be a finite number, got nan"),
        ({"lr0": 5}, "lr0=5"),
        ({"val": "yes"}, "val=yes"),
        ({"arms": ["eca@P5", "eca@P5"]}, "'eca@P5' stands in the plan twice"),
        ({"arms": 3}, "arms is a list of texts"),
        ({"controls": None}, r"controls is a list of texts such as \[stock, .*or stock alone for the fewest, got None"),
    ],
)
def test_what_cannot_be_carried_out_says_why(change: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        frozen(**change)


@pytest.mark.parametrize(
    ("keys", "looks"),
    [
        ({}, (3, 15)),
        ({"seeds": 5}, (5, None)),
        ({"seeds": "3-8"}, (3, 8)),
        ({"max_seeds": 20}, (3, 20)),
        ({"max_seeds": 2}, (2, 2)),
        ({"seeds": 5, "max_seeds": 8}, (5, 8)),
    ],
)
def test_seeds_are_one_number_or_first_and_most(keys: dict[str, object], looks: tuple[int, int | None]) -> None:
    plan = frozen(**keys).plan
    assert (plan.seeds, plan.max_seeds) == looks
    assert replace(plan, sesoi=1.0).max_seeds == looks[1]


def test_the_schema_takes_what_a_plan_takes(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    described = schema()
    jsonschema.Draft202012Validator.check_schema(described)
    frozen().write(tmp_path)
    assert (tmp_path / "plan.yaml").read_text().startswith("# yaml-language-server: $schema=plan.schema.json\n")
    assert json.loads((tmp_path / "plan.schema.json").read_text()) == described
    jsonschema.validate(yaml.safe_load((tmp_path / "plan.yaml").read_text()), described)
    jsonschema.validate({**PLAN, "seeds": "3-8", "train": {"imgsz": 64}}, described)
    for wrong in (
        {"epoch": 3},
        {"epochs": 0},
        {"sesoi": 0},
        {"split": "vall"},
        {"optimizer": "SDG"},
        {"seeds": "three"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**PLAN, **wrong}, described)
    assert all(
        "description" in described["properties"][one.name] for one in fields(Plan) if one.name not in ("train", "seeds")
    )


KEYS = sorted(
    {one.name for one in fields(Plan)} | {"epochs", "imgsz", "batch", "optimizer", "lr0", "fraction", "freeze"}
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["eca@P5", "3-8", "val"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_any_plan_is_one_or_is_refused_in_a_sentence(values: dict[str, object]) -> None:
    with suppress(AttngraftError):
        plan = Plan.of({**PLAN, "base": "attngraft-micro.yaml", **values})
        assert FrozenPlan(plan, tuple(plan.recipes())).hash


def test_a_wrong_mechanism_is_pointed_at() -> None:
    with pytest.raises(RecipeError, match="no mechanism is called 'msha'; did you mean"):
        frozen(arms="msha@P5")


def test_a_plan_needs_data_and_arms() -> None:
    with pytest.raises(PlanError, match="a plan needs data"):
        Plan.of({"arms": "eca@P5"})


def test_names_of_arms_become_names_of_files() -> None:
    names = ["mhsa@P5", "ema(factor=8)@P3,P4", "ema(factor=8)@P3.P4"]
    slugs = [Arm(name, "").slug for name in names]
    assert slugs[0] == "mhsa@P5"
    assert len(set(slugs)) == 3
    assert all("/" not in slug and "(" not in slug for slug in slugs)


def test_keys_go_over_those_of_the_plans_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("data: fruit.yaml\narms: [eca@P5]\nbase: yolo11n.yaml\nimgsz: 320\ntrain: {epochs: 3, batch: 8}\n")
    plan = Study(file, epochs=5, imgsz=64, seeds=2, train={"batch": 4}).plan
    assert (plan.seeds, plan.train["epochs"], plan.train["imgsz"], plan.train["batch"]) == (2, 5, 64, 4)
    assert Study(file, train={"imgsz": 96}).plan.train["imgsz"] == 96


@pytest.mark.parametrize(
    ("in_file", "given"), [("[epochs]", {}), ("[epochs]", {"batch": 4}), ("{}", "epochs"), ("3", {})]
)
def test_training_options_that_are_none_are_refused_from_a_file_too(tmp_path: Path, in_file: str, given: Any) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(f"data: fruit.yaml\narms: [eca@P5]\ntrain: {in_file}\n")
    with pytest.raises(PlanError, match="train: holds training options"):
        Study(file, seeds=2, train=given)


def test_a_list_may_be_written_in_brackets() -> None:
    written = frozen(controls="[stock, noop]", arms="[mhsa(heads=4)@P5,P4, eca@P5]").plan
    assert written.controls == ("stock", "noop")
    assert written.arms == ("mhsa(heads=4)@P5,P4", "eca@P5")


def test_a_path_may_be_a_path() -> None:
    written = frozen(data=Path("fruit.yaml"), base=Path("yolo11n.yaml")).plan
    assert written == frozen(data="fruit.yaml", base="yolo11n.yaml").plan
