"""The tree of errors is the one that is drawn, and each message tells a user enough."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
import torch

from attngraft._core import errors
from attngraft._core.errors import (
    AttngraftError,
    MissingExtraError,
    RecipeError,
    ShapeError,
    UnknownNameError,
    suggest,
)

TREE = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, AttngraftError) and cls is not AttngraftError
}


def test_the_drawing_is_the_tree() -> None:
    drawn = dict(re.findall(r"─ (\w+) +\((\w+)\)", errors.__doc__ or ""))
    assert drawn == {name: cls.__bases__[1].__name__ for name, cls in TREE.items()}


@pytest.mark.parametrize("cls", TREE.values())
def test_each_is_also_the_built_in_a_caller_expects(cls: type[AttngraftError]) -> None:
    ours, built_in = cls.__bases__
    assert ours is AttngraftError
    assert built_in.__module__ == "builtins"
    assert cls.__doc__


class TestRecipeError:
    @pytest.mark.parametrize(("position", "pointed"), [(0, "y"), (8, "x"), (14, "")])
    def test_the_caret_stands_under_the_character(self, position: int, pointed: str) -> None:
        recipe = "yolo11n+xhsa@5"
        _, shown, caret = str(RecipeError("no such mechanism", recipe, position)).splitlines()
        assert shown.strip() == recipe
        assert caret.strip() == "^"
        assert shown[caret.index("^") :][:1] == pointed

    def test_keeps_the_text_and_the_position(self) -> None:
        error = RecipeError("expected a place", "yolo11n+eca@", 12)
        assert (error.text, error.position) == ("yolo11n+eca@", 12)
        assert str(error).startswith("expected a place\n")


class TestShapeError:
    def test_says_who_what_came_and_what_to_do(self) -> None:
        error = ShapeError("ECA", "64 channels (B, 64, H, W)", torch.Size([1, 32, 6, 6]), "build it with channels=32")
        assert str(error) == (
            "ECA expects 64 channels (B, 64, H, W), got shape (1, 32, 6, 6); build it with channels=32"
        )
        assert error.actual == (1, 32, 6, 6)
        assert error.expected == "64 channels (B, 64, H, W)"

    def test_without_a_hint_ends_after_the_shape(self) -> None:
        assert str(ShapeError("ECA", "a map", [3])) == "ECA expects a map, got shape (3,)"


def test_unknown_name_sorts_what_there_is() -> None:
    error = UnknownNameError("place", "Q9", ["P5", "P3"])
    assert str(error) == "no place is called 'Q9'; there are: P3, P5"
    assert error.name == "Q9"


def test_missing_extra_says_what_to_type() -> None:
    error = MissingExtraError("onnxruntime", "export")
    assert "needs onnxruntime" in str(error)
    assert "pip install 'attngraft[export]'" in str(error)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mhsa", "did you mean mhsa?"),
        ("MHSA", "did you mean mhsa?"),
        ("mlka", "did you mean mlca?"),
        ("qqq", "there are: eca, ema, mhsa, mlca"),
        ("", "there are: eca, ema, mhsa, mlca"),
    ],
)
def test_suggest(name: str, expected: str) -> None:
    assert suggest(name, ["eca", "ema", "mhsa", "mlca"]) == expected


def test_suggest_names_several_near_ones() -> None:
    assert suggest("ea", ["eca", "ema", "mhsa"]) in ("did you mean eca or ema?", "did you mean ema or eca?")


@pytest.mark.parametrize(
    "error",
    [
        ShapeError("ECA", "a map", [3], "add an axis"),
        UnknownNameError("place", "Q9", ["P3"]),
        RecipeError("expected a place", "yolo11n+eca@", 12),
        MissingExtraError("onnxruntime", "export"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_crosses_a_process_border(error: AttngraftError) -> None:
    """A study and multi-GPU training raise in another process, and pickle brings the error home."""
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
