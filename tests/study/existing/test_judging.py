"""Existing runs are judged as a study judges its own: to the digit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from scipy import stats

import attngraft
from attngraft._core.errors import DataError, OutputError, PlanError
from attngraft.cli.main import main
from attngraft.measure import parameters
from attngraft.study.existing.judging import Terms, judge_found, judge_numbers, write_judgement
from attngraft.study.existing.runs import numbered, read_predictions, read_run_folders
from attngraft.study.judging.results import ArmResult, Results
from attngraft.study.reporting.words import headline
from attngraft.study.study import Study

Make = Callable[..., Study]
WRONG = {"stock": 0.3, "eca@P3": 0.0, "se@P3": 0.31}


def command(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["study", *words])
    return done.exit_code, done.output


@pytest.fixture
def predictions(made_study: Make, tmp_path: Path) -> tuple[Study, dict[str, str]]:
    """Write what a study's runs detected as files of COCO's results format."""
    study = made_study(WRONG, seeds=3, controls="stock")
    patterns = {}
    for run in study.runs():
        file = tmp_path / "predictions" / f"{run.arm.name}-{run.seed}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(study.store.detections(run)))
        patterns[run.arm.name] = str(file.parent / f"{run.arm.name}-*.json")
    return study, patterns


def test_predictions_give_the_verdicts_of_the_study_to_the_digit(predictions: tuple[Study, dict[str, str]]) -> None:
    study, patterns = predictions
    found = read_predictions(study.store.folder / "truth.json", patterns)
    results = judge_found(found, Terms(sesoi=study.plan.sesoi))
    assert [arm.verdict for arm in results.arms] == [arm.verdict for arm in study.results.arms]
    assert results.breakdown == study.results.breakdown
    assert results.errors == study.results.errors
    assert results.baseline == replace(study.results.baseline, cost=results.baseline.cost)  # type: ignore[union-attr, type-var]
    assert [sample.boxes for sample in results.samples] == [sample.boxes for sample in study.results.samples]


def test_a_split_is_named_where_one_is_known(predictions: tuple[Study, dict[str, str]], tmp_path: Path) -> None:
    study, patterns = predictions
    truth = study.store.folder / "truth.json"
    results = judge_found(read_predictions(truth, patterns), Terms())
    assert results.setting.split == ""
    page = write_judgement(results, tmp_path / "out").report.read_text()
    assert "the split val" not in page
    assert "Detections were evaluated with COCO&#39;s evaluation of boxes" in page
    for words in ([f"truth={truth}", *(f"{arm}={files}" for arm, files in patterns.items())], ["runs.csv"]):
        (tmp_path / "runs.csv").write_text("arm,seed,AP\nstock,0,39\nb,0,40\n")
        code, said = command("judge", *words, "split=test")
        assert code == 2
        assert "has no key 'split'" in said


def test_each_arm_is_judged_from_the_pairs_it_has(tmp_path: Path) -> None:
    """The report counts pairs, and an arm whose name begins a sentence keeps its letters."""
    numbers = {"base": {0: 40.0, 1: 41.0, 2: 40.5}, "b": {0: 41.0, 1: 41.5, 2: 42.0}, "c": {0: 41.0, 1: 42.5}}
    results = judge_numbers(numbers, "t", Terms(baseline="base", drop=True))
    write_judgement(results, tmp_path)
    for text in ((tmp_path / name).read_text() for name in ("report.html", "report.md")):
        assert "Arms were judged once, each from its 2 to 3 pairs of runs." in text
        assert "c is compared without base at seed 2, which has no partner." in text
    del numbers["c"]
    even = judge_numbers(numbers, "t", Terms(baseline="base"))
    assert "Arms were judged once, after all 3 seeds." in write_judgement(even, tmp_path / "even").report.read_text()


def test_whole_numbers_are_numbers() -> None:
    """Integers, and those of NumPy, are judged as the floats that they equal."""
    whole = {"stock": {0: 40, 1: 41, 2: 43}, "arm": {0: 42, 1: 44, 2: 44}}
    expected = judge_numbers({arm: {s: float(n) for s, n in runs.items()} for arm, runs in whole.items()}, "t", Terms())
    assert expected.arms[0].estimate.difference == pytest.approx(2)
    for kind in (int, np.int64, np.float32):
        given: Any = {arm: {seed: kind(number) for seed, number in runs.items()} for arm, runs in whole.items()}
        found = judge_numbers(given, "t", Terms())
        assert found.to_dict() == expected.to_dict()
        assert found.baseline == expected.baseline


def test_numbers_are_judged_by_student(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(40, 0.3, 6)
    numbers = {
        "plain": dict(enumerate(base.tolist())),
        "arm": dict(enumerate((base + rng.normal(1, 0.2, 6)).tolist())),
    }
    results = judge_numbers(numbers, "runs.csv", Terms("mAP", baseline="plain"))
    (arm,) = results.arms
    expected = stats.ttest_rel([*numbers["arm"].values()], [*numbers["plain"].values()])
    assert arm.verdict is not None
    assert arm.verdict.p_difference == pytest.approx(expected.pvalue)
    assert arm.estimate.interval(0.95) == pytest.approx(expected.confidence_interval())
    assert (arm.verdict.outcome, arm.verdict.metric, results.setting.base) == ("better", "mAP", "plain")
    page = write_judgement(results, tmp_path / "out").report.read_text()
    assert "images play no part in the intervals" in page
    assert Results.load(tmp_path / "out" / "results.json").to_dict() == results.to_dict()
    table, markdown = ((tmp_path / "out" / name).read_text() for name in ("table.tex", "report.md"))
    for name in ("arm", "plain"):
        values = [*numbers[name].values()]
        said = f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
        assert said in page
        assert said in markdown
        assert said.replace("±", r"$\pm$") in table
    for text in (page, markdown, table):  # nothing is known of costs, and no column is empty
        assert "parameters" not in text.lower()
        assert "latency" not in text.lower()
    assert {line.count("|") for line in markdown.splitlines() if line.startswith("|")} == {8}
    assert {line.count("&") for line in table.splitlines() if line.endswith(r"\\")} == {5}


def test_equal_differences_of_rounded_numbers_are_no_certainty() -> None:
    """Two seeds to one decimal: by chance alone every ninth such table showed a difference with p = 0."""

    def judged(seeds: int, step: float) -> ArmResult:
        base = {seed: 40 + step * seed for seed in range(seeds)}
        numbers = {"stock": base, "arm": {seed: base[seed] + 3 * step for seed in base}}
        return judge_numbers(numbers, "t", Terms(sesoi=0.5)).arms[0]

    two = judged(2, 0.1)
    assert two.verdict is not None
    assert two.verdict.outcome == "undecided"
    assert two.verdict.p_difference == pytest.approx(2 * stats.t.sf(0.3 / (0.1 / math.sqrt(12)), 1))
    assert two.interval == pytest.approx((-0.0668, 0.6668), abs=1e-4)
    assert two.estimate.seed_sd == pytest.approx(0.1 / math.sqrt(6))
    five = judged(5, 0.1)
    assert five.verdict is not None
    assert five.verdict.outcome == "better"
    assert five.verdict.p_difference == pytest.approx(2 * stats.t.sf(0.3 / (0.1 / math.sqrt(30)), 4))
    assert math.isfinite(five.interval[1])


def test_of_a_loss_with_a_minus_zero_is_no_floor() -> None:
    """Latency of 50 ms, as -50, was said to have learned nothing, and one run of 20 ms to be the only one that did."""
    rng = np.random.default_rng(1)
    speed = {arm: dict(enumerate((50 + rng.normal(0, 0.1, 10)).tolist())) for arm in ("stock", "fast")}
    for outlier in (0, 30):
        speed["fast"][3] += outlier
        latency = {arm: {seed: value - 100 for seed, value in runs.items()} for arm, runs in speed.items()}
        found, shifted = (judge_numbers(numbers, "t", Terms("top1", sesoi=0.5)) for numbers in (latency, speed))
        assert found.arms[0].verdict is not None
        assert shifted.arms[0].verdict is not None
        assert found.arms[0].verdict.outcome == ("undecided" if outlier else "no difference")
        assert found.arms[0].verdict.learning is None
        assert found.arms[0].learned is None
        assert "train longer" not in headline(found)[0]
        assert found.arms[0].interval == pytest.approx(shifted.arms[0].interval)
        assert found.arms[0].verdict.outcome == shifted.arms[0].verdict.outcome
        speed["fast"][3] -= outlier


def test_where_nothing_was_learned_the_sentence_gives_no_numbers() -> None:
    results = judge_numbers({"a": {0: 0.0, 1: 0.0}, "b": {0: 0.0, 1: 0.0}}, "runs.csv", Terms())
    assert headline(results) == [
        "b is undecided: AP is 0 in every run, so nothing was learned that could be compared; train longer."
    ]


def test_a_judgement_overwrites_nothing_but_itself(tmp_path: Path) -> None:
    results = judge_numbers({"a": {0: 1.0, 1: 2.0}, "b": {0: 2.0, 1: 4.0}}, "runs.csv", Terms())
    assert write_judgement(results, None).report.parent.name == "judged"
    assert write_judgement(results, None).report.parent.name == "judged-2"
    assert write_judgement(results, Path("judged")).report.is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="holds something else"):
        write_judgement(results, tmp_path / "mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.json").write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="holds something else"):
        write_judgement(results, tmp_path / "other")
    assert (tmp_path / "other" / "results.json").read_text() == '{"mine": 1}'


def test_terms_that_cannot_be_say_why() -> None:
    numbers = {"a": {0: 1.0, 1: 2.0}, "b": {0: 2.0, 1: 4.0}}
    with pytest.raises(PlanError, match="sesoi should be greater than 0"):
        judge_numbers(numbers, "runs.csv", Terms(sesoi=0))
    with pytest.raises(PlanError, match="alpha should be less than 1"):
        judge_numbers(numbers, "runs.csv", Terms(alpha=2))


def test_predictions_that_cannot_be_used_say_why(predictions: tuple[Study, dict[str, str]], tmp_path: Path) -> None:
    study, patterns = predictions
    truth = study.store.folder / "truth.json"
    said: dict[str, Any] = {
        "nothing is called": "nowhere-*.json",
        "is not a JSON file": "{",
        "results format": '{"a": 1}',
        "which the ground truth lacks": '[{"image_id": 99, "category_id": 0, "bbox": [1, 2, 3, 4], "score": 0.5}]',
        "needs a bbox of four numbers": '[{"image_id": 1, "category_id": 0, "score": 0.5}]',
    }
    for message, content in said.items():
        file = tmp_path / "broken-0.json"
        file.write_text(content)
        pattern = content if message == "nothing is called" else str(file)
        with pytest.raises(DataError, match=message):
            read_predictions(truth, {**patterns, "eca@P3": pattern})
    with pytest.raises(DataError, match=r"stock-0.json is a run of stock and of eca@P3; a run has one arm"):
        read_predictions(truth, {**patterns, "eca@P3": patterns["stock"]})
    (tmp_path / "predictions" / "eca@P3-more-2.json").write_text("[]")
    with pytest.raises(DataError, match="two runs of seed 2"):
        read_predictions(truth, patterns)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "noseed.json").write_text("[]")
    with pytest.raises(DataError, match="names no seed"):
        read_predictions(truth, {"eca": str(tmp_path / "runs" / "noseed.json")})
    with pytest.raises(DataError, match=r"broken-0.json is a file; .* name the ground truth too: truth=FILE"):
        read_run_folders({"eca": str(tmp_path / "broken-0.json")})


@pytest.mark.parametrize("truth", [[], ["truth=val.json"]])
@pytest.mark.parametrize("name", ["vis_data/scalars.json", "metrics.json"])
def test_logs_of_other_programs_are_told_from_detections(tmp_path: Path, name: str, truth: list[str]) -> None:
    Path("val.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    for arm in ("r50", "att"):
        log = Path(f"{arm}-s0", name)
        log.parent.mkdir(parents=True)
        log.write_text('{"loss": 1.2, "step": 10}\n{"coco/bbox_mAP": 0.39, "step": 1}\n')
    words = ["study", "judge", *truth, f"r50=r50-s*/{name}", f"att=att-s*/{name}", "baseline=r50"]
    said = CliRunner().invoke(main, words).output
    assert f"r50-s0/{name} is a log of a training run, as MMDetection and Detectron2 write it" in said
    assert "is a log of a training run" in CliRunner().invoke(main, ["study", "judge", f"att-s0/{name}"]).output


def test_files_that_are_all_called_alike_have_the_seed_of_their_folder(
    predictions: tuple[Study, dict[str, str]], tmp_path: Path
) -> None:
    """As mmdet and detectron2 leave them; the 1 of `r50_1x` is no seed."""
    study, patterns = predictions
    moved = {}
    for arm, pattern in patterns.items():
        for seed in range(3):
            file = tmp_path / f"{arm}_s{seed}" / "inference" / "r50_1x.bbox.json"
            file.parent.mkdir(parents=True)
            file.write_text(Path(pattern.replace("*", str(seed))).read_text())
        moved[arm] = str(tmp_path / f"{arm}_s*" / "inference" / "*.bbox.json")
    truth = study.store.folder / "truth.json"
    there = judge_found(read_predictions(truth, moved), Terms())
    assert there.arms == judge_found(read_predictions(truth, patterns), Terms()).arms
    assert [sorted(arm.differences) for arm in there.arms] == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    ("files", "seeds"),
    [
        (["out/lr0.01-s1.json", "out/lr0.01-s2.json"], [1, 2]),
        (["out/yolo11n-v1.2-seed3.bbox.json", "out/yolo11n-v1.2-seed4.bbox.json"], [3, 4]),
        (["stock-1.5x-7.json"], [7]),
        (["lr0.01/s1/r50_1x.segm.json", "lr0.01/s2/r50_1x.segm.json"], [1, 2]),
        (["lr0.01-s1/r50.v2.json", "lr0.01-s2/r50.v2.json"], [1, 2]),
        (["work/r50-s7/results.bbox.json"], [7]),
        (["work3/r50-s7.json"], [7]),
        (["s0/best_bbox_mAP_epoch_12.bbox.json", "s1/best_bbox_mAP_epoch_11.bbox.json"], [0, 1]),
        (["s0/best_bbox_mAP_epoch_12.bbox.json"], [0]),
        (["r50-s0-Iter-5000.json", "r50-s1-Iter-4000.json"], [0, 1]),
        (["s0/ep12.json", "s1/ep_12.json"], [0, 1]),
        (["s0/epoch=12-step=900.json", "s1/epoch=11-step=800.json"], [0, 1]),
        (["s0/20261201_031500/r.json", "s1/20261202_101112/r.json"], [0, 1]),
        (["s0/best.json", "s1/best-11.json"], [0, 1]),
        (["sweep3.json", "sweep4.json"], [3, 4]),
        (["s3/r50-3.json", "s4/r50-4.json"], [3, 4]),
        (["r50-seed0/best-12.json", "r50-seed1/best-11.json"], [0, 1]),
        (["gpu1/Seed_0-v12.json", "gpu0/Seed_1-v11.json"], [0, 1]),
        (["seed42/s0.json", "seed42/s1.json"], [0, 1]),
    ],
)
def test_points_are_part_of_a_name(files: list[str], seeds: list[int]) -> None:
    assert numbered("a", [Path(file) for file in files]) == list(zip(seeds, map(Path, files), strict=True))


def test_best_checkpoints_named_by_epoch_are_paired_by_the_seed_of_their_folder(
    predictions: tuple[Study, dict[str, str]], tmp_path: Path
) -> None:
    """As mmdet leaves them; by epoch, seed 0 of one arm would be paired with seed 1 of the other."""
    study, patterns = predictions
    moved = {}
    for (arm, pattern), epochs in zip(patterns.items(), ((12, 11, 10), (11, 12, 10), (12, 12, 12)), strict=True):
        for seed, epoch in enumerate(epochs):
            file = tmp_path / f"{arm}-s{seed}" / f"best_bbox_mAP_epoch_{epoch}.bbox.json"
            file.parent.mkdir()
            file.write_text(Path(pattern.replace("*", str(seed))).read_text())
        moved[arm] = str(tmp_path / f"{arm}-s*" / "*.bbox.json")
    truth = study.store.folder / "truth.json"
    there = judge_found(read_predictions(truth, moved), Terms())
    assert there.arms == judge_found(read_predictions(truth, patterns), Terms()).arms


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ["r50-s0/best-12.json", "r50-s1/best-11.json"],
            r"r50-s0/best-12.json of arm a may be of seed 12, by 'best-12.json', or of seed 0, by 'r50-s0'; rename .* "
            r"the word seed is before the number that is meant, as in a-seed0, or so that no other number differs",
        ),
        (["exp3/s0/r.json", "exp4/s1/r.json"], "may be of seed 0, by 's0', or of seed 3, by 'exp3'"),
        (["seed0/seed1.json", "seed1/seed0.json"], "may be of seed 1, by 'seed1.json', or of seed 0, by 'seed0'"),
        (["r50/epoch_12.json", "r50/epoch_11.json"], "r50/epoch_12.json names no seed"),
        (["r50/best.json", "r50/best-1.json"], "r50/best.json names no seed"),
    ],
)
def test_seeds_that_can_be_read_in_two_ways_are_refused(files: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        numbered("a", [Path(file) for file in files])


def test_what_a_reader_has_to_know_stands_beside_the_verdict(predictions: tuple[Study, dict[str, str]]) -> None:
    study, patterns = predictions
    Path(patterns["eca@P3"].replace("*", "1")).unlink()
    results = judge_found(read_predictions(study.store.folder / "truth.json", patterns), Terms(drop=True))
    few, *_, lone = results.warnings
    assert few.startswith("only ")  # as the report of a study of these images says
    assert few in study.results.warnings
    assert lone == "eca@P3 is compared without stock at seed 1, which has no partner"


def test_run_folders_give_the_verdicts_of_the_study_to_the_digit(
    tiny_data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Trained by Ultralytics, four times one epoch; evaluated anew from their last weights."""
    from attngraft.study.frozen_plan import FrozenPlan
    from attngraft.study.plan import Plan
    from attngraft.study.running import run as running
    from tests.study.conftest import TINY

    plan = Plan.of({**TINY, "data": tiny_data, "arms": "eca@P3", "controls": "stock", "seeds": 2})
    FrozenPlan(plan, tuple(plan.recipes())).write(tmp_path / "study")
    for arm in ("stock", "eca@P3"):
        for seed in ("0", "1"):
            assert running.main([str(tmp_path / "study"), arm, seed]) == 0
    study = Study.open(tmp_path / "study")
    runs = tmp_path / "study" / "runs"
    before = sorted(path for path in runs.rglob("*"))
    patterns = {"stock": f"{runs}/stock/s?", "eca@P3": f"{runs}/eca@P3/s?"}
    capfd.readouterr()
    results = judge_found(read_run_folders(patterns), Terms())
    assert capfd.readouterr() == ("", "")
    assert [arm.verdict for arm in results.arms] == [arm.verdict for arm in study.results.arms]
    assert sorted(path for path in runs.rglob("*")) == before  # nothing is written beside the runs
    arm, baseline = results.arm("eca@P3"), results.baseline
    assert baseline is not None
    assert [cost.parameters for cost in (baseline.cost, arm.cost)] == [
        parameters(attngraft.YOLO(runs / name / "s0" / "weights" / "last.pt").model) for name in ("stock", "eca@P3")
    ]

    with pytest.raises(DataError, match="stock/s0 is a run of stock and of more"):
        read_run_folders({**patterns, "more": f"{runs}/stock/s0"})
    with pytest.raises(DataError, match="two runs of seed 0"):
        read_run_folders({**patterns, "both": f"{runs}/*/s0"})
    with pytest.raises(DataError, match="no finished training run"):
        read_run_folders({**patterns, "eca@P3": str(runs)})
    named = tmp_path / "named.yaml"
    named.write_text(json.dumps({**yaml.safe_load(Path(tiny_data).read_text()), "path": str(Path(tiny_data).parent)}))
    renamed = json.loads(named.read_text())
    renamed["names"] = {index: f"other {index}" for index, _ in enumerate(renamed["names"])}
    named.write_text(json.dumps(renamed))
    with pytest.raises(DataError, match=r"last.pt and .*named.yaml are of different classes: number 0 is .* other 0"):
        read_run_folders(patterns, data=str(named))
    args = runs / "eca@P3" / "s1" / "args.yaml"
    whole = args.read_text()
    args.write_text(whole.replace("lr0: 0.01", "lr0: 0.02"))
    (said,) = read_run_folders(patterns).notes
    assert said == ("the runs were not trained alike: lr0 is 0.01 in stock at seed 0, and 0.02 in eca@P3 at seed 1")
    args.write_text(whole)
    killed = runs / "eca@P3" / "s1" / "weights" / "last.pt"
    content = torch.load(killed, weights_only=False)
    finished = killed.read_bytes()
    torch.save({**content, "epoch": 0}, killed)
    with pytest.raises(DataError, match=r"s1 ended early, after epoch 1 of 1; finish it with yolo train resume=True"):
        read_run_folders(patterns)
    killed.write_bytes(finished)
    other = runs / "eca@P3" / "s1" / "args.yaml"
    other.write_text(other.read_text().replace(tiny_data, "other.yaml"))
    with pytest.raises(DataError, match=r"was trained on .*data.yaml and .* on other.yaml"):
        read_run_folders(patterns)


