"""Verbs that need not be said, options that may stand anywhere, and what every command answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from attngraft.cli import main
from attngraft.cli.groups import Commands, Verbs, said_once
from attngraft.cli.study import RUN_KEYS
from attngraft.study import Study

TINY = {"base": "attngraft-micro.yaml", "arms": "se@P3", "controls": "stock", "seeds": 1, "epochs": 1, "imgsz": 64}
QUICK = {**TINY, "batch": 4, "device": "cpu", "workers": 0}


@pytest.fixture
def run() -> Callable[[str], Result]:
    """Run the command in this process."""
    return lambda line: CliRunner().invoke(main, line.split())


@pytest.fixture
def verbs() -> click.Group:
    """Return a group of two verbs that print what they are given."""

    @click.group(cls=Commands)
    def root() -> None:
        """Everything."""

    @click.group(cls=Verbs)
    def group() -> None:
        """Two verbs."""

    for name in ("run", "resume"):

        @group.command(name)
        @click.argument("words", nargs=-1, required=True)
        @click.option("--dry-run", is_flag=True)
        @click.option("-o", "--output")
        def verb(words: tuple[str, ...], dry_run: bool, output: str | None, name: str = name) -> None:
            """Print what came."""
            click.echo(f"{name} {' '.join(words)} {dry_run} {output}")

    root.add_command(group)
    return root


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("run plan.yaml", "run plan.yaml False None"),
        ("plan.yaml a=1", "run plan.yaml a=1 False None"),
        ("a=1 --dry-run", "run a=1 True None"),
        ("--dry-run a=1", "run a=1 True None"),
        ("resume folder --dry-run", "resume folder True None"),
        ("--dry-run resume folder", "resume folder True None"),
        ("-o resume folder", "run folder False resume"),
        ("-o there resume folder", "resume folder False there"),
        ("folder resume", "run folder resume False None"),
        ("run resume", "run resume False None"),
    ],
)
def test_the_first_verb_need_not_be_said(verbs: click.Group, line: str, printed: str) -> None:
    result = CliRunner().invoke(verbs, ["group", *line.split()])
    assert result.output == f"{printed}\n"


def test_help_of_a_group_lists_its_verbs_and_each_has_its_own(run: Callable[[str], Result]) -> None:
    assert set(click.Context(main).command.commands["study"].commands) >= {
        "run",
        "status",
        "resume",
        "report",
        "search",
    }
    listed = run("study --help").output
    for verb in ("run", "status", "resume", "report", "search"):
        assert f"\n  {verb} " in listed
        assert f"study {verb} " in run(f"study {verb} --help").output
    assert "--dry-run" in run("study search --help").output


def test_every_command_takes_a_plugin_and_answers_help(run: Callable[[str], Result]) -> None:
    def walk(group: click.Group, before: str = "") -> list[str]:
        found: list[str] = []
        for name, command in group.commands.items():
            path = f"{before} {name}".strip()
            found += walk(command, path) if isinstance(command, click.Group) else [path]
        return found

    for path in walk(main):
        shown = run(f"{path} --help")
        assert shown.exit_code == 0
        assert "--plugin FILE.py" in shown.output, path
        assert "\\b" not in shown.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("study resme studies/x", "did you mean resume?"),
        ("study resume", "say which study, as in: attngraft study resume runs/study/plan"),
        ("study report a=b", "say which study, as in: attngraft study report runs/study/plan"),
        ("study status a b", "Got unexpected extra argument (b)"),
        ("study", "Missing argument"),
        ("study resume x epochs=3", "x holds no study"),
        ("study output=a folder=b data=x arms=y", "study run takes one of output and folder, got both"),
        ("fit predict model=a source=b out=c output=d", "fit predict takes one of output and out, got both"),
        ("graft yolo11n.yaml se@P5 outpt=x.pt", "graft has no key 'outpt'; did you mean output?"),
        ("train model=yolo11n.yaml output=a project=b", "train takes output, or project and name"),
    ],
)
def test_a_mistake_is_one_sentence(run: Callable[[str], Result], line: str, message: str) -> None:
    result = run(line)
    assert (result.exit_code, message in result.output) == (2, True), result.output


def test_a_dry_run_of_resume_and_of_search_trains_nothing(
    tiny_data: Callable[[str], str], run: Callable[[str], Result]
) -> None:
    data = tiny_data("detect")
    study = Study(folder="kept", data=data, **{key: value for key, value in QUICK.items() if key != "workers"})
    study.frozen_plan().write(study.store.folder)
    resumed = run("study resume kept --dry-run")
    assert resumed.exit_code == 0, resumed.output
    assert "Nothing was run or written." in resumed.output
    keys = " ".join(f"{key}={value}" for key, value in TINY.items() if key not in ("arms", "seeds"))
    changed = run("study resume kept epochs=3")
    assert changed.exit_code == 2
    assert f"resume takes {', '.join(RUN_KEYS)}, got epochs; a changed plan is a new study" in changed.output
    searched = run(f"study search data={data} {keys} mechanisms=se,eca places=P3 winners=1 folder=found --dry-run")
    assert searched.exit_code == 0, searched.output
    assert "rung 1: 2 candidates, 1 epochs each" in searched.output
    assert {path.name for path in Path().rglob("*") if path.is_file()} <= {"plan.yaml", "plan.schema.json"}


def test_how_many_runs_go_on_at_once_has_one_name(
    tiny_data: Callable[[str], str], run: Callable[[str], Result]
) -> None:
    keys = " ".join(f"{key}={value}" for key, value in TINY.items())
    words = f"study data={tiny_data('detect')} {keys} device=cpu batch=4"
    result = run(f"{words} parallel=2 --dry-run")
    assert result.exit_code == 0, result.output
    assert "2 at once" in result.output
    refused = run(f"{words} workers=0 --dry-run")
    assert refused.exit_code != 0
    assert "parallel= says how many runs go on at once; loader processes of Ultralytics are train.workers=" in (
        refused.output
    )


def test_an_output_is_named_in_one_way(run: Callable[[str], Result]) -> None:
    for index, words in enumerate(("-o a0.pt", "--output a1.pt", "--out a2.pt", "output=a3.pt", "out=a4.pt")):
        result = run(f"graft attngraft-micro.yaml se@P3 {words}")
        assert result.exit_code == 0, result.output
        assert Path(f"a{index}.pt").is_file()


def test_the_schema_of_a_plan_is_printed(run: Callable[[str], Result]) -> None:
    assert json.loads(run("study --schema").stdout) == json.loads(run("study schema plan").stdout)


def test_a_notice_of_ours_is_shown_once_a_command(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("ultralytics")
    with caplog.at_level(logging.INFO, "ultralytics"):
        for _ in range(2):
            with said_once():
                for line in ("attngraft: se after 3", "attngraft: se after 3", "Epoch", "Epoch"):
                    logger.info(line)
    assert caplog.messages == ["attngraft: se after 3", "Epoch", "Epoch"] * 2
