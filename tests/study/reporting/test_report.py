"""The report, from made-up detections: its numbers, its words, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import attngraft
from attngraft._core.errors import PlanError
from attngraft.cli.look import run_look
from attngraft.study.judging.results import Results
from attngraft.study.reporting.figures import curves_figure
from attngraft.study.reporting.report import write_report
from attngraft.study.running.records import Run
from attngraft.study.study import Study

WRONG = {"stock": 0.3, "noop": 0.3, "eca@P3": 0.0, "se@P3": 0.5, "conv for eca@P3": 0.25}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

Make = Callable[..., Study]


class Addresses(HTMLParser):
    """Collects whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "action")]


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    figure = curves_figure({"stock": [[40.0] * epochs, [50.0] * epochs]}, {"stock": "#000000"}, "AP")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", figure)
    assert texts[: texts.index("epoch")] == [str(epoch + 1) for epoch in range(epochs)]


def test_names_in_any_script_are_words_in_the_font_of_the_page() -> None:
    figure = curves_figure({"注意力": [[40.0, 50.0]]}, {"注意力": "#000000"}, "准确率")  # a warning is an error here
    assert ">注意力</text>" in figure
    assert set(re.findall('font-family: ([^;"]*)', figure)) == {"inherit"}


def test_the_report_of_a_study(made_study: Make) -> None:
    study = made_study(WRONG, seeds=6)
    outcomes = {verdict.arm: verdict.outcome for verdict in study.verdicts()}
    assert outcomes == {"eca@P3": "better", "se@P3": "worse"}
    page = study.report().read_text()
    folder = study.store.folder

    parser = Addresses()
    parser.feed(page)
    assert all(address.startswith(("#", "data:")) for address in parser.found)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)

    assert "eca@P3 is better than attngraft-micro.yaml" in page
    assert "beats a plain convolution of equal cost" in page
    assert study.frozen_plan().hash in page
    for figure in ("gains", "latency", "curves", "errors"):
        assert f'id="{figure}"' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))

    assert "P(better)" in page

    markdown = (folder / "report.md").read_text()
    assert "| eca@P3 | better |" in markdown
    assert (folder / "table.tex").read_text().count(r"\\") == 6
    assert (folder / "breakdown.tex").read_text().count(r"\\") == 8
    assert "AP on the validation split, by Ultralytics" in (folder / "report.html").read_text()
    assert len((folder / "records.jsonl").read_text().splitlines()) == 6 * 5


def test_an_incomplete_study_is_reported_as_such(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    run = Run(study.frozen_plan().arm("se@P3"), 1)
    (study.store.records / f"{run.name}.json").unlink()
    study.store.fail(run, "OSError: no space left on <device>")
    page = study.report().read_text()
    assert "se@P3, seed 1: OSError: no space left on &lt;device&gt;" in page
    one_seed = next(verdict for verdict in study.verdicts() if verdict.arm == "se@P3")
    assert one_seed.estimate.seeds == 1
    assert one_seed.outcome == "undecided"


def test_an_interim_report_gives_no_verdict(made_study: Make) -> None:
    study = made_study(WRONG, seeds=3, recorded=2)
    page = study.report().read_text()
    assert "Arms were judged once" not in page
    assert "Not all of the 3 planned seeds are finished: eca@P3, se@P3 are not judged yet." in page
    assert "eca@P3: no verdict yet, after 2 of 3 planned pairs; so far +" in page
    assert "interim: no verdict before all planned pairs" in page
    assert "is better than" not in page
    assert "& interim &" in (study.store.folder / "table.tex").read_text()
    assert not study.results.complete


@pytest.mark.parametrize(("most", "said"), [(9, True), (None, False)])
def test_a_study_that_goes_on_says_that_it_is_interim(made_study: Make, most: int | None, said: bool) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.28}, seeds=3, max_seeds=most, controls="stock")
    page = study.report().with_name("report.md").read_text()
    assert ("Interim: the baseline has 3 of up to 9 seeds, and the study goes on" in page) == said


@pytest.mark.parametrize(("limit", "said"), [(1.2, "latency stays within 1.2 times"), (1.15, "was not shown to stay")])
def test_latency_is_judged_beside_the_gain(made_study: Make, limit: float, said: str) -> None:
    study = made_study(WRONG, seeds=2, max_latency=limit)  # measured: 1.14, up to 1.16
    assert said in study.report().read_text()
    row = next(row for row in study.results.table() if row["arm"] == "eca@P3")
    assert row["fast_enough"] == (limit > 1.16)


def test_names_are_text_in_every_format(made_study: Make) -> None:
    """What a file's class names hold is shown, and is neither markup, nor a new column, nor a command of LaTeX."""
    study = made_study(WRONG, seeds=2)
    evil = r"a|b<script>alert(1)</script>\input{x}^2$y$ *"
    file = study.results.save(study.store.folder)
    written = file.read_text()
    for name in ("se@P3", "red"):
        written = written.replace(f'"{name}"', json.dumps(evil))
    file.write_text(written)
    folder = study.store.folder
    page = write_report(Results.load(file), folder).report.read_text()
    assert "<script>alert" not in page
    markdown, latex = (folder / "report.md").read_text(), (folder / "breakdown.tex").read_text()
    assert "<script>" not in markdown
    columns = {line.replace(r"\|", "").count("|") for line in markdown.splitlines() if line.startswith("| a")}
    assert columns == {11, 4, 8}  # the verdicts, the breakdown, the types of errors
    for text in (latex, (folder / "table.tex").read_text()):
        assert r"\input" not in text
        assert r"\textbackslash{}input\{x\}\textasciicircum{}2\$y\$" in text


