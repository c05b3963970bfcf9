"""The layers of the house: what an import must not pull in, seen from a fresh interpreter, and who may import whom."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from importlinter.api import read_configuration

import attngraft

SOURCE = Path(attngraft.__file__).parents[1]
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
HEAVY = {"ultralytics", "torchvision", "click", "rich", "cv2", "matplotlib", "scipy", "sympy"}


def loaded_after(*statements: str) -> list[set[str]]:
    """Run statements in a new interpreter and return the third-party packages that are loaded after each of them."""
    listing = "import sys; print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    result = run(sys.executable, "-c", "\n".join(f"{statement}\n{listing}" for statement in statements))
    assert result.returncode == 0, result.stderr
    return [set(line.split()) for line in result.stdout.splitlines()]


def run(*command: str, source: Path = SOURCE) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True, check=False)


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    command = str(Path(sys.executable).with_name("lint-imports"))
    return run(command, "--no-cache", "--config", str(config), source=config.parent / "src")


def test_the_zoo_loads_torch_and_nothing_more() -> None:
    torch, zoo = loaded_after("import torch", "import attngraft.attention")
    assert not zoo & HEAVY
    assert zoo - torch == {"attngraft", "lazy_loader", "wrapt"}  # what ``import attngraft`` itself stands on


def test_the_detector_sees_what_is_loaded() -> None:
    """Were it blind, the test above would always pass."""
    nothing, hidden = loaded_after("pass", "def f():\n    import click.core\nf()")
    assert hidden - nothing == {"click"}


def layers() -> list[list[str]]:
    """Return the rooms of each floor as pyproject.toml has them; those in parentheses are still to come."""
    contracts = read_configuration(str(PYPROJECT))["contracts_options"]
    floors = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.strip(" ()") for room in floor.split("|")] for floor in floors]


def test_the_house_keeps_its_contracts() -> None:
    result = lint_imports(PYPROJECT)
    assert result.returncode == 0, result.stdout
    assert "Contracts: 2 kept, 0 broken." in result.stdout


def test_the_drawing_for_contributors_is_the_contract() -> None:
    drawing = (PYPROJECT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The house")[2]
    assert [floor.split() for floor in drawing.split("```")[1].strip().splitlines()] == layers()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Build an empty house with every room of the contract, and the contract in front of it."""
    shutil.copy(PYPROJECT, tmp_path)
    for room in ["", *(room for floor in layers() for room in floor)]:
        (tmp_path / "src/attngraft" / room).mkdir(parents=True, exist_ok=True)
        (tmp_path / "src/attngraft" / room / "__init__.py").touch()
    # The import that the contract lets pass has to be there, or the linter speaks of it.
    (tmp_path / "src/attngraft/yolo/_compat.py").write_text("import ultralytics")
    return tmp_path


def test_an_empty_house_keeps_the_contracts(house: Path) -> None:
    """Were it to break them, the tests below would always pass."""
    result = lint_imports(house / "pyproject.toml")
    assert result.returncode == 0, result.stdout


def test_the_linter_sees_every_arrow_upward_and_between_siblings(house: Path) -> None:
    forbidden = set()
    for level, floor in enumerate(layers()):
        for room in floor:
            others = {other for above in layers()[:level] for other in above} | set(floor) - {room}
            lines = [f"import attngraft.{other}" for other in sorted(others)]
            (house / "src/attngraft" / room / "wrong.py").write_text("\n".join(lines))
            forbidden |= {f"attngraft.{room} is not allowed to import attngraft.{other}:" for other in others}
    result = lint_imports(house / "pyproject.toml")
    assert result.returncode == 1
    assert forbidden <= set(result.stdout.splitlines())


def test_the_linter_sees_a_room_without_a_place(house: Path) -> None:
    (house / "src/attngraft/attic").mkdir()
    (house / "src/attngraft/attic/__init__.py").touch()
    result = lint_imports(house / "pyproject.toml")
    assert result.returncode == 1
    assert "attngraft.attic" in result.stdout


def test_the_linter_sees_ultralytics_outside_of_its_room(house: Path) -> None:
    rooms = ["", *(room for floor in layers() for room in floor if room != "yolo")]
    for room in rooms:
        (house / "src/attngraft" / room / "wrong.py").write_text("def late():\n    from ultralytics.nn import tasks")
    result = lint_imports(house / "pyproject.toml")
    assert result.returncode == 1
    for room in rooms:
        assert f"-   attngraft.{room}.wrong -> ultralytics".replace("..", ".") in result.stdout


def test_maps_load_torch_and_the_zoo_and_nothing_more() -> None:
    zoo, maps = loaded_after("import attngraft.attention", "import attngraft.maps")
    assert maps == zoo


def arrows(source: Path, package: str) -> dict[str, set[str]]:
    """Return which modules each module imports, as a process that runs imports them."""
    code = (
        "import grimp, json\n"
        f"graph = grimp.build_graph({package!r}, exclude_type_checking_imports=True, cache_dir=None)\n"
        "print(json.dumps({m: sorted(graph.find_modules_directly_imported_by(m)) for m in graph.modules}))"
    )
    result = run(sys.executable, "-c", code, source=source)
    assert result.returncode == 0, result.stderr
    return {module: set(imported) for module, imported in json.loads(result.stdout).items()}


def test_no_imports_go_in_a_circle() -> None:
    list(TopologicalSorter(arrows(SOURCE, "attngraft")).static_order())


def test_a_circle_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "round"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("def f():\n    import round.two\n")
    (package / "two.py").write_text("import round.one\n")
    with pytest.raises(CycleError):
        list(TopologicalSorter(arrows(tmp_path, "round")).static_order())
