"""The page in a real browser: every panel, measure, band and query, two languages, two themes, and no error."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attngraft.retrieve.evaluation import METHODS, Benchmark, Results, evaluate
from attngraft.retrieve.evaluation.page import HEADLINE, HERE, page
from attngraft.retrieve.evaluation.rows import PAIRS
from tests.retrieve.evaluation.conftest import HEADS, SmallIndex

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
PANELS = ("verdicts", "scores", "curves", "differences", "importance", "examples", "methods")
DRIVER = """
const seen = {}, $ = (s) => document.querySelector(s), all = (s) => [...document.querySelectorAll(s)];
const press = (panel, text) => all(`#${panel} button`).find((b) => b.textContent.includes(text)).click();
seen.panels = all("main > section").map((s) => s.id);
seen.rows = all("#scores tbody tr").map((r) => r.firstChild.textContent);
seen.documents = all("#scores tbody tr.chance td")[0].textContent;
press("scores", "Categories");
seen.categories = [all("#scores tbody tr.chance td")[0].textContent, all("#scores td.under").length];
seen.measure = location.hash.includes("measure=category");
const lines = () => all("#curves polyline").length;
const before = lines();
press("curves", "split");
seen.lines = [before, lines()];
press("differences", "aspects: 1");
seen.band = [location.hash.includes("band=1"), all("#differences circle").length];
seen.focus = document.activeElement.closest("section")?.id;
$("#query").selectedIndex = 2;
$("#query").dispatchEvent(new Event("change"));
seen.query = [location.hash.includes("query=3"), all("#examples .hit").length, all("#examples .votes").length];
seen.bars = all("#importance rect").length;
$("#language").click();
seen.chinese = [document.documentElement.lang, $("#scores h2").textContent];
const colour = () => getComputedStyle(document.body).backgroundColor, light = colour();
$("#theme").click();
seen.theme = [light, colour()];
seen.wide = document.documentElement.scrollWidth <= innerWidth;
document.body.append(Object.assign(document.createElement("pre"), { id: "seen", textContent: JSON.stringify(seen) }));
"""


@pytest.fixture
def results(index: SmallIndex, benchmark: Benchmark) -> Results:
    return evaluate(index, beir=benchmark, n=5, depth=9, measures=["nDCG@5"]).results


def seen_in_browser(results: Results, folder: Path, state: str, width: int = 1200) -> dict[str, Any]:
    assert CHROMIUM is not None
    file = folder / "report.html"
    file.write_text(page(results).replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8")
    quiet = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--lang=en",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--window-size={width},900",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'browser'}", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *quiet, f"{file.as_uri()}#{state}"], capture_output=True, text=True, timeout=180, check=True
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    assert 'id="problem" role="alert" hidden' in done.stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert found is not None
    return dict(json.loads(html.unescape(found[1])))


@needs_browser
@pytest.mark.parametrize("width", [1200, 500])
def test_the_page_is_driven(results: Results, tmp_path: Path, width: int) -> None:
    seen = seen_in_browser(results, tmp_path, "lang=en&theme=light&band=2-6", width)
    assert seen["panels"] == list(PANELS)
    assert len(seen["rows"]) == len(METHODS)
    assert seen["documents"] == f"{5 / 40:.3f}"
    chance = results.row("chance").on("all").category
    assert chance is not None
    under = sum(
        scores.category.mean < least.category.mean
        for row in results.rows[1:]
        for scores, least in zip(row.scores, results.row("chance").scores, strict=True)
        if scores.category and least.category
    )
    assert seen["categories"] == [f"{chance.mean:.3f}", under]
    assert seen["measure"]
    assert under > 0
    assert seen["lines"] == [2 * 7, 2 * 8]
    assert seen["band"] == [True, sum(one.group == "1" for one in results.differences)]
    example = results.examples[2]
    hits = sum(one.relevant for found in example.found.values() for one in found)
    votes = sum(bool(one.heads) for found in example.found.values() for one in found)
    assert seen["query"] == [True, hits, votes]
    assert votes > 0
    assert seen["bars"] == HEADS
    assert seen["chinese"] == ["zh-CN", "得分"]
    assert seen["theme"] == ["rgb(253, 253, 251)", "rgb(20, 23, 27)"]
    assert seen["wide"]  # tables and figures scroll by themselves


@needs_browser
def test_a_page_without_categories_and_of_a_file(index: SmallIndex, benchmark: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "other <b>.run").write_text("q0 Q0 d1 1 1 x\n")
    made = evaluate(index, beir=benchmark, n=5, category="none", runs=[tmp_path / "other <b>.run"]).results
    text = page(made).replace("</body>", "<script>document.title += document.querySelectorAll('#scores td').length"
                              "</script></body>")  # fmt: skip
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--lang=en", "--disable-background-networking",
         f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    assert f"eval{(len(METHODS) + 1) * len(made.groups)}</title>" in done.stdout
    assert "other &lt;b&gt;" in done.stdout
    assert "StRecall@n)</button>" not in done.stdout


def test_the_page_fetches_nothing_and_names_cannot_end_the_script(results: Results) -> None:
    evil = "</script><script>alert(1)</script>"
    text = page(replace(results, setting=replace(results.setting, benchmark=evil, index={"model": evil})))
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert "<script>alert" not in text


def test_both_languages_say_the_same_and_all_that_is_asked() -> None:
    words = json.loads((HERE / "words.json").read_text(encoding="utf-8"))
    assert words["en"].keys() == words["zh"].keys()
    for key, sentence in words["en"].items():
        assert set(re.findall(r"\{(\w+)\}", sentence)) == set(re.findall(r"\{(\w+)\}", words["zh"][key])), key
    script = (HERE / "page.js").read_text(encoding="utf-8")
    asked = set(re.findall(r'\bsay\("([\w.]+)"', script)) | set(PANELS) | {f"{panel}.says" for panel in PANELS}
    asked |= {f"{kind}.{name}" for kind in ("row", "about") for name in METHODS}
    assert asked <= words["en"].keys()
    assert set(HEADLINE) <= set(PAIRS)
