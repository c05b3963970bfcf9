"""Halves of the images to choose by and to confirm on."""

from __future__ import annotations

import pytest

from attngraft.study.judging.selection import choosing, confirming


def test_the_halves_are_equal_disjoint_and_of_names_alone() -> None:
    names = [f"images/{index:04}.jpg" for index in range(101)]
    first, second = choosing(names), confirming(names)
    assert (first ^ second).all()
    assert abs(int(first.sum()) - int(second.sum())) <= 1
    order = [names[index] for index in reversed(range(101))]
    assert choosing(order)[::-1].tolist() == first.tolist()
    elsewhere = [rf"D:\data\{index:04}.png" for index in range(101)]
    assert choosing(elsewhere).tolist() == first.tolist()


def test_one_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="takes 2 images, got 1"):
        choosing(["a.jpg"])
