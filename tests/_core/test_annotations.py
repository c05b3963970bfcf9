"""Options are held against plain annotations, and against nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, Optional

import numpy as np
import pytest
import torch
from torch import nn

from attngraft._core.annotations import annotated_options
from attngraft._core.errors import OptionError


class Plain:
    def __init__(
        self,
        channels: int,
        heads: int = 4,
        *,
        bias: bool = False,
        scale: float = 1.0,
        slope: Optional[float] = None,  # noqa: UP045
        size: int | tuple[int, int] = (7, 7),
        kernels: Sequence[int] = (3, 5),
        shares: tuple[float, bool] = (0.5, True),
        order: Literal["first", "last"] = "first",
        word: str = "paper",
        words: Sequence[str] = (),
        act: type[nn.Module] | None = None,
        late: float = None,  # type: ignore[assignment]  # noqa: RUF013
        **more: int,
    ) -> None: ...


TAKEN: list[dict[str, Any]] = [
    {}, {"heads": np.int64(8)}, {"scale": np.float32(0.5)},
    {"bias": True}, {"scale": 2}, {"scale": 10**400}, {"slope": None}, {"slope": -0.5}, {"size": 3},
    {"size": [3, 4]}, {"size": (3, 4, 5)}, {"size": torch.Size([3, 4])}, {"kernels": range(3)}, {"kernels": []},
    {"shares": (1, False)}, {"order": "last"}, {"word": 3}, {"words": "abc"}, {"words": [1]}, {"act": nn.ReLU},
    {"act": 3}, {"late": None}, {"channels": "many"}, {"more": "x"}, {"other": "x"},
]  # fmt: skip


@pytest.mark.parametrize("options", TAKEN, ids=str)
def test_what_an_annotation_allows_and_what_is_not_plain_passes(options: dict[str, Any]) -> None:
    annotated_options("Plain", Plain.__init__, (), options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": "no"}, "bias to be True or False, got 'no'"),
        ({"bias": 0}, "bias to be True or False, got 0"),
        ({"heads": 4.0}, "heads to be an integer, got 4.0"),
        ({"heads": True}, "heads to be an integer, got True"),
        ({"scale": "small"}, "scale to be a finite number, got 'small'"),
        ({"scale": float("nan")}, "scale to be a finite number, got nan"),
        ({"slope": float("inf")}, "slope to be a finite number, or None, got inf"),
        ({"size": (3, 4.5)}, "size to be an integer, or a list of integers, got (3, 4.5)"),
        ({"kernels": 3}, "kernels to be a list of integers, got 3"),
        ({"kernels": "35"}, "kernels to be a list of integers, got '35'"),
        ({"kernels": None}, "kernels to be a list of integers, got None"),
        ({"shares": (0.5, 1)}, "shares to be a list of finite numbers, got (0.5, 1)"),
        ({"order": "middle"}, "order to be one of 'first', 'last', got 'middle'"),
    ],
    ids=str,
)
def test_another_type_gets_one_clear_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"^Plain needs {re.escape(message)}$"):
        annotated_options("Plain", Plain.__init__, (), options)


def test_what_comes_by_position_is_checked_too() -> None:
    annotated_options("Plain", Plain.__init__, (64, 8), {})
    with pytest.raises(OptionError, match="heads to be an integer, got 'x'"):
        annotated_options("Plain", Plain.__init__, (64, "x"), {})


def unresolved(self: Any, channels: int, bias: bool, other: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def bare(self, channels, bias=False): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize("init", [unresolved, bare, lambda self, bias: None])
def test_a_constructor_that_cannot_be_resolved_is_passed_over(init: Callable[..., None]) -> None:
    annotated_options("Plain", init, (), {"bias": "no"})
