"""Figures, their schema, their picture and the command; nothing here asserts a time."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

import attngraft
from attngraft._core.errors import OptionError, OutputError, UnknownNameError
from attngraft.attention import MHSA
from attngraft.bench import BACKENDS, Bench, draw, schema
from attngraft.bench import backends as module
from attngraft.cli import main
from attngraft.cli.bench import _print
from attngraft.measure import flops, memory, parameters
from attngraft.yolo.training import TrainingLoss

MICRO = "attngraft-micro.yaml"
GRAFTED = f"{MICRO}+mhsa(init=paper)@P3"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNGRAFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return attngraft.bench(
            [MICRO, GRAFTED], imgsz=64, batch=2, rounds=3, train=True, backends=["eager", "onnxruntime", "tensorrt"]
        )


def test_the_json_satisfies_its_schema(found: Bench) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    jsonschema.validate(stored, schema())
    assert stored["environment"]["versions"]["ultralytics"]
    stored["settings"]["imgsz"] = "large"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stored, schema())


def test_figures_are_each_detectors_own(found: Bench) -> None:
    stock, grafted = found.on("eager")
    network = attngraft.YOLO(GRAFTED).model
    assert (stock.name, grafted.name) == (MICRO, GRAFTED)
    assert grafted.parameters == parameters(network) > stock.parameters
    assert stock.inputs == ((2, 3, 64, 64),)
    assert grafted.flops == flops(network.eval(), torch.zeros(2, 3, 64, 64))
    assert grafted.train_flops > 2 * grafted.flops
    assert grafted.train_peak_bytes > grafted.peak_bytes >= stock.peak_bytes
    assert stock.latency.ratio == stock.train_latency.ratio == 1
    assert len(grafted.latency.samples_ms) == 3


def test_a_base_without_weights_is_measured_as_a_loaded_one(tmp_path: Path) -> None:
    """The host's activations overwrite their input in a loaded model and not in a built one."""
    attngraft.YOLO(MICRO).save(tmp_path / "saved.pt")
    built, loaded = attngraft.bench([MICRO, str(tmp_path / "saved.pt")], imgsz=96, rounds=1, train=True).on("eager")
    assert (built.peak_bytes, built.train_peak_bytes) == (loaded.peak_bytes, loaded.train_peak_bytes)


def test_a_backend_that_is_not_here_is_said(found: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        assert found.absent["tensorrt"] == "TensorRT needs a CUDA device, and there is none here"
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    absent = attngraft.bench(MICRO, imgsz=64, rounds=1, backends=["onnxruntime"]).absent
    assert "pip install 'attngraft[export]'" in absent["onnxruntime"]


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_a_backend_computes_the_models_numbers(backend: str, tmp_path: Path) -> None:
    if backend != "eager":
        pytest.importorskip(backend, reason="needs the [export] extra")
    network, x = module.deployed(attngraft.YOLO(GRAFTED).model), torch.rand(1, 3, 64, 64)
    given = BACKENDS[backend](network, x, tmp_path / "0.model")()
    first = given[0] if isinstance(given, tuple) else given
    with torch.no_grad():
        expected = network(x)
    torch.testing.assert_close(torch.as_tensor(first).clone(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")
def test_the_compiled_backend_computes_the_modules_numbers(tmp_path: Path) -> None:
    network, x = MHSA(16).eval(), torch.rand(1, 16, 7, 5)
    given = BACKENDS["compiled"](network, x, tmp_path / "0.model")()
    with torch.no_grad():
        torch.testing.assert_close(given, network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("models", "options", "error", "message"),
    [
        ([], {}, OptionError, "at least one model"),
        ([MICRO, MICRO], {}, OptionError, "given twice"),
        ([MICRO], {"backends": ["eagre"]}, OptionError, "did you mean eager"),
        ([MICRO], {"rounds": 0}, OptionError, "rounds"),
        ([f"{MICRO}+ecca@P3"], {}, ValueError, "did you mean eca"),
    ],
)
def test_mistakes_are_named(models: list[str], options: dict[str, object], error: type, message: str) -> None:
    with pytest.raises((error, UnknownNameError), match=message):
        attngraft.bench(models, imgsz=64, **options)


def test_training_figures_are_of_the_hosts_loss() -> None:
    """FLOPs alike, since a loss has no products; the memory is that of a loss on every class of every cell."""
    (alone,) = attngraft.bench(MICRO, imgsz=64, batch=2, rounds=1, train=True).measurements
    model = attngraft.YOLO(MICRO).model
    loss = TrainingLoss(model, 2, (64, 64), {"imgsz": 64, "batch": 2})
    x = torch.rand(2, 3, 64, 64)
    assert alone.train_peak_bytes == memory.peak(loss, x, train=True) != memory.peak(model, x, train=True)
    assert alone.train_flops == flops(loss, x, train=True)


def test_the_tables_are_whole_at_80_columns(found: Bench) -> None:
    stream = io.StringIO()
    _print(Console(file=stream, width=80), found)
    printed = stream.getvalue()
    assert "…" not in printed
    for m in found.measurements:
        for timing in filter(None, (m.latency, m.train_latency)):
            assert f"{timing.ratio_low:.2f}-{timing.ratio_high:.2f}" in printed
            assert f" {timing.p50_ms:.1f} " in printed
    assert max(map(len, printed.split(found.environment.device)[0].splitlines())) <= 80
    assert "training step, 64 x 64, batch 2" in printed


def test_the_picture_is_light_and_nothing_is_overwritten(found: Bench, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the [study] extra")
    file = draw(found, tmp_path / "new" / "bench.png")
    with Image.open(file) as picture:
        assert picture.width > 800
        assert picture.convert("L").getpixel((2, picture.height - 3)) == 255
    with pytest.raises(OutputError, match=r"bench\.png exists and is left as it is"):
        draw(found, file)
    found.write(tmp_path / "bench.json")
    with pytest.raises(OutputError, match=r"bench\.json exists"):
        found.write(tmp_path / "bench.json")


def test_the_command_prints_and_writes(tmp_path: Path, tiny_data: Callable[[str], str]) -> None:
    Path("more.txt").write_text(f"# a list\n{MICRO}+eca@P3\n")
    run = lambda: CliRunner().invoke(main, ["bench", f"model={MICRO}", GRAFTED, "more.txt", "imgsz=64", "rounds=2"])  # noqa: E731
    result = run()
    assert result.exit_code == 0, result.output
    stored = json.loads(Path("attngraft-bench/bench.json").read_text())
    assert [m["name"] for m in stored["measurements"]] == [MICRO, GRAFTED, f"{MICRO}+eca@P3"]
    assert "Ratios are against the first" in result.output
    run()
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
