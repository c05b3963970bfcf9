"""Maps as they are drawn: mass is kept, and 8 bits give the values back."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from attngraft.look.drawn import LEVELS, SIGNED_LEVELS, SIGNED_ZERO, colours, lay, pack


@pytest.mark.parametrize("grids", [[(80, 40)], [(40, 20), (20, 10), (10, 5)], [(7, 5)]])
def test_laid_maps_keep_their_mass_and_place(grids: list[tuple[int, int]]) -> None:
    rows = np.zeros((2, sum(h * w for h, w in grids)), np.float32)
    rows[0, 0] = 0.25  # the upper left corner of the first
    rows[1, -1] = 0.75  # the lower right corner of the last
    maps, grid = lay(rows, grids, 20)
    assert max(grid) <= 20
    np.testing.assert_allclose(maps.sum((1, 2)), [0.25, 0.75], rtol=1e-5)
    assert maps[0, 0, 0] > 0
    assert maps[1, -1, -1] > 0


@pytest.mark.parametrize("grids", [[(21, 21)], [(92, 60), (46, 30), (23, 15)]])
def test_a_cell_on_an_edge_counts_once(grids: list[tuple[int, int]]) -> None:
    N = sum(h * w for h, w in grids)
    for start in range(0, N, 500):
        rows = np.zeros((min(500, N - start), N), np.float32)
        rows[np.arange(len(rows)), start + np.arange(len(rows))] = 1  # all mass in one cell, and that in each in turn
        maps, _ = lay(rows, grids, 20)
        np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)
    middle = np.zeros((1, 4 + 9), np.float32)
    middle[0, 4 + 4] = 1  # the middle of 3 x 3 cells, of which each of 2 x 2 parts has a quarter
    np.testing.assert_allclose(lay(middle, [(2, 2), (3, 3)], 2)[0][0], np.full((2, 2), 0.25), rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_packed_maps_give_their_values_back(sign: int) -> None:
    maps = np.random.default_rng(0).random((6, 4, 5), dtype=np.float32) * np.arange(1, 7)[:, None, None]
    maps[3] *= sign
    packed = pack(maps, np.array([0, 0, 0, 1, 1, 1]))
    with Image.open(io.BytesIO(base64.b64decode(packed["png"].partition(",")[2]))) as image:
        lines = np.asarray(image, np.float32)
    shares = (lines - SIGNED_ZERO) / SIGNED_LEVELS if packed["signed"] else lines / LEVELS
    scale = np.array(packed["scale"])
    assert packed["signed"] == (sign < 0)
    assert len(set(scale[:3])) == len(set(scale[3:])) == 1
    np.testing.assert_allclose(shares * scale[:, None], maps.reshape(6, -1), atol=scale.max() / 127)


def test_nothing_is_packed_as_nothing() -> None:
    assert pack(np.zeros((0, 3, 3), np.float32)) == {"png": "", "count": 0, "size": 9, "scale": [], "signed": False}


def test_colours_of_both_signs_begin_alike() -> None:
    ends = colours(np.array([0.0, 1.0, -1.0, -1e-6], np.float32))
    assert ends[0].tolist() == [68, 1, 84]
    np.testing.assert_allclose(ends[0], ends[3], atol=0.01)
    assert ends[1].tolist() != ends[2].tolist()
