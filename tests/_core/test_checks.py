"""The checks let through what works and say in one sentence what does not."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from attngraft._core import checks
from attngraft._core.errors import DtypeError, OptionError, ShapeError


class TestPositive:
    def test_takes_whole_numbers_from_one(self) -> None:
        checks.positive("ECA", heads=1, channels=64)

    @pytest.mark.parametrize("value", [0, -3, 2.0, True, "4", None])
    def test_refuses_the_rest(self, value: object) -> None:
        message = f"ECA needs heads to be a positive integer, got {re.escape(repr(value))}$"
        with pytest.raises(OptionError, match=message):
            checks.positive("ECA", channels=64, heads=value)  # type: ignore[arg-type]


class TestDivides:
    def test_takes_a_divisor(self) -> None:
        checks.divides("MHA", "heads", 8, 64)

    def test_names_both_neighbours(self) -> None:
        message = r"^MHA needs channels divisible by heads, got channels=64 and heads=6; heads could be 4 or 8$"
        with pytest.raises(OptionError, match=message):
            checks.divides("MHA", "heads", 6, 64)

    def test_names_the_one_below_where_there_is_none_above(self) -> None:
        with pytest.raises(OptionError, match=r"heads could be 64$"):
            checks.divides("MHA", "heads", 65, 64)

    @pytest.mark.parametrize(("heads", "channels"), [(0, 64), (8, 0), (-1, 64)])
    def test_refuses_what_is_no_number_of_parts(self, heads: int, channels: int) -> None:
        with pytest.raises(OptionError, match="positive integer"):
            checks.divides("MHA", "heads", heads, channels)


@pytest.mark.parametrize("channels", [1, 7, 48, 64, 97])
@pytest.mark.parametrize("value", [1, 6, 33, 200])
def test_nearest_divisors_work_and_none_is_nearer(channels: int, value: int) -> None:
    named = [int(word) for word in checks.nearest_divisors(channels, value).split(" or ")]
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    assert set(named) <= set(divisors)
    assert min(abs(n - value) for n in named) == min(abs(n - value) for n in divisors)


@pytest.mark.parametrize(
    ("channels", "limit", "expected"), [(48, 32, 24), (64, 8, 8), (13, 8, 1), (4, 8, 4), (1, 1, 1)]
)
def test_largest_divisor(channels: int, limit: int, expected: int) -> None:
    assert checks.largest_divisor(channels, limit) == expected


class TestOdd:
    def test_takes_odd_sizes(self) -> None:
        checks.odd("ECA", kernel_size=1, other=7)

    def test_names_both_neighbours(self) -> None:
        with pytest.raises(OptionError, match=r"^ECA needs an odd kernel_size to keep .*, got 4; use 3 or 5$"):
            checks.odd("ECA", kernel_size=4)

    def test_refuses_zero_as_too_small(self) -> None:
        with pytest.raises(OptionError, match=r"positive integer, got 0"):
            checks.odd("ECA", kernel_size=0)


class TestOneOf:
    def test_takes_a_known_word(self) -> None:
        checks.one_of("CBAM", "pool", "max", ("mean", "max"))

    def test_lists_the_words(self) -> None:
        with pytest.raises(OptionError, match=r"^CBAM needs pool to be one of 'mean', 'max', got 'sum'$"):
            checks.one_of("CBAM", "pool", "sum", ("mean", "max"))


class TestFeatureMap:
    @pytest.mark.parametrize("module", [nn.Conv2d(8, 8, 1), nn.Identity()], ids=["weights", "none"])
    def test_takes_a_map(self, module: nn.Module) -> None:
        checks.feature_map(module, 8, torch.randn(2, 8, 1, 3))

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((8, 6, 6), r"Conv2d expects a map \(B, 8, H, W\), got shape \(8, 6, 6\); add or drop an axis"),
            ((1, 1, 8, 6, 6), r"got shape \(1, 1, 8, 6, 6\); add or drop an axis"),
            ((1, 4, 6, 6), r"expects 8 channels .*, got shape \(1, 4, 6, 6\); build it with channels=4"),
            ((1, 8, 0, 6), r"no empty axis, got shape \(1, 8, 0, 6\); .*raise the image size"),
            ((0, 8, 6, 6), r"no empty axis, got shape \(0, 8, 6, 6\); leave out batches without images"),
        ],
        ids=str,
    )
    def test_refuses_a_wrong_shape(self, shape: tuple[int, ...], message: str) -> None:
        with pytest.raises(ShapeError, match=message):
            checks.feature_map(nn.Conv2d(8, 8, 1), 8, torch.randn(shape))

    def test_refuses_integers(self) -> None:
        with pytest.raises(DtypeError, match=r"expects floating-point values, got torch\.uint8; call \.float\(\)"):
            checks.feature_map(nn.Conv2d(8, 8, 1), 8, torch.zeros(1, 8, 2, 2, dtype=torch.uint8))

    def test_refuses_another_type_than_the_weights(self) -> None:
        with pytest.raises(DtypeError, match=r"has torch\.float32 weights and got a torch\.float16 map"):
            checks.feature_map(nn.Conv2d(8, 8, 1), 8, torch.zeros(1, 8, 2, 2, dtype=torch.float16))

    def test_leaves_mixed_types_to_autocast(self) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            checks.feature_map(nn.Conv2d(8, 8, 1), 8, torch.zeros(1, 8, 2, 2, dtype=torch.bfloat16))

    @pytest.mark.filterwarnings("ignore:.*torch.jit")
    def test_is_no_part_of_a_traced_graph(self) -> None:
        class Checked(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                checks.feature_map(self, 8, x)
                return x + 1

        traced = torch.jit.trace(Checked(), torch.zeros(1, 8, 2, 2))
        assert traced(torch.zeros(1, 4, 2, 2)).shape == (1, 4, 2, 2)
