"""Names in Chinese in figures: drawn where a font has them, and else one sentence."""

from __future__ import annotations

import io
import warnings

import pytest
from matplotlib.figure import Figure

from attngraft._core import lettering


def named(name: str) -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().set_yticks([0, 1], [name, "mhsa@P5"])
    return figure


def saved(figure: Figure, *, as_text: bool = False) -> list[str]:
    """Return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with lettering.lettered(figure, as_text=as_text):
            figure.savefig(io.BytesIO(), format="png")
    return [str(one.message) for one in caught]


def test_a_name_without_a_font_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "CHINESE_FONTS", ())
    (said,) = saved(named("注意力机制"))
    assert said.startswith("a name has characters that no font of this system has")
    assert saved(named("注意力机制"), as_text=True) == []  # a browser has fonts of its own
    assert saved(named("mhsa@P4")) == []


def test_a_name_is_drawn_by_a_font_of_this_system() -> None:
    from matplotlib.font_manager import fontManager

    if not {font.name for font in fontManager.ttflist} & {name for name, _, _ in lettering.CHINESE_FONTS}:
        pytest.skip("needs a font with Chinese characters, such as Noto Sans CJK")
    assert saved(named("注意力机制")) == []


def test_other_warnings_stay() -> None:
    figure = named("mhsa")
    with pytest.warns(UserWarning, match="another"), lettering.lettered(figure):
        warnings.warn("another", stacklevel=1)
