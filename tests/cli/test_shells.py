"""Completion in real shells, typed into a terminal of their own."""

from __future__ import annotations

import os
import pty
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def command(tmp_path: Path) -> dict[str, str]:
    """Put a command attngraft on the path that completes, and otherwise prints its words; return the environment."""
    home = tmp_path / "bin"
    home.mkdir()
    file = home / "attngraft"
    file.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "if '_ATTNGRAFT_COMPLETE' in os.environ or 'completion' in sys.argv:\n"
        "    from attngraft.cli import main\n    main()\n"
        "print(*(f'[{word}]' for word in sys.argv[1:]), sep='')\n"
    )
    file.chmod(0o755)
    for name in ("tiny.yaml", "two words (1).yaml"):
        Path(name).touch()
    return {**os.environ, "PATH": f"{home}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(tmp_path), "PS1": "$ "}


def script(shell: str, environment: dict[str, str]) -> Path:
    """Write what ``attngraft completion SHELL`` prints to a file."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    made = subprocess.run(
        ["attngraft", "completion", shell], env=environment, capture_output=True, text=True, check=True
    )
    file = Path(f"completion.{shell}")
    file.write_text(made.stdout)
    return file.resolve()


class Terminal:
    """A shell on a terminal of its own.

    Args:
        argv: The shell.
        environment: Its environment.
        setup: What is typed first.
    """

    def __init__(self, argv: list[str], environment: dict[str, str], setup: str) -> None:
        self.child, self.file = pty.fork()
        if self.child == 0:
            os.execvpe(argv[0], argv, environment)
        self.type(f"{setup}\necho rea''dy\n")
        self.read("\nready")

    def type(self, text: str) -> None:
        os.write(self.file, text.encode())

    def read(self, until: str, seconds: float = 30) -> str:
        """Read until a text comes, and return what came."""
        seen, end = "", time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.file, selectors.EVENT_READ)
            while until not in seen and time.monotonic() < end:
                if waiting.select(0.1):
                    seen += os.read(self.file, 4096).decode(errors="replace").replace("\r", "")
        assert until in seen, seen
        return seen

    def close(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        os.close(self.file)


TYPED = [
    ("expo\t", "export ", ["export"]),
    ("train epo\t", "epochs=", ["train", "epochs="]),
    ("train model=yolo11n+mhs\t", "mhsa", ["train", "model=yolo11n+mhsa"]),
    ("train model=yolo11n+mhsa@P5+simam@N4,n6\t", "N6 ", ["train", "model=yolo11n+mhsa@P5+simam@N4,N6"]),
    ("train data=tin\t", "tiny.yaml ", ["train", "data=tiny.yaml"]),
    ("train data=two\t", ".yaml ", ["train", "data=two words (1).yaml"]),
    ("study stat\t", "us ", ["study", "status"]),
    ("graft yolo11n.pt mhsa@P5 --overw\t", "--overwrite ", ["graft", "yolo11n.pt", "mhsa@P5", "--overwrite"]),
]  # fmt: skip
"""What is typed, what shows that it was completed, and the words that the command gets."""


def complete_and_run(terminal: Terminal) -> None:
    """Type every line, wait for its completion, and run it."""
    for line, shown, words in TYPED:
        terminal.type(f"attngraft {line}")
        terminal.read(shown)
        terminal.type("X\n")
        found = terminal.read("]\n")
        words = [*words[:-1], f"{words[-1]}X"] if not shown.endswith(" ") else [*words, "X"]
        assert "".join(f"[{word}]" for word in words) in found


def test_bash_completes_what_is_typed(command: dict[str, str]) -> None:
    file = script("bash", command)
    setup = f"source {file}"
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], command, setup)
    try:
        complete_and_run(terminal)
    finally:
        terminal.close()


def test_zsh_completes_what_is_typed(command: dict[str, str]) -> None:
    file = script("zsh", command)
    setup = f"unsetopt zle_bracketed_paste; autoload -Uz compinit && compinit -u -D; source {file}"
    terminal = Terminal(["zsh", "-f", "-i"], command, setup)
    try:
        complete_and_run(terminal)
    finally:
        terminal.close()


def test_fish_completes_what_is_typed(command: dict[str, str]) -> None:
    file = script("fish", command)
    for line, _, words in TYPED:
        asked = f"source {file}; complete --do-complete 'attngraft {line.strip()}'"
        found = subprocess.run(["fish", "-N", "-c", asked], env=command, capture_output=True, text=True, check=True)
        values = [value.partition("\t")[0] for value in found.stdout.splitlines()]
        assert words[-1] in values, found


@pytest.mark.parametrize(
    ("line", "breaks", "answer"),
    [
        ("attngraft train model=yolo11n+mhs", "=:@", ["yolo11n+mhsa"]),
        ("attngraft train model=yolo11n+mhs", "", ["model=yolo11n+mhsa"]),
        ("attngraft train model=yolo11n+se@N6", "=:@", ["@N6"]),
        ("attngraft train 'model=yolo11n+eca(k", "=:@", ["model=yolo11n+eca(kernel_size="]),
        ("attngraft train model='yolo11n+eca(k", "=:@", ["yolo11n+eca(kernel_size="]),
        ("FOO=1 attngraft expo", "=:@", ["export"]),
        ("attngraft train data=tw", "=:@", [r"two\ words\ \(1\).yaml"]),
        (r"attngraft train data=two\ w", "=:@", [r"two\ words\ \(1\).yaml"]),
        ('attngraft train "data=tw', "=:@", ["data=two words (1).yaml"]),
        ("attngraft study resu", "=:@", ["resume", "resume="]),
    ],
)
def test_bash_is_told_the_part_that_it_replaces(
    command: dict[str, str], line: str, breaks: str, answer: list[str]
) -> None:
    asked = {"_ATTNGRAFT_COMPLETE": "bash_complete", "ATTNGRAFT_LINE": line, "ATTNGRAFT_BREAKS": breaks}
    found = subprocess.run(["attngraft"], env={**command, **asked}, capture_output=True, text=True, check=True)
    assert [row.partition(",")[2] for row in found.stdout.splitlines()] == answer
