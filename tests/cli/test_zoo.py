"""What list and show print, from the registry and of a mechanism of the user's own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result


def test_list_and_show_speak_from_the_registry(run: Callable[[str], Result]) -> None:
    listed = run("list *ca*")
    assert listed.exit_code == 0
    assert re.search(r"^eca +2020 +5 ", listed.output, re.MULTILINE)
    assert "mhsa" not in listed.output
    shown = run("show MHSA").output
    assert "2101.11605" in shown
    assert "201,600 parameters" in shown
    assert "heads" in shown
    assert "`" not in shown


def test_a_narrow_terminal_cuts_no_figure(run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    listed = run("list *a*").output
    assert re.search(r"^aifi +2024 +789,760 +396\.49 ", listed, re.MULTILINE)
    assert re.search(r"^name +year +parameters +M macs ", listed, re.MULTILINE)


OWN = """
import attngraft
from torch import nn

@attngraft.register
class PlainOfATest(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(x)

@attngraft.register(growth="N [cells]", formula="f([x])")
class NarrowOfATest(PlainOfATest):
    '''Work on few channels only.'''

    def __init__(self, channels):
        if channels > 64:
            raise ValueError("at most 64 channels")
        super().__init__(channels)
"""


def test_list_and_show_take_a_mechanism_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    Path("own_of_a_test.py").write_text(OWN)
    command = [sys.executable, "-m", "attngraft", "--plugin", "own_of_a_test.py"]

    def said(*words: str) -> str:
        return subprocess.run([*command, *words], capture_output=True, text=True, check=True).stdout

    listed = said("list", "*_of_a_test")
    after = [sys.executable, "-m", "attngraft", "list", "--plugin", "own_of_a_test.py", "*_of_a_test"]
    assert subprocess.run(after, capture_output=True, text=True, check=True).stdout == listed
    assert re.search(r"^plain_of_a_test +65,792 +26.21 *$", listed, re.MULTILINE)
    failure = "fails at 256 channels, 20 x 20: ValueError: at most 64 channels"
    assert re.search(rf"^narrow_of_a_test +{failure}", listed, re.MULTILINE)
    plain, narrow = said("show", "plain_of_a_test"), said("show", "narrow_of_a_test")
    assert re.match(r"plain_of_a_test\nfamily +user \(mixer\) *\nexample +65,792 parameters, 26.21 M", plain)
    assert "Use it: attngraft --plugin own_of_a_test.py train model=yolo11n+plain_of_a_test@P5" in plain
    assert narrow.startswith("Work on few channels only.\n")
    assert re.search(r"f\(\[x\]\).*grows with N \[cells\].*" + failure, narrow, re.DOTALL)
