"""What sets the training of existing runs apart is said beside their verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attngraft.study.existing.training import training_notes, training_options

OPTIONS: dict[str, Any] = {"epochs": 50, "imgsz": 640, "batch": 16, "lr0": 0.01, "model": "a.pt", "resume": False}


def runs(**arms: dict[int, dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    return {arm: {seed: {**OPTIONS, "seed": seed, **one} for seed, one in seeds.items()} for arm, seeds in arms.items()}


def folders(found: dict[str, dict[int, dict[str, Any]]], home: Path, epochs: int = 50) -> dict[str, dict[int, Path]]:
    made = {arm: {seed: home / arm / str(seed) for seed in seeds} for arm, seeds in found.items()}
    for path in (path for seeds in made.values() for path in seeds.values()):
        path.mkdir(parents=True)
        (path / "results.csv").write_text("epoch,time\n" + "".join(f"{n},1.5\n" for n in range(1, epochs + 1)))
    return made


def test_runs_that_were_trained_alike_need_no_word(tmp_path: Path) -> None:
    found = runs(
        stock={0: {"name": "a", "device": "0", "pretrained": True}, 1: {}},
        ema={0: {"model": "b.pt"}, 1: {"model": "b.pt"}},
    )
    found["ema"][0]["pretrained"] = False  # of no effect, as weights are given as the model
    assert training_notes(found, folders(found, tmp_path)) == ()
    assert training_options(found) == {"epochs": 50, "imgsz": 640, "batch": 16}


def test_an_option_that_differs_is_named_with_its_values(tmp_path: Path) -> None:
    found = runs(stock={0: {}, 1: {}}, ema={0: {"epochs": 40}, 1: {}})
    (said,) = training_notes(found, folders(found, tmp_path))
    assert said == "the runs were not trained alike: epochs is 50 in stock at seed 0, and 40 in ema at seed 0"
    assert training_options(found) == {}


def test_many_runs_are_counted(tmp_path: Path) -> None:
    found = runs(stock={0: {}}, ema={seed: {"lr0": 0.02} for seed in range(9)})
    (said,) = training_notes(found, folders(found, tmp_path))
    assert said.endswith("0.02 in ema at seed 5 and 3 more")


def test_an_arm_of_two_models_early_stops_and_resumed_runs_are_named(tmp_path: Path) -> None:
    found = runs(stock={0: {}, 1: {"model": "c.pt"}}, ema={0: {"resume": "last.pt", "model": "last.pt"}, 1: {}})
    made = folders(found, tmp_path)
    (made["ema"][1] / "results.csv").write_text("epoch,time\n1,2.5\n 31,4.5\n")
    assert training_notes(found, made) == (
        "the runs of stock are of different models: a.pt at seed 0, c.pt at seed 1",
        "runs stopped before their last epoch: ema at seed 1 after 31 of 50 epochs",
        "runs were interrupted and resumed: ema at seed 0",
    )


def test_a_folder_without_a_course_says_nothing_of_its_epochs(tmp_path: Path) -> None:
    found = runs(stock={0: {}}, ema={0: {}})
    assert training_notes(found, {arm: {0: tmp_path} for arm in found}) == ()
