"""YAML of strangers: read within bounds, refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraft._core.errors import DataError
from attngraft._core.yaml_files import MOST_VALUES, parse_yaml, read_yaml


def test_plain_values_are_read_as_yaml_says(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("\ufeffnames: {0: 蓝, 1: red}\nsame: &x [1, 2]\ntwice: [*x, *x]\n", encoding="utf-8")
    assert read_yaml(file) == {"names": {0: "蓝", 1: "red"}, "same": [1, 2], "twice": [[1, 2], [1, 2]]}
    assert parse_yaml("", "nothing") is None


def test_an_alias_bomb_is_refused_before_it_is_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    with pytest.raises(DataError, match=f"values with its aliases written out, and at most {MOST_VALUES:,} are read"):
        parse_yaml("\n".join(lines), "bomb.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "bad.yaml is no YAML"),
        ("a: &a [*a]", "an alias holds itself"),
        ("[" * 5000, "nested too deeply"),
        ("a: 2020-99-99", "has a value that cannot be read"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "is no YAML"),
        ("\x00", "is no YAML"),
        ("? [1, 2]\n: 3", "unhashable|is no YAML"),
    ],
)
def test_what_is_no_yaml_of_plain_values_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_yaml(text, "bad.yaml")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("a: \xe9".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.yaml cannot be read as text"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(DataError, match=r"nowhere\.yaml cannot be read as text"):
        read_yaml(tmp_path / "nowhere.yaml")
