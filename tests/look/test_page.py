"""The page in a real browser: every panel drawn, driven by keys, pointer and address, no error, two languages."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from attngraft.look import Look
from attngraft.look.page import HERE, page
from tests.browser import Browser, needs_browser

PANELS = ("mixed", "rests", "gates", "strength", "causal", "base", "scores")
DRIVER = """
const until = (test) => new Promise((go) => {
  const ask = () => (test() ? go() : setTimeout(ask, 20));
  ask();
});
const key = (name) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const note = () => document.querySelector("#mixed .note").textContent;
const buttons = () => [...document.querySelectorAll("#detections button")];
const pressed = () => buttons().findIndex((b) => b.ariaPressed === "true") + 1;
(async () => {
  const seen = {}, ready = () => document.body.dataset.ready;
  await until(ready);
  seen.start = [pressed(), note()];
  let before = ready();
  key("2");
  await until(() => ready() !== before);
  seen.key = [pressed(), note(), location.hash.includes("detection=2")];
  document.querySelector("#stage").focus();
  key("ArrowRight");
  await until(() => note().includes("row"));
  seen.arrow = [note(), location.hash.includes("cell=")];
  const at = document.querySelector("#photo").getBoundingClientRect();
  const corner = { clientX: at.left + 1, clientY: at.top + 1, bubbles: true };
  document.querySelector("#stage").dispatchEvent(new PointerEvent("pointermove", corner));
  await until(() => note().includes("row 1, column 1 "));
  key("Escape");
  await until(() => note().includes("detection 2"));
  const choices = () => [...document.querySelectorAll("#mixed .choices button")];
  const choose = (text) => choices().find((b) => b.textContent === text).click();
  before = ready();
  choose("all cells of its box");
  await until(() => ready() !== before);
  seen.box = [note(), location.hash.includes("ask=box"), document.querySelector("#cell").hidden];
  before = ready();
  choose("weighted by gradient");
  await until(() => ready() !== before);
  seen.weighted = [location.hash.includes("view=weighted"), document.querySelector("#mixed .scale").textContent];
  before = ready();
  document.querySelector("#language").click();
  await until(() => ready() !== before);
  seen.chinese = [document.documentElement.lang, document.querySelector("#mixed h2").textContent];
  document.body.append(Object.assign(document.createElement("pre"), { id: "seen", textContent: JSON.stringify(seen) }));
})();
"""

POINTING = """
const until = (test) => new Promise((go) => {
  const ask = () => (test() ? go() : setTimeout(ask, 20));
  ask();
});
const note = () => document.querySelector("#mixed .note").textContent;
const asks = (row, column) => until(() => note().includes(`row ${row}, column ${column} of`));
(async () => {
  await until(() => document.body.dataset.ready);
  const stage = document.querySelector("#stage"), at = document.querySelector("#photo").getBoundingClientRect();
  for (const [i, cell] of POINTED) {
    const clientX = at.left + ((i + 0.5) / 12) * at.width, clientY = at.top + ((i + 0.5) / 12) * at.height;
    stage.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
    await asks(cell + 1, cell + 1);
  }
  for (const row of UPWARD) {
    stage.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true }));
    await asks(row + 1, 8);
  }
  document.body.dataset.followed = "all";
})();
"""


def dom_of(address: str, folder: Path, until: str) -> str:
    """Return a page as a browser shows it once a selector finds something on it."""
    with Browser(folder) as browser:
        browser.open(address, f"document.querySelector({until!r})")
        dom: str = browser.run("document.documentElement.outerHTML")
        assert browser.complaints == []
        return dom


def test_the_page_fetches_nothing_and_is_small(seen: Look) -> None:
    text = page(seen)
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert len(text) < 3_000_000 * len(seen.images)


def test_names_cannot_end_the_script(seen: Look) -> None:
    evil = "</script><script>alert(1)</script>"
    named = Look(seen.images, model=evil, task=seen.task, names=dict.fromkeys(range(2), evil))
    assert "<script>alert" not in page(named)


def test_both_languages_say_the_same_and_all_that_is_asked() -> None:
    words = json.loads((HERE / "words.json").read_text(encoding="utf-8"))
    assert words["en"].keys() == words["zh"].keys()
    for key, sentence in words["en"].items():
        assert set(re.findall(r"\{(\w+)\}", sentence)) == set(re.findall(r"\{(\w+)\}", words["zh"][key])), key
    asked = set(re.findall(r'\b(?:say|empty)\("([\w.]+)"', (HERE / "page.js").read_text(encoding="utf-8")))
    assert asked <= words["en"].keys()
    assert {f"{panel}.says" for panel in PANELS} <= words["en"].keys()


@needs_browser
def test_the_page_is_driven_by_keys_pointer_and_address(seen: Look, tmp_path: Path) -> None:
    file = tmp_path / "look.html"
    file.write_text(page(seen).replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8")
    dom = dom_of(f"{file.as_uri()}#lang=en&image=1&detection=3&layer=1&view=raw&target=left", tmp_path, "#seen")
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom)
    assert found is not None
    report = json.loads(found[1].replace("&amp;", "&"))
    assert report["start"][0] == 3
    assert "cell of detection 3" in report["start"][1]
    assert report["key"] == [2, "Asked: the cell of detection 2. All heads share one scale.", True]
    assert re.search(r"row \d+, column \d+ of 12 x 12", report["arrow"][0])
    assert report["arrow"][1]
    assert re.fullmatch(r"Asked: the mean over the \d+ cells in the box of detection 2\. All heads.*", report["box"][0])
    assert report["box"][1:] == [True, True]
    assert report["weighted"][0]
    assert report["weighted"][1].startswith("-")
    assert report["chinese"] == ["zh-CN", "混合了什么"]
    assert 'id="problem" role="alert" hidden' in dom
    for panel in PANELS:
        assert f'<section id="{panel}" class="panel"' in dom
    assert dom.count('data-drawn="1"') == 1 + 4 + 2 + 1  # the image, heads, layers of ODAM, the graft
    assert dom.count("<polyline") == 8
    assert len(re.findall(r"95 % 置信区间 [-+\d]", dom)) == 6  # each direction and control, over both images


@needs_browser
def test_the_nearest_cell_answers_where_not_all_have_rows(seen: Look, tmp_path: Path) -> None:
    """Of a large map every second cell has rows, or every third, and the last one, where a side is not divided."""
    asked = np.array([1, 4, 7, 10, 11])
    whole = seen.images[0].attentions[0]
    flat = whole.cells[np.ix_(asked, asked)]
    one = replace(whole, cells=flat, cell_rows=whole.cell_rows[flat.ravel()])
    some = copy.copy(seen)
    some.images = (replace(seen.images[0], attentions=(one, *seen.images[0].attentions[1:])), *seen.images[1:])
    file = tmp_path / "look.html"
    places = [0, 11, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6]  # each far from the one before, so that no old answer passes
    pointed = [[place, int(asked[np.abs(asked - place).argmin()])] for place in places]
    script = f"const POINTED = {pointed}, UPWARD = [4, 1, 1];{POINTING}"
    file.write_text(page(some).replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    assert dom_of(f"{file.as_uri()}#lang=en&image=1&layer=1&view=raw", tmp_path, "[data-followed=all]")
