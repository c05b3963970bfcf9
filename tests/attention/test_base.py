"""What every mechanism inherits."""

from __future__ import annotations

import pytest

from attngraft.attention import ECA, SE, info, names


def test_a_rows_values_take_the_names_of_the_record() -> None:
    assert SE.from_row(64) == {}
    assert SE.from_row(64, 8) == {"reduction": 8}
    assert ECA.from_row(64, 5) == {"kernel_size": 5}


def test_a_row_that_is_too_long_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"row of SE takes \[reduction\], got \[64, 8\]; leave the channels out"):
        SE.from_row(64, 64, 8)


def test_names_and_arguments_that_circulate_stand_for_one_mechanism() -> None:
    records = [info(name) for name in names()]
    taken = [name for record in records for name in (record.name, record.cls.__name__, *record.aliases)]
    assert len(taken) == len(set(taken))
    for record in records:
        for signature in record.signatures:
            assert set(signature) <= {"_", *record.options}, record.name
