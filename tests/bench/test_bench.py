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
from attngraft._core.errors import OptionError, OutputError, RecipeError
from attngraft._core.registry import register, unregister
from attngraft.attention import MHSA
from attngraft.bench import BACKENDS, Bench, draw, schema
from attngraft.bench import backends as module
from attngraft.bench.backends import device_of
from attngraft.cli import main
from attngraft.cli.bench import _print
from attngraft.measure import flops, memory, parameters
from attngraft.yolo.step import TrainingLoss

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
    assert stored["settings"]["device"] == "cpu"
    stored["settings"]["imgsz"] = 640
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
        assert set(found.absent["tensorrt"]) == {MICRO, GRAFTED}
        assert found.absent["tensorrt"][MICRO] == "TensorRT needs a CUDA device, and there is none here"
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    absent = attngraft.bench(MICRO, imgsz=64, rounds=1, backends=["onnxruntime"]).absent
    assert "pip install 'attngraft[export]'" in absent["onnxruntime"][MICRO]


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
        ([], {}, OptionError, "bench needs at least one model, got none"),
        ([MICRO, MICRO], {}, OptionError, r"attngraft-micro\.yaml is given twice"),
        ([MICRO], {"backends": ["eagre"]}, OptionError, "bench knows no backend 'eagre'; did you mean eager"),
        ([MICRO], {"backends": []}, OptionError, "at least one backend"),
        ([MICRO], {"backends": ["openvino"], "train": True}, OptionError, "training steps with eager, got .*openvino"),
        ([MICRO], {"rounds": 0}, OptionError, "bench needs rounds to be a whole number of 1 or more, got 0"),
        ([MICRO], {"train": "perhaps"}, OptionError, "bench needs train to be True or False, got 'perhaps'"),
        ([MICRO], {"imgsz": "large"}, OptionError, "bench needs imgsz to be a whole number of 1 or more, got 'large'"),
        ([MICRO], {"imgsz": [64, 64, 3]}, OptionError, "imgsz=SIDE or imgsz=HEIGHT,WIDTH, got"),
        ([MICRO], {"device": "gpu"}, OptionError, "bench takes device=cpu, a number such as 0, .* got 'gpu'"),
        ([MICRO], {"device": "cpu,cpu"}, OptionError, "bench runs on one device, got device='cpu,cpu'"),
        ([f"{MICRO}+ecca@P3"], {}, RecipeError, "no mechanism is called 'ecca'; did you mean eca"),
    ],
)
def test_mistakes_are_named(
    models: list[str], options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        attngraft.bench(models, **{"imgsz": 64, **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", [0, "0", "cuda", "cuda:1"])
def test_a_device_that_is_not_here_is_one_sentence(device: object) -> None:
    with pytest.raises(OptionError, match=r"bench was asked for a CUDA device \(cuda.*finds none here; use device=cpu"):
        attngraft.bench(MICRO, imgsz=64, device=device)


def test_sides_are_brought_to_multiples_of_the_largest_stride() -> None:
    found = attngraft.bench([MICRO, "yolov8n-p6.yaml"], imgsz=(40, 100), rounds=1)
    assert (found.settings.asked, found.settings.imgsz) == ((40, 100), (64, 128))
    assert {m.inputs for m in found.measurements} == {((1, 3, 64, 128),)}


def test_every_measurement_names_its_device(found: Bench) -> None:
    assert {m.device for m in found.measurements} == {found.environment.device}
    places = {backend: str(device_of(backend, torch.device("cuda:1"))) for backend in BACKENDS}
    assert places == {
        "eager": "cuda:1", "compiled": "cuda:1", "onnxruntime": "cpu", "openvino": "cpu", "tensorrt": "cuda:1",
    }  # fmt: skip
    assert device_of("tensorrt", torch.device("cpu")) == torch.device("cuda:0")


def test_training_figures_are_of_the_hosts_loss() -> None:
    """FLOPs alike, since a loss has no products; the memory is that of a loss on every class of every cell."""
    (alone,) = attngraft.bench(MICRO, imgsz=64, batch=2, rounds=1, train=True).measurements
    model = attngraft.YOLO(MICRO).model
    loss = TrainingLoss(model, 2, (64, 64), {"imgsz": 64, "batch": 2})
    x = torch.rand(2, 3, 64, 64)
    assert alone.train_peak_bytes == memory.peak(loss, x, train=True) != memory.peak(model, x, train=True)
    assert alone.train_flops == flops(loss, x, train=True)


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


def test_the_tables_are_whole_at_80_columns(found: Bench) -> None:
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