def test_the_command(tmp_path: Path) -> None:
    rows = [f"{arm},{seed},{40 + gain + 0.1 * (seed % 3) + (0.01 * seed if gain else 0)}"
            for arm, gain in (("yolo11n", 0), ("mhsa@P5", 2)) for seed in range(5)]  # fmt: skip
    (tmp_path / "runs.csv").write_text("\n".join(["arm,seed,mAP", *rows]))
    code, out = command("judge", "runs.csv", "baseline=yolo11n", "-o", "verdict")
    assert code == 0, out
    assert "mhsa@P5 is better than yolo11n" in out
    assert (tmp_path / "verdict" / "report.html").is_file()
    (tmp_path / "lr=0.01").mkdir()
    (tmp_path / "lr=0.01" / "runs.csv").write_bytes((tmp_path / "runs.csv").read_bytes())
    assert command("judge", "lr=0.01/runs.csv", "baseline=yolo11n", "-o", "again")[0] == 0
    for words, said in {
        ("judge", "runs.csv", "task=bbox"): "of csv has no key 'task'",
        ("judge", "runs.csv", "mhsa=runs/*"): "beside runs.csv it takes no mhsa=",
        ("judge", "runs.csv", "metrik=mAP"): "no key 'metrik'; did you mean metric?",
        ("judge", "stock=runs.csv", "mhsa=runs.csv", "unpared=drop"): "no key 'unpared'; did you mean unpaired?",
        ("judge", "stock=runs.csv", "mhsa=runs.csv"): "runs.csv is a file; name the folder",
        ("judge", "sesoi=1"): "one CSV file, or arms",
        ("judge", "stock=nowhere*", "mhsa=nowhere*"): "nothing is called 'nowhere*'",
        ("judge", "runs.csv", "unpaired=keep"): "refuse or drop, got 'keep'",
    }.items():
        code, out = command(*words)
        assert code != 0
        assert said in out
