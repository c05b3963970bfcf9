"""What makes the factors a probe: each is drawn for itself, and an image shows what its factors say."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from attngraft.data.factor_scenes import FACTORS, FactorScene, draw_factors, factor_scene
from attngraft.data.scenes import GAP, generator


def scenes(count: int, side: int = 96) -> list[FactorScene]:
    return [factor_scene(generator(0, 0, index), side) for index in range(count)]


def test_factors_are_even_and_independent() -> None:
    drawn = [draw_factors(generator(0, 0, index)) for index in range(3000)]
    for name, values in FACTORS.items():
        counts = np.bincount([one[name] for one in drawn], minlength=len(values))
        assert chisquare(counts).pvalue > 0.01
    chances = []
    for one, other in combinations(FACTORS, 2):
        table = np.zeros((len(FACTORS[one]), len(FACTORS[other])))
        np.add.at(table, tuple(zip(*((d[one], d[other]) for d in drawn), strict=True)), 1)
        chances.append(chi2_contingency(table).pvalue)
    assert min(chances) > 0.05 / len(chances)  # Bonferroni over the ten pairs


def test_a_scene_has_the_factors_that_were_drawn_first() -> None:
    for index in range(20):
        assert factor_scene(generator(5, 1, index)).factors == draw_factors(generator(5, 1, index))


@pytest.mark.parametrize("side", [96, 192])
def test_an_image_shows_what_its_factors_say(side: int) -> None:
    for s in scenes(60, side):
        left, top, right, bottom = s.cue
        assert s.factors["corner"] == 2 * (top > side // 2) + (left > side // 2)
        beacon = s.image[(top + bottom) // 2, (left + right) // 2].astype(int)
        assert _colour(beacon) == FACTORS["colour"][s.factors["colour"]]
        assert len(s.areas) == s.factors["count"] + 1
        for area in s.areas:
            across = max(area.left - right, left - area.right)
            down = max(area.top - bottom, top - area.bottom)
            assert max(across, down) >= GAP * side // 96
            assert _shape(s, area) == FACTORS["shape"][s.factors["shape"]]


def test_textures_differ_where_nothing_is_drawn_and_keep_the_brightness() -> None:
    """Columns alone vary in stripes; rows and columns in checks and dots; both little on plain ground."""
    spread: dict[str, list[tuple[float, float]]] = {name: [] for name in FACTORS["texture"]}
    for s in scenes(400):
        inner = s.image[28:68, 28:68].astype(float).mean(2)
        fine = inner[1:, 1:] - inner[:-1, 1:], inner[1:, 1:] - inner[1:, :-1]  # steps down, steps to the right
        spread[FACTORS["texture"][s.factors["texture"]]].append(tuple(float((step**2).mean()) for step in fine))
    down, right = {k: np.median(v, 0)[0] for k, v in spread.items()}, {k: np.median(v, 0)[1] for k, v in spread.items()}
    assert down["stripes"] < 1.2 * down["plain"]
    assert right["stripes"] > 1.5 * right["plain"]
    for name in ("checks", "dots"):
        assert min(down[name] / down["plain"], right[name] / right["plain"]) > 1.3


def test_the_pixels_are_those_of_version_1() -> None:
    """A change here must raise `attngraft.data.folder.VERSION`; the new hash is printed by the failing assert."""
    digest = hashlib.sha256()
    for s in scenes(30):
        digest.update(s.image.tobytes() + repr((s.areas, s.cue, s.factors)).encode())
    assert digest.hexdigest()[:16] == "10887ab639eec376"


def _colour(rgb: np.ndarray) -> str:
    high = rgb > 128
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue"}
    names |= {(1, 1, 0): "yellow", (1, 0, 1): "magenta", (0, 1, 1): "cyan"}
    return names[tuple(int(x) for x in high)]


def _shape(scene: FactorScene, area: tuple[int, int, int, int]) -> str:
    """Tell a shape by the grey pixels at its corners and at the middles of its sides."""
    left, top, right, bottom = area
    cut = scene.image[top:bottom, left:right].astype(int)
    grey = (np.ptp(cut, axis=2) == 0) & (cut[..., 0] >= 185)
    corners = grey[0, 0], grey[0, -1], grey[-1, 0], grey[-1, -1]
    if all(corners):
        return "square"
    if corners[2] and corners[3]:
        return "triangle"
    quarter = len(grey) // 4 - 1
    return "circle" if grey[quarter, quarter] else "plus"
