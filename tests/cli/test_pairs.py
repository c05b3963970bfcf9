"""The words of all commands: keys, values, and one name for an output."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraft.cli import pairs


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["epochs=50", "lr0=1e-3"], {"epochs": 50, "lr0": 0.001}),
        (["epochs", "=", "50", "imgsz=", "640", "batch", "=8"], {"epochs": 50, "imgsz": 640, "batch": 8}),
        (["epochs = 50"], {"epochs": 50}),
        (["ｅpochs＝5"], {"ｅpochs": 5}),
        (["epochs＝50"], {"epochs": 50}),
        (["model=yolo11n+se(reduction=4)@P5"], {"model": "yolo11n+se(reduction=4)@P5"}),
        (["source=2024_01", "weights=2024_01_15"], {"source": "2024_01", "weights": "2024_01_15"}),
        (["name=2024", "data=007", "output=1e3"], {"name": "2024", "data": "007", "output": "1e3"}),
        (["imgsz=[320, 640]", "classes=0,2", "amp=FALSE", "cfg=none"],
         {"imgsz": [320, 640], "classes": (0, 2), "amp": False, "cfg": None}),
        (["data=None"], {"data": None}),
        (["source=a=b.jpg"], {"source": "a=b.jpg"}),
    ],
)  # fmt: skip
def test_reads(words: list[str], read: dict[str, Any]) -> None:
    assert pairs.parse(words) == read


@pytest.mark.parametrize("word", ["epochs", "epochs=", "=5", "=", "", " = "])
def test_refuses_what_is_no_pair(word: str) -> None:
    with pytest.raises(click.UsageError, match="expected key=value, got .*, as in: epochs=50"):
        pairs.parse([word])


def test_what_a_shell_split_off_says_that_quotes_keep_it_together() -> None:
    """PowerShell splits ``model=yolo11n+ema@P3,P4`` at the comma."""
    with pytest.raises(click.UsageError, match='got .P4., .*needs quotes in some shells, as in: "model='):
        pairs.parse(["model=yolo11n+ema@P3", "P4"])


def test_a_key_that_is_given_twice() -> None:
    with pytest.raises(click.UsageError, match="seed is given twice; leave one out"):
        pairs.parse(["seed=1", "seed=2"])
    assert pairs.parse(["seed=1", "seed=2"], last_wins=True) == {"seed": 2}


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_no_value_is_too_odd(text: str) -> None:
    (value,) = pairs.parse([f"source={text}"]).values()
    assert isinstance(value, (str, int, float, complex, tuple, list, dict, set, bytes, bool, type(None), type(...)))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("epochs=5", True),
        ("model=yolo11n+se@P5", True),
        ("train.workers=2", True),
        ("epochs＝5", True),
        ("yolo11n+se(reduction=4)@P5", False),
        ("runs/lr0=0.1/best.pt", False),
        ("plan.yaml", False),
    ],
)
def test_tells_pairs_from_recipes_and_paths(word: str, answer: bool) -> None:
    assert pairs.is_pair(word) is answer


def test_takes_an_output_by_any_of_its_names() -> None:
    for options in ({"output": "a"}, {"out": "a"}, {}):
        given = None if options else "a"
        assert pairs.take(options, "bench", "output", "out", given=given) == "a"
        assert not options
    assert pairs.take({}, "bench", "output", "out") is None
    assert pairs.take({"output": "a", "out": "a"}, "bench", "output", "out") == "a"
    with pytest.raises(click.UsageError, match="bench takes one of output and -o, got both; leave one out"):
        pairs.take({"output": "a"}, "bench", "output", "out", given="b")
