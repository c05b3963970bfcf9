"""Halves of the images to choose by and to confirm on."""

from __future__ import annotations

import numpy as np
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


def test_groups_lie_in_one_half_whole() -> None:
    names = [f"patient{patient}_{index}.png" for patient in range(10) for index in range(6)]
    first = choosing(names, r"(patient\d+)_")
    assert first.reshape(10, 6).any(1).tolist() == first.reshape(10, 6).all(1).tolist()
    assert first.sum() == 30
    assert (first ^ confirming(names, r"(patient\d+)_")).all()
    assert choosing([f"D:\\more\\{name}" for name in names], r"(patient\d+)_").tolist() == first.tolist()
    for large in "ab":  # whichever comes first, the group that is more than half of the images confirms
        uneven = [f"{group}_{index}.png" for group in "ab" for index in range(9 if group == large else 2)]
        assert [uneven[index][0] for index in np.flatnonzero(choosing(uneven, "(.)_"))] == 2 * ["ba"[large == "b"]]


def test_one_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="takes 2 images, got 1"):
        choosing(["a.jpg"])
    with pytest.raises(ValueError, match=r"takes 2 groups of images by group: \^\(.\), got 1; name a split"):
        choosing(["a1.jpg", "a2.jpg"], "^(.)")
    with pytest.raises(ValueError, match="the image b.jpg has no group"):
        choosing(["a1.jpg", "b.jpg"], r"^(\w)\d")
