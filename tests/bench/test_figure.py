"""The figure is light, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attngraft._core.errors import OutputError
from attngraft.bench import Bench, draw
from tests.limits import largest_file


def test_the_figure_is_light_and_nothing_is_overwritten(found: Bench, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the [study] extra")
    file = draw(found, tmp_path / "new" / "bench.png")
    with Image.open(file) as picture:
        assert picture.width > 800
        assert picture.convert("L").getpixel((2, picture.height - 3)) == 255
    with pytest.raises(OutputError, match=r"bench\.png exists and is left as it is"):
        draw(found, file)
    found.write(tmp_path / "bench.json")
    (tmp_path / "full").mkdir()
    with largest_file(4000), pytest.raises(OutputError, match=r"cut\.png is not written"):
        draw(found, tmp_path / "full" / "cut.png")
    assert list((tmp_path / "full").iterdir()) == []
    with pytest.raises(OutputError, match=r"bench\.json exists"):
        found.write(tmp_path / "bench.json")
