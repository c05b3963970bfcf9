"""Mechanisms of an installed package: really installed by pip, found by name, by entry point and in checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

META = "Metadata-Version: 2.1\nName: gates-of-a-test\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
GATE = """
import attngraft
from torch import nn

class Inner(nn.Linear):
    pass

@attngraft.register(role="gate")
class PackagedGate(nn.Module):
    def __init__(self, channels, *, amount=0.5):
        super().__init__()
        self.inner = Inner(2, 2, bias=False)
        self.amount = amount

    def forward(self, x):
        return x * (self.inner.weight.sum().sigmoid() * self.amount)
"""


def install(tmp_path: Path, module: str = "") -> Path:
    """Install a package by pip into a folder of its own and return the folder.

    Args:
        tmp_path: Where to.
        module: What its entry point names; none without.
    """
    info = "gates_of_a_test-1.0.dist-info"
    files = {"gates_of_a_test/__init__.py": "", "gates_of_a_test/attention.py": GATE}
    files |= {f"{info}/METADATA": META, f"{info}/WHEEL": WHEEL}
    if module:
        files[f"{info}/entry_points.txt"] = f"[attngraft.mechanisms]\ngates = {module}\n"
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    wheel, site = tmp_path / "gates_of_a_test-1.0-py3-none-any.whl", tmp_path / "site"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(command, check=True, capture_output=True)
    return site


def attngraft_command(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "attngraft", *words], capture_output=True, text=True, check=False, env=environment
    )


def test_a_module_is_a_plugin_by_its_name(tmp_path: Path, fresh: Callable[..., str]) -> None:
    site = install(tmp_path)
    shown = attngraft_command(site, "--plugin", "gates_of_a_test.attention", "show", "packaged_gate")
    assert shown.returncode == 0, shown.stderr
    assert "amount" in shown.stdout
    recipe = "attngraft-micro.yaml+packaged_gate(amount=0.25)@P3"
    wrote = attngraft_command(
        site, "graft", *recipe.split("+"), "-o", "out.pt", "--plugin", "gates_of_a_test.attention"
    )
    assert wrote.returncode == 0, wrote.stderr
    stock = "from ultralytics import YOLO; print(YOLO('out.pt').model.model[3].grafts[0].mechanism.amount)"
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    assert fresh(stock, PYTHONPATH=path).strip() == "0.25"  # by its import name, with no plugin given


def test_the_doctor_takes_a_class_of_a_module(tmp_path: Path) -> None:
    site = install(tmp_path)
    said = attngraft_command(site, "doctor", "gates_of_a_test.attention:PackagedGate", "channels=8")
    assert said.returncode == 0, said.stdout + said.stderr
    gone = attngraft_command(site, "doctor", "gates_of_a_test.attention:Packaged")
    assert (gone.returncode, "did you mean PackagedGate?" in gone.stderr) == (2, True)


def test_an_entry_point_needs_no_plugin(tmp_path: Path) -> None:
    site = install(tmp_path, "gates_of_a_test.attention")
    said = attngraft_command(site, "list", "packaged*")
    assert said.returncode == 0, said.stderr
    assert "packaged_gate" in said.stdout


def test_a_broken_package_is_named_and_left_out(tmp_path: Path) -> None:
    site = install(tmp_path, "gates_of_a_test.gone")
    said = attngraft_command(site, "list", "eca")
    assert said.returncode == 0
    assert "eca" in said.stdout
    assert said.stderr.count("the mechanisms of the package gates-of-a-test are left out: gates_of_a_test.gone") == 1


def test_what_is_neither_file_nor_module_is_said(tmp_path: Path) -> None:
    said = attngraft_command(tmp_path, "--plugin", "no_such.module", "list")
    assert said.returncode == 2
    assert "a plugin is a Python file or an installed module" in said.stderr
