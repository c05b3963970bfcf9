"""Reading YAML that somebody else wrote: as data, in bounded time and memory, with one clear sentence."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from attngraft._core.errors import DataError, PlanError
from attngraft._core.yaml_files import MAX_BYTES, MAX_DEPTH, parse_yaml, read_yaml


def bomb(levels: int, width: int, form: str = "[{}]") -> str:
    lines = ["a0: &a0 " + form.format(", ".join("x" * width))]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} " + form.format(", ".join([f"*a{level - 1}"] * width)))
    return "\n".join(lines)


def merge_bomb(levels: int) -> str:
    lines = ["a0: &a0 {k0: 1, k1: 2}"]
    return "\n".join(lines + [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, levels)])


LISTS = "nested more than 100 levels" if Version(yaml.__version__) < Version("6.0.4") else "maximum nesting depth"
"""PyYAML 6.0.4 has a bound of its own, at 1000, and reads that far ahead in lists."""


class TestBounds:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (bomb(9, 9), r"data\.yaml stands for more than 1,000,000 values"),
            (bomb(40, 2), "more than 1,000,000 values"),
            (merge_bomb(40), "more than 1,000,000 values"),
            ("a: &a [*a]", r"has the alias \*a inside"),
            ("[" * 200_000, LISTS),
            ("{a: " * 200_000, "nested more than 100 levels"),
            ("a: " + ":".join(["1"] * 40_000), "a number of 79,999 characters"),
            ("a: !!int '" + ":".join(["1"] * 40_000) + "'", "a number of 79,999 characters"),
            ("a: " + "9" * 100_000, "a number of 100,000 characters"),
        ],
        ids=["aliases", "deep aliases", "merges", "itself", "lists", "maps", "base 60", "tagged", "digits"],
    )
    def test_a_bomb_is_refused_before_it_is_built(self, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):  # built, each takes hours, all memory or the interpreter
            parse_yaml(text, name="data.yaml")

    def test_a_file_of_any_size_is_not_read_whole(self, tmp_path: Path) -> None:
        file = tmp_path / "data.yaml"
        with file.open("wb") as opened:
            opened.truncate(1 << 40)  # a sparse file
        with pytest.raises(DataError, match=r"larger than 8 MiB"):
            read_yaml(file)
        assert MAX_BYTES == 8 << 20

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "data.yaml")
        with pytest.raises(DataError, match="no regular file"):
            read_yaml(tmp_path / "data.yaml")

    def test_what_people_write_passes(self) -> None:
        names = "\n".join(f"  {n}: class {n}" for n in range(20_000))
        anchors = "a: &a {lr0: 0.1}\nb: {<<: *a, c: 2}\nc: [*a, *a]"
        nested = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
        assert len(parse_yaml(f"names:\n{names}", name="x")["names"]) == 20_000
        assert parse_yaml(anchors, name="x")["b"] == {"lr0": 0.1, "c": 2}
        assert parse_yaml(nested, name="x")
        assert parse_yaml("a: " + "word " * 1000, name="x")
        assert parse_yaml("", name="x") is None


class TestMessages:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: [1,", r"plan is not valid YAML at line 2, column 1 \(did not find .+\); correct it there"),
            ("a: b: c", "not valid YAML at line 1, column 5"),
            ("a: !!python/object/apply:os.system [ls]", "not valid YAML at line 1.*python/object"),
            ("a: 2001-99-99", r"not valid YAML \(month must be"),
            ("a: !!timestamp x", "not valid YAML"),
            ("? [a]\n: 1", "not valid YAML"),
            ("\x00", "not valid YAML"),
            ("a:\n\tb: 1", "not valid YAML at line 2, .*; it has a tab there, and YAML is indented by spaces"),
            ("nc：80\nb: 1", "it has the full-width sign ： there; write :"),
            ("a: [1，2\nb: 1", "it has the full-width sign ， there; write ,"),
            ("a: [1, # 一，二\nb: 1]]", "correct it there"),
        ],
    )
    def test_says_what_and_where(self, text: str, message: str) -> None:
        with pytest.raises(PlanError, match=message):
            parse_yaml(text, name="plan", error=PlanError)

    def test_names_a_file_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"expected a YAML file, and .*gone\.yaml is not there"):
            read_yaml(tmp_path / "gone.yaml")
        with pytest.raises(DataError, match="is a folder"):
            read_yaml(tmp_path)
        (tmp_path / "latin.yaml").write_bytes(b"names: [\xe9]")
        with pytest.raises(DataError, match=r"not in UTF-8 \(byte 8\)"):
            read_yaml(tmp_path / "latin.yaml")

    def test_takes_the_mark_that_windows_puts_first(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
        assert read_yaml(tmp_path / "a.yaml") == {"a": 1}

    @pytest.mark.parametrize(
        ("text", "message"),
        [("a: 1\nb: 2\na: 3\n", "the key a twice, again at line 3"), ("b: [{c: 1, c: 2}]", "the key c twice")],
    )
    def test_a_key_that_stands_twice_is_refused_where_it_would_be_lost(
        self, text: str, message: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "plan.yaml"
        file.write_text(text)
        assert read_yaml(file), "as PyYAML and Ultralytics read it"
        with pytest.raises(PlanError, match=message):
            read_yaml(file, error=PlanError, once=True)
        file.write_text("a: &x {c: 1}\nb: *x\nd: {c: 2}\n")
        assert read_yaml(file, once=True) == {"a": {"c": 1}, "b": {"c": 1}, "d": {"c": 2}}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(VALUES)
def test_reads_what_yaml_writes(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value), name="x") == value


@given(st.text(alphabet="&*[]{}:,-? a1!|>'\"%#\n\t"))
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    with contextlib.suppress(DataError):
        parse_yaml(text, name="x")


@given(st.text(alphabet="&*[{:,\n"))
def test_a_refusal_is_one_line(text: str) -> None:
    with pytest.raises(DataError, match=r"\Ax .*[^\n]\Z"):
        parse_yaml(f"[{text}", name="x")
