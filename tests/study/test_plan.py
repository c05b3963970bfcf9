"""Plans: every default written out, one hash for one plan, and errors that name the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraft._core.errors import PlanError, RecipeError
from attngraft.study import Study
from attngraft.study.plan import Arm, Fixed, Plan, split_arms

PLAN = {"data": "fruit.yaml", "arms": "eca@P5,se@P4", "base": "yolo11n.yaml", "epochs": 3}


def fixed(**changes: object) -> Fixed:
    plan = Plan.of({**PLAN, **changes})
    return Fixed(plan, tuple(plan.recipes()))


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    before = fixed()
    before.write(tmp_path)
    assert Fixed.read(tmp_path) == before


def test_the_file_spells_out_every_default(tmp_path: Path) -> None:
    fixed().write(tmp_path)
    text = (tmp_path / "plan.yaml").read_text()
    for line in (
        "seeds: 5",
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
    assert fixed(**change).hash != fixed().hash == fixed().hash


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    fixed().write(tmp_path)
    file = tmp_path / "plan.yaml"
    file.write_text(file.read_text().replace("sesoi: 0.5", "sesoi: 0.1"))
    with pytest.raises(PlanError, match="changed after the study began"):
        Fixed.read(tmp_path)


def test_controls_come_first_and_noop_stands_where_the_arms_do() -> None:
    assert [(arm.name, arm.model) for arm in fixed().arms] == [
        ("stock", "yolo11n.yaml"),
        ("noop", "yolo11n.yaml+noop@P5,P4"),
        ("eca@P5", "yolo11n.yaml+eca@P5"),
        ("se@P4", "yolo11n.yaml+se@P4"),
    ]


def test_an_arm_may_be_a_whole_recipe() -> None:
    assert fixed(arms=["yolo11s.yaml"]).arms[-1].model == "yolo11s.yaml"


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
        ({"seeds": 0}, "seeds is a whole number from 1 up, got 0"),
        ({"controls": "noop"}, "put stock among the controls"),
        ({"controls": "stock,nop"}, "no control is called 'nop'; did you mean noop"),
        ({"metric": "mAP"}, "metric is one of AP, AP50"),
        ({"sesoi": 0}, "sesoi is a difference in AP points above 0"),
        ({"alpha": 5}, "alpha is between 0 and 1"),
        ({"max_seeds": 3}, "max_seeds is at least seeds=5"),
        ({"arms": ["eca@P5", "eca@P5"]}, "'eca@P5' stands in the plan twice"),
        ({"arms": 3}, "arms is a list of texts"),
    ],
)
def test_what_cannot_be_carried_out_says_why(change: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        fixed(**change)


def test_a_wrong_mechanism_is_pointed_at() -> None:
    with pytest.raises(RecipeError, match="no mechanism is called 'msha'; did you mean"):
        fixed(arms="msha@P5")


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


def test_a_list_may_be_written_in_brackets() -> None:
    written = fixed(controls="[stock, noop]", arms="[mhsa(heads=4)@P5,P4, eca@P5]").plan
    assert written.controls == ("stock", "noop")
    assert written.arms == ("mhsa(heads=4)@P5,P4", "eca@P5")
