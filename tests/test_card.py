"""Model cards: the front matter that Hugging Face reads, the grafts, and the verdict of a study or none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from attngraft import YOLO
from attngraft._core.errors import CheckpointError, DataError
from attngraft.card import card
from attngraft.cli import main
from attngraft.study.existing.records import judge_records
from attngraft.study.reporting.words import headline

BEACONS = Path(__file__).parents[1] / "studies/beacons"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("card") / "best.pt"
    YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3").save(file)
    return file


def test_a_card_without_a_study(model: Path) -> None:
    text = card(model).markdown()
    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["pipeline_tag"] == "object-detection"
    assert metadata["tags"] == ["yolo", "attention", "attngraft", "mhsa"]
    assert "arXiv 2101.11605" in body
    assert "Not known: this card was written without a study" in body
    assert "AGPL-3.0" in body


def test_a_card_of_a_grayscale_model(gray_model: Path) -> None:
    """``channels: 1`` in a data file makes a model that takes one channel; its FLOPs are counted on that."""
    found = card(gray_model)
    assert found.flops > 0
    assert found.imgsz == 64
    assert "mhsa" in found.markdown()


def test_what_is_no_checkpoint_or_no_study_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint with weights"):
        card("attngraft-micro.yaml")
    with pytest.raises(DataError, match="write it first: attngraft study report"):
        card(model, study=tmp_path)


def test_the_verdict_of_a_study_and_which_arm(model: Path, tmp_path: Path) -> None:
    judged = tmp_path / "judged"
    done = CliRunner().invoke(main, ["study", "judge", str(BEACONS), "-o", str(judged)])
    assert done.exit_code == 0, done.output
    written = tmp_path / "card.md"
    arm = "mhsa(init=paper)@P3"
    done = CliRunner().invoke(main, ["card", str(model), f"study={judged}", f"arm={arm}", "-o", str(written)])
    assert done.exit_code == 0, done.output
    said = written.read_text(encoding="utf-8").partition("## Did the attention help?")[2].partition("## Cost")[0]
    assert said.strip().startswith(f"{arm} is undecided")
    assert said.endswith("\n\nJudged by AP of boxes in 5 pairs of runs.\n\n")
    with pytest.raises(DataError, match=r"the study has the arms .*name the model's as arm="):
        card(model, study=judged, arm="se@P3")


def test_of_two_arms_of_which_one_name_begins_and_ends_the_other_the_right_one_is_quoted(tmp_path: Path) -> None:
    """Arms eca@P3, eca@P3+se@P3 and se@P3+eca@P3, with the numbers of three of the study on beacons."""
    names = {
        "mlca(init=paper)@P3": "eca@P3",
        "ema(init=paper)@P3": "eca@P3+se@P3",
        "mhsa(init=paper)@P3": "se@P3+eca@P3",
    }
    study = tmp_path / "study"
    study.mkdir()
    for file in ("plan.yaml", "records.jsonl"):
        text = (BEACONS / file).read_text(encoding="utf-8")
        for old, new in names.items():
            text = text.replace(old, new)
        (study / file).write_text(text, encoding="utf-8")
    results = judge_records(study)
    saved = results.save(tmp_path)
    shown = {}
    for name in names.values():
        file = tmp_path / "best.pt"
        YOLO(f"attngraft-micro.yaml+{name}").save(file)
        found = card(file, study=saved)
        assert found.verdict is not None
        shown[name] = found.verdict.name
        said = found.markdown().partition("## Did the attention help?\n\n")[2].splitlines()[0]
        assert said in headline(results)
        assert said.startswith((f"{name} is ", f"{name} makes ", f"{name}: "))
    assert shown == {name: name for name in names.values()}


OWN = """
import attngraft
from torch import nn

@attngraft.register
class OwnOfACard(nn.Conv2d):
    def __init__(self, channels):
        super().__init__(channels, channels, 1)
"""


def test_a_card_of_ones_own_mechanism_names_its_file_and_leaves_nothing_empty(tmp_path: Path) -> None:
    (tmp_path / "own_of_a_card.py").write_text(OWN)
    for words in (
        "--plugin own_of_a_card.py graft attngraft-micro.yaml own_of_a_card@P3 -o best.pt",
        "card best.pt -o card.md",
    ):
        subprocess.run(
            [sys.executable, "-m", "attngraft", *words.split()], cwd=tmp_path, check=True, capture_output=True
        )
    said = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "- **`own_of_a_card@P3`**: No paper is named.\n" in said
    assert "``" not in said.replace("```", "")
    assert "`OwnOfACard` is in `own_of_a_card.py`, which has to come with the checkpoint." in said
    assert "attngraft --plugin own_of_a_card.py predict model=best.pt" in said
    assert "Differs from it" not in said
