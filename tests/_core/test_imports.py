"""Modules found, named and looked at without running them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attngraft._core.errors import OptionError
from attngraft._core.imports import has_attribute, import_file, import_named, module_name


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path whose every module leaves a trace when it runs."""
    home = tmp_path / "traced_package"
    (home / "inner").mkdir(parents=True)
    trace = f"from pathlib import Path; Path({str(tmp_path / 'ran')!r}).touch()\n"
    (home / "__init__.py").write_text(trace)
    (home / "inner" / "__init__.py").write_text(trace)
    (home / "inner" / "deep.py").write_text(trace + "class Here: ...\n")
    (home / "star.py").write_text(trace + "from os import *\n")
    monkeypatch.syspath_prepend(tmp_path)
    return home


def test_nothing_runs_to_tell_what_is_there(package: Path) -> None:
    assert has_attribute("traced_package.inner.deep", "Here")
    assert not has_attribute("traced_package.inner.deep", "Gone")
    assert has_attribute("traced_package.star", "sep")
    for module in ("traced_package.gone", "traced_package.inner.deep.deeper", "gone_altogether", "", "a..b"):
        assert not has_attribute(module, "Here")
    assert not (package.parent / "ran").exists()


def test_what_is_loaded_is_asked() -> None:
    assert has_attribute("os.path", "join")
    assert not has_attribute("os.path", "joined")
    assert has_attribute("builtins", "getattr")


def test_a_compiled_module_is_believed() -> None:
    code = "from attngraft._core.imports import has_attribute; print(has_attribute('_curses', 'initscr'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["my gate.py", "gate-2.py", "2d.py", "注意力.py", "it's.py", "a%b#c.py"])
def test_a_file_of_any_name_is_imported(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder 'with' ünïcode"
    folder.mkdir()
    (folder / name).write_text("VALUE = 3\n")
    module = import_file(folder / name)
    monkeypatch.delitem(sys.modules, module.__name__)
    assert module.VALUE == 3
    assert module.__name__ == module_name(Path(name))


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("")
    with pytest.raises(OptionError, match="as 'json': a module of that name is loaded already; rename the"):
        import_file(tmp_path / "json.py")


def test_an_installed_module_is_named(package: Path) -> None:
    assert import_named("traced_package.inner.deep").Here
    with pytest.raises(OptionError, match="gone_altogether is neither a Python file nor an installed module"):
        import_named("gone_altogether")
    (package / "broken.py").write_text("1 / 0")
    with pytest.raises(OptionError, match=r"traced_package\.broken cannot be imported: ZeroDivisionError"):
        import_named("traced_package.broken")
    for name in [name for name in sys.modules if name.startswith("traced_package")]:
        del sys.modules[name]
