"""The repository is laid out as CONTRIBUTING says, and leaves a checkout clean."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from attngraft.cli import main
from attngraft.study.home import HOME, home

ROOT = Path(__file__).parents[1]


def test_docs_hold_pages_only() -> None:
    kinds = {path.suffix for path in (ROOT / "docs").rglob("*") if path.is_file()}
    assert kinds <= {".md", ".html", ".png", ".svg", ".json"}


def test_a_finished_study_has_its_plan_its_records_and_its_report() -> None:
    finished = [path for path in (ROOT / "studies").iterdir() if path.is_dir() and (path / "plan.yaml").exists()]
    assert finished
    for folder in finished:
        assert {"plan.yaml", "records.jsonl", "report.md"} <= {path.name for path in folder.iterdir()}
    assert not list((ROOT / "studies").glob("*.yaml"))


def test_what_commands_write_by_default_is_ignored_by_git() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a checkout")
    shown = next(option for option in main.commands["demo"].params if option.name == "output")
    demo = re.search(r"\[default: (.*)\]", getattr(shown, "help", ""))
    assert demo is not None
    for path in (demo[1], HOME / "fruit", "runs/detect", "runs/fit"):
        assert not subprocess.run(["git", "check-ignore", "-q", str(path)], cwd=ROOT, check=False).returncode, path


def test_a_study_that_was_begun_in_the_old_home_goes_on_there() -> None:
    assert home("fruit") == Path("runs/study/fruit")
    Path("studies/fruit").mkdir(parents=True)
    assert home("fruit") == Path("runs/study/fruit")
    Path("studies/fruit/plan.yaml").touch()
    assert home("fruit") == Path("studies/fruit")
    Path("runs/study/fruit").mkdir(parents=True)
    assert home("fruit") == Path("runs/study/fruit")


def test_make_has_what_the_readme_and_ci_ask_for() -> None:
    targets = set(re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"setup", "format", "check", "test", "all", "demo", "bench", "docs"} <= targets
    for file in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", ".ci/run"):
        asked = set(re.findall(r"make (\w+)", (ROOT / file).read_text(encoding="utf-8")))
        assert {word for word in asked if word != "sure"} <= targets, file
    assert {"check", "test"} <= set(re.findall(r"make (\w+)", (ROOT / ".ci/run").read_text(encoding="utf-8")))
    assert re.search(r"^make test ", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


FIELDS = {"attributes", "id", "type", "validations"}
ATTRIBUTES = {
    "markdown": {"value"},
    "input": {"description", "label", "placeholder", "value"},
    "textarea": {"description", "label", "placeholder", "render", "value"},
    "dropdown": {"default", "description", "label", "multiple", "options"},
    "checkboxes": {"description", "label", "options"},
}
"""What GitHub's form schema lets a field and the attributes of its type say."""


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.name)
def test_github_can_show_an_issue_form(form: Path) -> None:
    """A comma in an unquoted flow mapping is valid YAML, ends the sentence and makes a key that GitHub refuses."""
    said = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name == "config.yml":
        assert set(said) <= {"blank_issues_enabled", "contact_links"}
        return
    assert (
        {"body", "description", "name"} <= set(said) <= {"assignees", "body", "description", "labels", "name", "title"}
    )
    names = [field["id"] for field in said["body"] if field["type"] != "markdown"]
    assert names
    assert len(names) == len(set(names))
    for field in said["body"]:
        kind, attributes = field["type"], field["attributes"]
        assert set(field) <= FIELDS
        assert set(attributes) <= ATTRIBUTES[kind]
        assert attributes["value" if kind == "markdown" else "label"].strip()
        assert set(field.get("validations", {})) <= {"required"}


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_says_when_and_what_it_runs(workflow: Path) -> None:
    said = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert True in said, "YAML 1.1 reads the key `on` as true"
    assert said["jobs"]
    for job in said["jobs"].values():
        assert job["runs-on"]
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_what_make_installs_can_be_had_with_the_oldest_python() -> None:
    """A pin of a release that has left Python 3.10 behind made `make demo` and `make test` fail there."""
    declared = re.search(r'^requires-python = ">=(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert declared is not None
    oldest = {**default_environment(), "python_version": declared[1], "python_full_version": f"{declared[1]}.0"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    checked = 0
    for pin in pins:
        try:
            installed = distribution(pin.name)
        except PackageNotFoundError:
            continue
        if not pin.specifier.contains(installed.version):
            continue
        checked += 1
        takes = SpecifierSet(installed.metadata["Requires-Python"] or "").contains(f"{declared[1]}.0")
        assert takes or (pin.marker is not None and not pin.marker.evaluate(oldest)), pin
    assert checked
