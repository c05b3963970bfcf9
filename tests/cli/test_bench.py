"""`attngraft bench`: tables, files and mistakes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

import attngraft
from attngraft._core.registry import register, unregister
from attngraft.cli import main
from attngraft.cli.bench import _print
from tests.bench.kit import GRAFTED, MICRO


@register(name="unexportable_for_a_test")
class Unexportable(torch.nn.Identity):
    """Runs in PyTorch, and has no operator in ONNX."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x).real + x


unregister("unexportable_for_a_test")


def test_one_model_that_a_backend_does_not_take_leaves_the_others() -> None:
    pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    register(name="unexportable_for_a_test")(Unexportable)
    bad = f"{MICRO}+unexportable_for_a_test@P3"
    try:
        line = ["bench", bad, MICRO, f"{MICRO}+eca@P3", "imgsz=64", "rounds=2", "backends=eager,onnxruntime"]
        result = CliRunner().invoke(main, line)
    finally:
        unregister("unexportable_for_a_test")
    assert result.exit_code == 0, result.output
    stored = json.loads(Path("attngraft-bench/bench.json").read_text())
    assert [m["name"] for m in stored["measurements"]] == [bad, MICRO, f"{MICRO}+eca@P3", MICRO, f"{MICRO}+eca@P3"]
    assert list(stored["absent"]["onnxruntime"]) == [bad]
    assert stored["measurements"][3]["latency"]["ratio"] == 1
    assert f"onnxruntime, {bad}: not measured: UnsupportedOperatorError: " in result.output
    assert f"onnxruntime: ratios are against {MICRO}, the first that it takes" in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="TensorRT may be here")
def test_a_run_without_figures_fails_and_writes_nothing() -> None:
    result = CliRunner().invoke(main, ["bench", MICRO, "imgsz=64", "backends=tensorrt"])
    assert result.exit_code == 1
    assert "tensorrt: not measured: TensorRT needs a CUDA device" in result.output
    assert "nothing was measured" in result.output
    assert not list(Path.cwd().glob("attngraft-bench*"))


def test_the_tables_are_whole_at_80_columns() -> None:
    found = attngraft.bench([MICRO, GRAFTED], imgsz=64, batch=2, rounds=3, train=True, backends=["eager"])
    stream = io.StringIO()
    _print(Console(file=stream, width=80), found)
    printed = stream.getvalue()
    assert "…" not in printed
    for m in found.measurements:
        for timing in filter(None, (m.latency, m.train_latency)):
            assert f"{timing.ratio_low:.2f}-{timing.ratio_high:.2f}" in printed
            assert f" {timing.p50_ms:.1f} " in printed
    assert max(map(len, printed.split("1 thread(s)")[0].splitlines())) <= 80
    assert "training step, 64 x 64, batch 2, on " in printed
    assert f"{GRAFTED}: attention by the kernel tiled: a small map: " in printed


def test_the_command_prints_and_writes(tmp_path: Path, tiny_data: Callable[[str], str]) -> None:
    Path("more.txt").write_text(f"# a list\n{MICRO}+eca@P3\n")
    line = ["bench", f"model={MICRO}", GRAFTED, "more.txt", "imgsz=64", "rounds=2", "backends=eager"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    stored = json.loads(Path("attngraft-bench/bench.json").read_text())
    assert [m["name"] for m in stored["measurements"]] == [MICRO, GRAFTED, f"{MICRO}+eca@P3"]
    assert "Ratios are against the first" in result.output
    CliRunner().invoke(main, line)
    assert Path("attngraft-bench-2/bench.json").is_file()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("imgsz=64", "say what to measure"),
        (f"model={MICRO} sizes=3", "no key 'sizes'"),
        (f"model={MICRO} backends=eagre", "no backend 'eagre'"),
    ],
)
def test_mistakes_on_the_command_line_are_one_sentence(line: str, message: str) -> None:
    result = CliRunner().invoke(main, ["bench", *line.split()])
    assert result.exit_code == 2
    assert message in result.output
