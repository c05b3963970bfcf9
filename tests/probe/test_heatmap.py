"""The figure shows each record in the row of its mechanism and the column of its probe or distance."""

from __future__ import annotations

from typing import Any

import pytest

from attngraft.probe.heatmap import figure
from attngraft.probe.instrument import Instrument
from attngraft.probe.tally import tally
from tests.probe.conftest import Make

pytest.importorskip("matplotlib", reason="needs the [study] extra")


def texts(axis: Any) -> dict[tuple[float, float], str]:
    """Return what is written, by row and column."""
    return {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axis.texts}


def test_cells_and_distances_stand_in_the_rows_of_their_mechanisms(made: Make) -> None:
    records = [
        made(mechanism="none", accuracy=0.62, steps=None, reach=((0, 4, 3), (8, 4, 1))),
        made(mechanism="ema", probe="count", reach=()),
        made(),
        made(seed=1, reach=((0, 4, 4), (8, 4, 4), (16, 2, 1))),
    ]
    table, distances = figure(tally(Instrument(), records)).axes
    assert [label.get_text() for label in table.get_yticklabels()] == ["none", "ema", "mhsa"]
    assert [label.get_text() for label in table.get_xticklabels()] == ["reach", "count"]
    assert texts(table) == {
        (0, 0): "0/1  0.62", (0, 1): "–", (1, 0): "–", (1, 1): "1/1  0.98", (2, 0): "2/2  0.98", (2, 1): "–",
    }  # fmt: skip
    assert [label.get_text() for label in distances.get_xticklabels()] == ["0–7", "8–15", "16–23"]
    assert texts(distances) == {(0, 0): "0.75", (0, 1): "0.25", (2, 0): "1.00", (2, 1): "0.88", (2, 2): "0.50"}
    assert distances.images[0].get_array().mask.tolist() == [[False, False, True], [True] * 3, [False] * 3]


def test_without_reach_there_is_the_table_alone(made: Make) -> None:
    assert len(figure(tally(Instrument(), [made(probe="count", reach=())])).axes) == 1