def test_unpaired_runs_are_named(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    file = study.store.records / "se@P3-s1.json"
    record = json.loads(file.read_text())
    record["watch"]["batches"][0] = "other"
    record["watch"]["resumed"] = [3]
    file.write_text(json.dumps(record))
    page = study.report().read_text()
    assert "batches of every epoch, pixels included: not those of the baseline in se@P3 at seed 1" in page
    assert "se@P3 at seed 1 was interrupted and resumed from epoch 3" in page


def test_a_record_of_another_plan_is_refused(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    file = study.store.records / "se@P3-s1.json"
    file.write_text(file.read_text().replace(study.frozen_plan().hash, "0" * 16))
    with pytest.raises(PlanError, match="se@P3, seed 1 belongs to plan 0000"):
        study.report()


def test_nothing_to_compare_says_so(made_study: Make) -> None:
    study = made_study(WRONG, seeds=1)
    shutil.rmtree(study.store.records)
    with pytest.raises(PlanError, match="has no seed at which the baseline and an arm are both finished and a pair"):
        study.report()


@needs_browser
def test_a_browser_draws_the_page_offline(made_study: Make, tmp_path: Path) -> None:
    study = made_study(WRONG)
    page = study.report()
    probe = """<script>
      const errors = []; addEventListener("error", e => errors.push(e.message));
      addEventListener("load", () => {
        const table = document.querySelector("#verdicts");
        const names = () => [...table.tBodies[0].rows].map(r => r.cells[0].textContent);
        const press = label => [...table.querySelectorAll("button")].find(b => b.textContent === label).click();
        press("gain"); const falling = names(); press("gain"); const rising = names();
        press("arm"); const words = names();
        const drawn = [...document.querySelectorAll("svg.figure")].map(s => s.id + ":" + (s.getBBox().height > 50)
          + ":" + [...s.querySelectorAll("path")].some(p => getComputedStyle(p).stroke.startsWith("rgb")));
        const picture = document.querySelector("figure img");
        document.title = JSON.stringify({errors, falling, rising, words, drawn, picture: picture.naturalWidth,
          fetched: performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:")).length,
          wide: document.documentElement.scrollWidth > innerWidth, ink: getComputedStyle(document.body).color});
      });
    </script>"""
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("<style>", probe + "<style>", 1))
    seen = {}
    for theme in ("0", "1"):
        dump = _chromium(
            "--dump-dom", f"--blink-settings=preferredColorScheme={theme}", "--window-size=1200,900", probed.as_uri()
        )
        seen[theme] = json.loads(re.search("<title>(.*?)</title>", dump, re.DOTALL).group(1).replace("&amp;", "&"))  # type: ignore[union-attr]
    light, dark = seen["1"], seen["0"]
    assert light["errors"] == []
    assert light["drawn"] == ["gains:true:true", "latency:true:true", "curves:true:true", "errors:true:true"]
    assert light["falling"][0] == light["rising"][-2] == "eca@P3"
    assert light["falling"][-1] == light["rising"][-1] == "baseline"  # which has no gain
    assert light["words"] == sorted(light["words"], reverse=True)
    assert light["picture"] > 200
    assert light["fetched"] == 0
    assert not light["wide"]
    assert light["ink"] != dark["ink"]


def _chromium(*words: str) -> str:
    assert CHROMIUM is not None
    quiet = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=3000",
    ]
    done = subprocess.run([CHROMIUM, *quiet, *words], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def checkpoints_of(study: Study, *arms: str) -> dict[str, Path]:
    """Save an untrained model where a run of each arm keeps its weights."""
    files = {}
    for name in arms:
        arm = study.frozen_plan().arm(name)
        files[name] = study.store.training(Run(arm, 0)) / "weights" / "last.pt"
        files[name].parent.mkdir(parents=True)
        attngraft.YOLO(arm.model).save(files[name])
    return files


def test_the_report_gives_commands_that_look_into_each_arm(made_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    study = made_study(WRONG | {"eca@P3+se@P3": 0.4}, seeds=3)
    files = checkpoints_of(study, "stock", "eca@P3", "eca@P3+se@P3")  # se@P3 kept none
    page = study.report().read_text()
    lines = [unescape(line) for line in re.findall(r'<pre class="command" tabindex="0">(.*?)</pre>', page)]
    markdown = (study.store.folder / "report.md").read_text()
    assert lines == re.findall(r"^attngraft look .*$", markdown, re.MULTILINE)
    images = [sample.file for sample in study.results.samples]
    files = {arm: file.absolute() for arm, file in files.items()}
    monkeypatch.chdir(study.store.folder)  # where the report says that they are to be run
    for line, arm in zip(lines, ("eca@P3", "eca@P3+se@P3"), strict=True):
        program, command, *words = shlex.split(line)
        assert (program, command) == ("attngraft", "look")
        assert [Path(word).absolute() for word in words[:-1]] == [files[arm], *map(Path, images)]
        assert words[-1] == "base=runs/stock/s0/weights/last.pt"
        run_look([*words, "imgsz=64"], Path("seen.html"))
    assert Path("seen.html").is_file()
    assert Path("seen-2.html").is_file()

    Path(images[0]).unlink()
    assert "attngraft look" not in study.report().read_text()


def test_no_command_without_the_weights_of_the_baseline(made_study: Make) -> None:
    study = made_study(WRONG, seeds=3)
    files = checkpoints_of(study, "stock", "eca@P3")
    assert study.report().read_text().count("attngraft look") == 1
    files["stock"].unlink()
    assert "attngraft look" not in study.report().read_text()
    assert "attngraft look" not in (study.store.folder / "report.md").read_text()
