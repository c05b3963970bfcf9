"""The sheet and the verdicts in the language of who asks."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from attngraft import drawing
from attngraft._core.errors import OptionError
from attngraft.cli import main
from attngraft.look import Look, language, look
from attngraft.look.page import page
from attngraft.look.sheet import tiles
from attngraft.maps import Verdict
from tests.maps.beacons import scenes, watched


def speak(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "zh_TW"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_locale_says_the_language(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(monkeypatch, **variables)
    assert language.spoken() == expected


def test_a_verdict_in_both_languages() -> None:
    verdict = Verdict("insertion blur", "odam", "gaussian", 0.5, 0.4, 0.1, -0.02, 0.2, 12, False)
    assert language.said(verdict, "en") == (
        'Over 12 images: ODAM does not beat the control "Gaussian" in insertion: better by +0.100 '
        "(95 % interval -0.020 to +0.200)."
    )
    assert language.said(verdict, "zh") == (
        "12 张图像总计：ODAM 在插入上未胜过对照“高斯”：好 +0.100（95 % 置信区间 -0.020 到 +0.200）。"
    )


def test_all_words_of_a_sheet_are_translated(seen: Look) -> None:
    image = seen.images[0]
    english, chinese = ([t.title for t in tiles(image, 0, seen.names, one)] for one in language.LANGUAGES)
    assert [second for _, second in english] == [second for _, second in chinese]  # layers and files
    assert english[0] == chinese[0]  # the class's own name
    assert all(re.search(r"[\u4e00-\u9fff]", first) for first, _ in chinese[1:])
    assert not any(re.search(r"[\u4e00-\u9fff]", first) for first, _ in english)
    firsts = [first for first, _ in english]
    assert {"ODAM of the class", "ODAM of the left", "head 0: mixed", "head 0: weighted by gradient"} <= set(firsts)


def test_a_sheet_shows_sides_at_the_layer_that_the_detection_was_read_from(seen: Look) -> None:
    image = seen.images[0]
    own = image.relevance[-1]
    coarser = dataclasses.replace(own, layer="model.99", maps=np.zeros_like(own.maps))
    assert own.maps[0].any()
    shown = tiles(dataclasses.replace(image, relevance=[*image.relevance, coarser]), 0, seen.names)
    assert [layer for title, layer in (tile.title for tile in shown) if title == "ODAM of the left"] == [own.layer]


def test_an_svg_and_a_png_follow_the_locale(seen: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, LANG="C.UTF-8")
    english = np.asarray(seen.figure())
    assert "ODAM of the class" in seen.save(tmp_path / "en.svg").read_text(encoding="utf-8")
    speak(monkeypatch, LANG="zh_CN.UTF-8")
    assert "ODAM：类别" in seen.save(tmp_path / "zh.svg").read_text(encoding="utf-8")
    assert np.array_equal(np.asarray(seen.figure()), english) == (not language.has_font("zh"))
    monkeypatch.setattr(drawing, "CHINESE_FONTS", (("No Such Font", "no-such-font.ttf", 0),))
    drawing.chinese_font.cache_clear()
    assert np.array_equal(np.asarray(seen.figure()), english)  # nobody asked for Chinese
    monkeypatch.setattr(seen, "language", "zh")
    with pytest.raises(OptionError, match=r"no font with Chinese characters was found for a .png"):
        seen.figure()
    monkeypatch.undo()
    drawing.chinese_font.cache_clear()


def test_the_page_starts_in_the_language_that_was_asked_for() -> None:
    found = look(watched("global"), scenes(1)[0].image, imgsz=96, limit=1, language="zh")
    data = page(found).partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    assert json.loads(data)["language"] == "zh"
    with pytest.raises(OptionError, match="look speaks language=en or language=zh, got language=fr"):
        look(watched("global"), scenes(1)[0].image, language="fr")


def test_the_command_says_its_verdicts_in_the_language(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for file, scene in zip(files, scenes(2), strict=True):
        Image.fromarray(scene.image).save(file)
    words = ["attngraft-micro.yaml+mhsa@P3", *map(str, files), "imgsz=96", "conf=0", "limit=1", "scores=True"]
    result = CliRunner().invoke(main, ["look", *words, "language=zh", "-o", str(tmp_path / "look.svg")])
    assert result.exit_code == 0, result.output
    assert len(re.findall(r"2 张图像总计：ODAM 在(?:删除|插入)上", result.output)) == 6
    assert "ODAM：类别" in (tmp_path / "look.svg").read_text(encoding="utf-8")
    result = CliRunner().invoke(main, ["look", *words, "language=fr"])
    assert "got language=fr" in result.output
