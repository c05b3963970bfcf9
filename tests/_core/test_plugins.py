"""A mechanism in a user's own file: found by name, by workers, and by whoever opens a checkpoint."""

from __future__ import annotations

import copy
import copyreg
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import attngraft
from attngraft._core import plugins
from attngraft._core.errors import CheckpointError, OptionError, RegistrationError
from attngraft._core.registry import mechanism, names, unregister
from tests.hostkit import TRAIN

Fresh = Callable[..., str]

MINE = """
import attngraft
from torch import nn

class Inner(nn.Linear):
    pass

@attngraft.register(role="gate")
class HalfGate(nn.Module):
    def __init__(self, channels, *, amount=0.5):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.inner = Inner(2, 2)
        self.amount = amount

    def forward(self, x):
        return x * (self.conv(x).sigmoid() + self.inner.weight.sum() * 0) * self.amount
"""
RECIPE = "attngraft-micro.yaml+half_gate(amount=0.25)@P3"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin that this process does not know yet, and forgets afterwards."""
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    file = tmp_path / "plugins" / "mine_of_a_test.py"
    file.parent.mkdir()
    file.write_text(MINE)
    yield file
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    module = sys.modules.pop(file.stem, None)
    if module is not None:
        copyreg.dispatch_table.pop(module.HalfGate, None)
        unregister("half_gate")


def test_a_plugin_is_imported_announced_and_looked_up(mine: Path) -> None:
    module = attngraft.load_plugin(mine)
    assert mechanism("HalfGate").cls is module.HalfGate
    assert os.environ[plugins.VARIABLE] == str(mine)
    attngraft.load_plugin(mine)
    assert os.environ[plugins.VARIABLE] == str(mine)
    assert "half_gate" in names()


def test_the_environment_is_enough_for_another_process(mine: Path, fresh: Fresh) -> None:
    code = "import attngraft; print(attngraft.info('half_gate').cls.__module__)"
    assert fresh(code, **{plugins.VARIABLE: str(mine)}).strip() == "mine_of_a_test"


def test_instances_copy_and_pickle_with_their_file(mine: Path) -> None:
    cls = attngraft.load_plugin(mine).HalfGate
    module = cls(4, amount=2.0)
    x = torch.randn(1, 4, 3, 3)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(twin) is cls
        assert torch.equal(twin(x), module(x))
    assert str(mine).encode() in pickle.dumps(module)


def test_a_class_of_a_package_or_a_script_is_pickled_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "registered", [])
    plugins.remember(nn.Linear)
    assert nn.Linear not in copyreg.dispatch_table


def test_a_name_is_taken_once(mine: Path) -> None:
    attngraft.load_plugin(mine)
    other = mine.with_name("another_of_a_test.py")
    other.write_text(MINE)
    with pytest.raises(RegistrationError, match=r"'half_gate' is taken by mine_of_a_test.HalfGate; give another_of"):
        attngraft.load_plugin(other)
    assert other.stem not in sys.modules
    zoo = mine.with_name("third_of_a_test.py")
    zoo.write_text(MINE.replace("HalfGate", "ECA"))
    with pytest.raises(RegistrationError, match=r"'eca' is taken by attngraft.*ECA; give third_of_a_test.ECA another"):
        attngraft.load_plugin(zoo)


def test_a_class_name_is_taken_once_too(mine: Path) -> None:
    mine.write_text(MINE.replace("HalfGate", "MHSA").replace('role="gate"', 'name="half_gate"'))
    with pytest.raises(
        RegistrationError, match=r"class name 'MHSA'.* is taken by attngraft.*; rename the class mine_of"
    ):
        attngraft.load_plugin(mine)
    mine.write_text(MINE.replace("HalfGate", "eca").replace('role="gate"', 'name="half_gate"'))
    with pytest.raises(RegistrationError, match=r"class name 'eca'.* is taken by attngraft.*ECA"):
        attngraft.load_plugin(mine)
    assert mechanism("mhsa").cls is mechanism("MHSA").cls
    assert "half_gate" not in names()


def test_a_plugin_without_a_mechanism_is_refused_until_it_has_one(mine: Path) -> None:
    mine.write_text(MINE.replace("@attngraft.register", "# "))
    cls = plugins.import_file(mine).HalfGate  # as FILE.py:CLASS it is welcome
    assert not plugins.is_remembered(cls)
    with pytest.raises(RegistrationError, match=r"mine_of_a_test.py has no mechanism in it; put @attngraft.register"):
        attngraft.load_plugin(mine)
    assert plugins.VARIABLE not in os.environ
    plugins.announce(mine)
    with pytest.raises(RegistrationError, match="has no mechanism in it"):
        names()
    mine.write_text(MINE)
    assert "half_gate" in names()


def test_a_plugin_may_bring_mechanisms_of_its_neighbours(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = attngraft.load_plugin(mine)
    other = mine.with_name("importing_of_a_test.py")
    other.write_text(f"from {mine.stem} import HalfGate\n")
    monkeypatch.delitem(sys.modules, other.stem, raising=False)
    assert attngraft.load_plugin(other).HalfGate is module.HalfGate
    monkeypatch.delitem(sys.modules, other.stem)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", None, "expected a Python file, got .*none.py; check the path"),
        ("bad_of_a_test.py", "1 / 0", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_is_said(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text:
        (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match=message):
        attngraft.load_plugin(tmp_path / name)
    assert name not in os.environ.get(plugins.VARIABLE, "")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attngraft", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_command_trains_it_and_the_stock_host_opens_the_checkpoint(
    mine: Path, tiny_data: Callable[[str], str], fresh: Fresh
) -> None:
    options = [f"{key}={value}" for key, value in TRAIN.items()]
    place = [f"data={tiny_data('detect')}", f"project={Path.cwd()}", "name=run"]
    ran = command("--plugin", str(mine), "train", f"model={RECIPE}", *options, *place)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    best = Path("run/weights/best.pt")
    open_it = f"from ultralytics import YOLO; print(YOLO({str(best)!r}).model.model[3].grafts[0].mechanism.amount)"
    assert fresh(open_it).strip() == "0.25"

    moved = mine.rename(mine.parent.parent / mine.name)
    with pytest.raises(CheckpointError, match=rf"plugin {mine.name}, which is no longer at {mine}; give the file with"):
        attngraft.YOLO(best)
    said = command("val", f"model={best}", f"data={tiny_data('detect')}", "imgsz=64")
    assert said.returncode == 1
    assert "attngraft --plugin mine_of_a_test.py" in said.stderr
    assert fresh(open_it, **{plugins.VARIABLE: str(moved)}).strip() == "0.25"


def test_a_worker_of_multi_gpu_training_has_it(mine: Path, tiny_data: Callable[[str], str], fresh: Fresh) -> None:
    """The file that the host writes for its workers, run in a process to which nobody named the plugin."""
    code = f"""
