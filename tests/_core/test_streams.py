"""What is printed below Python is turned away, and what is printed afterwards is not."""

from __future__ import annotations

import os

import pytest

from attngraft._core.streams import silenced, stdout_to_stderr


def test_silence_reaches_below_python(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced():
        print("python")
        os.write(1, b"below\n")
    print("afterwards")
    assert capfd.readouterr() == ("afterwards\n", "")


def test_stdout_is_kept_for_one_document(capfd: pytest.CaptureFixture[str]) -> None:
    with stdout_to_stderr():
        print("python")
        os.write(1, b"below\n")
    print("{}")
    out, err = capfd.readouterr()
    assert out == "{}\n"
    assert set(err.split()) == {"python", "below"}


def test_streams_are_put_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), silenced():
        raise ValueError("inside")
    print("afterwards")
    assert capfd.readouterr().out == "afterwards\n"
