"""The live pages in a real browser: numbers against PyTorch, every panel drawn and driven, no error, two languages."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from tests.browser import Browser, needs_browser
from tests.tools.attention.test_operator import maps, shipped
from tools.attention.arrays import SCENES, SIDE, copied, load
from tools.attention.facts import facts
from tools.attention.figures import figures
from tools.attention.operator import HEADS

from tools.attention import pages

TOLERANCE = 2e-6
"""Of weights, and of outputs relative to the largest: the page computes in float64 from what is kept in float32."""
PANELS = [
    "scene",
    "vectors",
    "softmax",
    "random",
    "scale",
    "mix",
    "heads",
    "positions",
    "copied",
    "cost",
    "online",
    "graft",
]
ASKED = (0, 17, 22, 77, 126, 143)
HERE = Path(__file__).parent
READY = "document.body?.dataset.ready"


def page(language: str) -> str:
    arrays = load()
    return pages.page(language, facts(arrays), arrays, figures(arrays))


def script(name: str) -> str:
    return (HERE / f"{name}.js").read_text(encoding="utf-8")


def seen(language: str, code: str, folder: Path) -> Any:
    """Return what a script finds on the page, which may complain of nothing."""
    file = folder / "attention-live.html"
    file.write_text(page(language), encoding="utf-8")
    with Browser(folder) as browser:
        browser.open(file.as_uri(), READY)
        found = browser.run(code)
    assert browser.complaints == []
    return found


@cache
def rows(form: str) -> torch.Tensor:
    """Return all rows of the shipped class, in float64, ``(S, h, N, N)``."""
    arrays = load()
    module = (
        copied(arrays).double()
        if form == "copied"
        else shipped(arrays, *{"unscaled": ("relative", False)}.get(form, (form,)))
    )  # type: ignore[arg-type]
    with torch.no_grad():
        return module.attention_rows(maps(arrays))


@needs_browser
def test_the_arithmetic_of_the_page_is_that_of_the_shipped_class(tmp_path: Path) -> None:
    weights, out = (
        np.frombuffer(base64.b64decode(text), "<f4")
        for text in seen("en", script("numbers").replace("ASKED", str(list(ASKED))), tmp_path)
    )
    weights = weights.reshape(len(SCENES), HEADS, len(ASKED), 5, SIDE * SIDE)
    for n, form in enumerate(("relative", "none", "absolute", "copied", "unscaled")):
        np.testing.assert_allclose(
            weights[:, :, :, n], rows(form)[:, :, list(ASKED)].numpy(), atol=TOLERANCE, err_msg=form
        )
    with torch.no_grad():
        mixed = shipped(load())(maps(load())).flatten(2).unflatten(1, (HEADS, -1))[..., list(ASKED)].transpose(2, 3)
    np.testing.assert_allclose(out.reshape(mixed.shape), mixed.numpy(), atol=TOLERANCE * float(mixed.abs().max()))


def numbers(sentence: str) -> list[float]:
    return [float(n.replace("\u2212", "-")) for n in re.findall(r"[+\u2212-]?\d+(?:\.\d+)?(?:e-?\d+)?", sentence)]


def said(row: torch.Tensor, cell: int, head: int) -> list[float]:
    """Return the numbers that the first panel has to say of a row."""
    most = int(row.argmax())
    weight = float(f"{float(row[most]):.3g}")
    return [cell // SIDE + 1, cell % SIDE + 1, head, weight, most // SIDE + 1, most % SIDE + 1, 0.00694]


@needs_browser
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_page_is_driven_by_pointer_keys_and_address(language: str, tmp_path: Path) -> None:
    arrays, relative = load(), rows("relative")
    cell = int(arrays["object"][0, 1])
    report = seen(language, script("drive"), tmp_path)
    assert report["lang"] == language
    assert report["named"]
    assert numbers(report["start"][0]) == said(relative[0, 3, cell], cell, 3)
    assert numbers(report["start"][1])[-1] == pytest.approx(float(facts(arrays)["product"]), abs=0.1)
    assert f"{float(relative[0, 3, cell].max()):.3f}" in report["start"][2]
    assert float(report["start"][3][3]) == pytest.approx(float(rows("none")[0, 3, cell].max()), abs=5e-5)
    assert numbers(report["arrow"][0]) == said(relative[0, 3, cell - 1], cell - 1, 3)
    assert f"query={cell - 1}" in report["arrow"][1]
    assert report["arrow"][2]
    assert report["arrow"][3]
    assert numbers(report["drag"]) == said(relative[0, 3, SIDE - 1], SIDE - 1, 3)
    assert report["key"][0]
    assert report["key"][1].startswith("91.6")
    assert f"key={SIDE * (SIDE - 1)}" in report["key"][2]
    assert report["again"] == [report["start"][0], ""]
    assert f"{float(rows('unscaled')[0, 3, cell].max()):.3f}" in report["sharp"]
    assert [float(v) for v in report["off"][1:]] == pytest.approx(
        [*arrays["scores"][0, 15, 0], *arrays["scores"][0, 7, 0]], abs=6e-3
    )
    assert numbers(report["positions"][0]) == said(rows("none")[0, 3, cell], cell, 3)
    assert "positions=0" in report["positions"][1]
    paper, other = report["shift"][:5], report["shift"][5:]
    assert paper[3:] == ["0.000", "0.000"]
    assert float(other[4]) == pytest.approx(float(facts(arrays)["copied_shift"]), abs=2e-3)
    assert report["absolute"][3:] == ["0.000", "0.000"]
    assert numbers(report["read"])[-1] == 0
    assert [float(v) for v in report["gamma"][0][1:]] == pytest.approx(arrays["by_gamma"][0, 0].tolist(), abs=6e-3)
    assert numbers(report["gamma"][1])[-1] == 0
    assert report["cost"][7] == "22\u202f751"
    green = int(arrays["object"][arrays["object"][:, 0] == 3][0, 1])
    assert numbers(report["image"][0]) == said(relative[3, 3, green], green, 3)
    assert report["image"][2]
    assert numbers(report["hash"][0]) == said(relative[1, 0, 34], 34, 0)
    assert report["hash"][1:] == ["dark", "1", "1"]
    assert report["theme"] == "light"
    assert report["canvases"] == [True] * 24
    assert report["overflow"] <= 0
    assert report["problem"]


def first_map(browser: Browser, folder: Path, state: str = "") -> Callable[[int, int], dict[str, float]]:
    """Open the English page, and return what tells where a cell of its first map is on the screen."""
    file = folder / "attention-live.html"
    file.write_text(page("en"), encoding="utf-8")
    browser.open(f"{file.as_uri()}{state}", READY)
    box = "document.querySelector('[data-panel=scene] .pick')"
    browser.run(f"{box}.scrollIntoView({{block: 'center'}})")
    left, top, cell = browser.run(f"(({{left, top, width}}) => [left, top, width / 12])({box}.getBoundingClientRect())")
    return lambda row, column: {"x": left + (column + 0.5) * cell, "y": top + (row + 0.5) * cell}


def asks(row: int, column: int) -> str:
    """Return the condition that the address names a cell as the query."""
    return f"location.hash === '#query={row * SIDE + column}'"


@needs_browser
def test_a_phone_shows_all_and_a_finger_moves_the_query(tmp_path: Path) -> None:
    """Real touches: a tap chooses a cell, dragging the mark moves it, and dragging elsewhere scrolls the page."""
    with Browser(tmp_path, (390, 844)) as browser:
        at = first_map(browser, tmp_path, "#query=77")
        assert browser.run("document.documentElement.scrollWidth") == 390

        def touch(*cells: tuple[int, int]) -> None:
            for n, cell in enumerate(cells):
                kind = "touchMove" if n else "touchStart"
                browser.ask("Input.dispatchTouchEvent", type=kind, touchPoints=[at(*cell)])
            browser.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

        touch((2, 3))
        browser.wait(asks(2, 3))
        touch((2, 3), (4, 5), (8, 7))
        browser.wait(asks(8, 7))
        before = browser.run("scrollY")
        touch((3, 1), (2, 1), (1, 1), (0, 1))
        browser.wait(f"scrollY > {before}")
        assert browser.run(asks(8, 7))
    assert browser.complaints == []


@needs_browser
def test_a_mouse_drags_the_query_and_keys_move_it(tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        at = first_map(browser, tmp_path)
        for kind, cell in (("Pressed", (5, 5)), ("Moved", (6, 6)), ("Moved", (9, 2)), ("Released", (9, 2))):
            browser.ask("Input.dispatchMouseEvent", type=f"mouse{kind}", button="left", clickCount=1, **at(*cell))
        browser.wait(asks(9, 2))
        browser.ask("Input.dispatchMouseEvent", type="mouseMoved", **at(1, 1))  # no button is held
        for key in ("ArrowUp", "ArrowRight", "ArrowRight"):
            browser.ask("Input.dispatchKeyEvent", type="keyDown", key=key)
        browser.wait(asks(8, 4))
    assert browser.complaints == []


@pytest.mark.parametrize("language", pages.LANGUAGES)
def test_a_page_fetches_nothing_and_is_small(language: str) -> None:
    text = page(language)
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert len(text.encode()) < 800_000
    assert "$" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)  # every formula became MathML
    assert re.findall(r'data-panel="(\w+)"', text) == PANELS


def structure(language: str) -> list[str]:
    """Return what both languages have to share: headings, formulas, panels, figures, code and numbers asked for."""
    source = (pages.HERE / f"text.{language}.txt").read_text(encoding="utf-8")
    marks = re.findall(
        r"^```math\n.*?^```|^#+ |^\[\[\w+ \w+(?: \w+)?|^- |^\|(?=[^-])", source, re.DOTALL | re.MULTILINE
    )
    return marks + sorted(re.findall(r"`[^`\n]+`", source)) + sorted(re.findall(r"\{\{\w+\}\}", source))


def test_both_languages_have_the_same_formulas_panels_and_numbers() -> None:
    english, chinese = (structure(language) for language in pages.LANGUAGES)
    assert english == chinese
    inline = [
        sorted(set(re.findall(r"\$([^$\n]+)\$", (pages.HERE / f"text.{language}.txt").read_text(encoding="utf-8"))))
        for language in pages.LANGUAGES
    ]
    assert inline[0] == inline[1]


def test_both_languages_say_the_same_and_all_that_is_asked() -> None:
    english, chinese = (pages.words(language) for language in pages.LANGUAGES)
    assert english.keys() == chinese.keys()
    for key, sentence in english.items():
        assert set(re.findall(r"\{(\w+)\}", sentence)) == set(re.findall(r"\{(\w+)\}", chinese[key])), key
    asked = set(re.findall(r'\bsay\("([\w.]+)"', (pages.HERE / "page.js").read_text(encoding="utf-8")))
    assert asked <= english.keys()
    assert {f"{kind}.{panel}" for kind in ("panel", "says") for panel in PANELS} <= english.keys()


@pytest.mark.parametrize("language", pages.LANGUAGES)
def test_every_number_is_used_and_every_still_figure_is_shown(language: str) -> None:
    source = (pages.HERE / f"text.{language}.txt").read_text(encoding="utf-8")
    values = facts(load())
    assert set(re.findall(r"\{\{(\w+)\}\}", source)) == values.keys() - {"p4_cells", "p4_attention", "p4_conv"}
    made = pages.markdown(language, values)
    assert set(re.findall(r"images/attention-(\w+)\.svg", made)) == figures(load()).keys()
    assert "{{" not in made
    assert not re.search(r"^@|@@|\[\[", made, re.MULTILINE)


@pytest.mark.parametrize("language", pages.LANGUAGES)
def test_every_formula_is_well_formed_and_says_words_as_words(language: str) -> None:
    found = re.findall(r"<math.*?</math>", page(language), re.DOTALL)
    assert len(found) > 50
    for formula in found:
        ElementTree.fromstring(re.sub(r"&#x(\w+);", lambda code: "x", formula))
    assert "<mi>softmax</mi>" in page(language)
