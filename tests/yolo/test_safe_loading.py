"""A checkpoint is a program: what it may run, under ULTRALYTICS_SAFE_LOAD=1 and without, in real processes."""

from __future__ import annotations

import copyreg
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import attngraft
from attngraft._core import plugins
from attngraft._core.registry import unregister

Fresh = Callable[..., str]

GATE = """
import attngraft
from torch import nn

class Inner(nn.Linear):
    pass

@attngraft.register(role="gate")
class StrangerGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = Inner(2, 2)

    def forward(self, x):
        return x * (self.inner.weight.sum() * 0 + 0.5)
"""
RAN = "from pathlib import Path; Path('ran').touch()\n"
"""What a file says that should not have been run."""

COMMANDS = [
    ["predict", "model=best.pt", "source=image.png", "imgsz=32"],
    ["val", "model=best.pt", "data={data}", "imgsz=32"],
    ["export", "model=best.pt", "format=torchscript", "imgsz=32"],
    ["graft", "best.pt", "eca@P3", "-o", "out.pt"],
    ["study", "data={data}", "base=best.pt", "arms=eca@P3", "seeds=3", "epochs=1", "imgsz=32", "--dry-run"],
    ["doctor", "model=best.pt", "imgsz=32"],
    ["bench", "model=best.pt", "imgsz=32"],
]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    file = tmp_path / "plugins" / "gate_of_a_stranger.py"
    file.write_text(GATE)
    return file


@pytest.fixture
def remembers(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that remembers a plugin, whose file now says that it ran."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    gate = attngraft.load_plugin(plugin).StrangerGate
    attngraft.YOLO("attngraft-micro.yaml+stranger_gate@P3").save("best.pt")
    unregister("stranger_gate")
    copyreg.dispatch_table.pop(gate)
    del sys.modules[plugin.stem]
    monkeypatch.setenv(plugins.VARIABLE, "")
    plugin.write_text(RAN + GATE)
    return Path("best.pt")


@pytest.fixture
def names_a_module(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with a class of a module that lies in the working folder, and says that it ran."""
    lying = ModuleType("lying_here")
    exec("class Note: ...", vars(lying))
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "lying_here", lying)
        model = attngraft.YOLO("attngraft-micro.yaml")
        model.model.note = lying.Note()
        model.save("best.pt")
    Path("lying_here.py").write_text(RAN + "class Note: ...\n")
    return Path("best.pt")


def run_all(fresh: Fresh, data: str, **environment: str) -> list[str]:
    """Run every command that opens a checkpoint in one interpreter; return how each ended."""
    code = f"""
        import contextlib, io, numpy, sys
        from PIL import Image
        sys.path.insert(0, "")  # as python -m has it
        Image.fromarray(numpy.zeros((32, 32, 3), "uint8")).save("image.png")
        from attngraft.cli import main
        for words in {[[word.format(data=data) for word in words] for words in COMMANDS]!r}:
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said):
                    main(words)
            except SystemExit as end:
                print("ENDED", words[0], end.code, said.getvalue().replace("\\n", " "))
    """
    said = fresh(textwrap.dedent(code), **environment)
    return [line.removeprefix("ENDED ") for line in said.splitlines() if line.startswith("ENDED")]


def refused(ended: list[str], why: str) -> None:
    for words, line in zip(COMMANDS, ended, strict=True):
        assert line.startswith(f"{words[0]} 1 ")
        assert why in line or words[0] == "doctor"  # which prints a table of what passes and what does not


class TestSafe:
    def test_no_command_runs_a_file_that_a_checkpoint_names(
        self, remembers: Path, fresh: Fresh, tiny_data: Callable[[str], str]
    ) -> None:
        ended = run_all(fresh, tiny_data("detect"), ULTRALYTICS_SAFE_LOAD="1")
        refused(ended, "safe loading runs no file that a checkpoint names; read that file")
        assert not Path("ran").exists()

    def test_no_command_imports_a_module_that_a_checkpoint_names(
        self, names_a_module: Path, fresh: Fresh, tiny_data: Callable[[str], str]
    ) -> None:
        ended = run_all(fresh, tiny_data("detect"), ULTRALYTICS_SAFE_LOAD="1")
        refused(ended, "outside the supported Ultralytics checkpoint format")
        assert not Path("ran").exists()

    def test_a_plugin_that_the_user_gave_is_taken(self, remembers: Path, plugin: Path, fresh: Fresh) -> None:
        code = "import attngraft; print(type(attngraft.YOLO('best.pt').model.model[3].grafts[0].mechanism).__name__)"
        assert fresh(code, ULTRALYTICS_SAFE_LOAD="1", ATTNGRAFT_PLUGINS=str(plugin)).strip() == "StrangerGate"

    def test_our_own_checkpoints_load_and_train(self, fresh: Fresh, tiny_data: Callable[[str], str]) -> None:
        attngraft.YOLO("attngraft-micro.yaml+mhsa@P3+se@P3").save("own.pt")
        code = f"""
            import attngraft
            options = dict(epochs=1, imgsz=32, workers=0, plots=False, project={str(Path.cwd())!r}, name="run")
            attngraft.YOLO("own.pt").train(data={tiny_data("detect")!r}, **options)
        """
        fresh(textwrap.dedent(code), ULTRALYTICS_SAFE_LOAD="1")
        assert list(Path().rglob("weights/last.pt"))

    def test_torchs_own_restricted_loading_runs_nothing_either(self, remembers: Path, fresh: Fresh) -> None:
        code = """
            import attngraft.yolo, torch
            try:
                torch.load("best.pt", weights_only=True)
            except Exception as error:
                print("refused", str(error)[:80])
        """
        assert fresh(textwrap.dedent(code)).startswith("refused")
        assert not Path("ran").exists()


class TestUnsafe:
    def test_the_recorded_file_is_run_and_one_line_says_so(self, remembers: Path, plugin: Path, fresh: Fresh) -> None:
        code = """
            import contextlib, io, attngraft
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                attngraft.YOLO("best.pt")
            print(said.getvalue())
        """
        said = fresh(textwrap.dedent(code))
        assert said.count(f"attngraft: running {plugin}, which this checkpoint names") == 1
        assert Path("ran").exists()

    def test_a_file_of_that_name_elsewhere_is_not(self, remembers: Path, plugin: Path, fresh: Fresh) -> None:
        plugin.unlink()
        Path(plugin.name).write_text(RAN + GATE)  # in the working folder
        code = "import attngraft\ntry: attngraft.YOLO('best.pt')\nexcept ValueError as error: print(error)"
        assert "which is no longer at" in fresh(code)
        assert not Path("ran").exists()

    def test_the_inspection_imports_nothing_that_a_checkpoint_names(self, names_a_module: Path, fresh: Fresh) -> None:
        code = """
            import sys
            from pathlib import Path
            sys.path.insert(0, "")
            from attngraft.yolo.checkpoint import inspect_file
            try:
                inspect_file(Path("best.pt"))
                Path("lying_here.py").write_text("")
                inspect_file(Path("best.pt"))
            except ValueError as error:
                print(error)
        """
        said = fresh(textwrap.dedent(code))
        assert "holds lying_here.Note, which is not installed here" in said
        assert not Path("ran").exists()