import attngraft
attngraft.load_plugin({str(mine)!r})
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.dist import generate_ddp_file
model = attngraft.YOLO({RECIPE!r})
ours = dict(data={tiny_data("detect")!r}, project={str(Path.cwd())!r}, name="worker", **{TRAIN!r})
trainer = DetectionTrainer(overrides={{**model.overrides, **ours}})
trainer.model = trainer.get_model(weights=model.model, cfg=model.model.yaml)
print(generate_ddp_file(trainer))
"""
    worker = Path(fresh(code).strip().splitlines()[-1])
    fresh(f"import runpy; runpy.run_path({str(worker)!r}, run_name='__main__')")
    (last,) = Path().rglob("worker*/weights/last.pt")
    assert [Path(path) for path in plugins.in_checkpoint(last)] == [mine]


def test_the_example_is_healthy() -> None:
    from attngraft.doctor import MODULE_CHECKS, diagnose, subject

    example = Path(__file__).parents[2] / "examples/own_mechanism.py"
    target = f"{example}:StripGate"
    try:
        diagnosis = diagnose(target, subject(target), MODULE_CHECKS)
    finally:
        if sys.modules.pop(example.stem, None):
            unregister("strip_gate")
    assert {f.status for f in diagnosis.findings} <= {"pass", "skip"}, str(diagnosis)
