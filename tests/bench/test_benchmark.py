"""What is measured, and of what; nothing here asserts a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attngraft
from attngraft._core.errors import OptionError, RecipeError
from attngraft.attention import chosen_kernel, kernel
from attngraft.bench import BACKENDS, Bench, backends
from attngraft.bench.backends import device_of
from attngraft.measure import flops, memory, parameters
from attngraft.yolo.step import TrainingLoss
from tests.bench.kit import GRAFTED, MICRO


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


def test_names_the_kernels_that_attention_takes(found: Bench) -> None:
    assert found.kernels == {GRAFTED: dict([chosen_kernel((8, 8), 16)])}
    with kernel("augmented"):
        forced = attngraft.bench([GRAFTED, f"{MICRO}+eca@P3"], imgsz=64, rounds=1, backends=["eager"])
    assert forced.kernels == {GRAFTED: {"augmented": "forced by attngraft.attention.kernel"}}


def test_a_base_without_weights_is_measured_as_a_loaded_one(tmp_path: Path) -> None:
    """The host's activations overwrite their input in a loaded model and not in a built one."""
    attngraft.YOLO(MICRO).save(tmp_path / "saved.pt")
    built, loaded = attngraft.bench(
        [MICRO, str(tmp_path / "saved.pt")], imgsz=96, rounds=1, train=True, backends=["eager"]
    ).on("eager")
    assert (built.peak_bytes, built.train_peak_bytes) == (loaded.peak_bytes, loaded.train_peak_bytes)


@pytest.mark.parametrize(
    ("models", "options", "error", "message"),
    [
        ([], {}, OptionError, "bench needs at least one model, got none"),
        ([MICRO, MICRO], {}, OptionError, r"attngraft-micro\.yaml is given twice"),
        ([MICRO], {"backends": ["eagre"]}, OptionError, "bench knows no backend 'eagre'; did you mean eager"),
        ([MICRO], {"backends": []}, OptionError, "at least one backend"),
        ([MICRO], {"backends": ["openvino"], "train": True}, OptionError, "training steps with eager, got .*openvino"),
        ([MICRO], {"rounds": 0}, OptionError, "bench needs rounds to be a positive integer, got 0"),
        ([MICRO], {"train": "perhaps"}, OptionError, "bench needs train to be True or False, got 'perhaps'"),
        ([MICRO], {"imgsz": "large"}, OptionError, "bench needs imgsz to be a positive integer, got 'large'"),
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
    found = attngraft.bench([MICRO, "yolov8n-p6.yaml"], imgsz=(40, 100), rounds=1, backends=["eager"])
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
    (alone,) = attngraft.bench(MICRO, imgsz=64, batch=2, rounds=1, train=True, backends=["eager"]).measurements
    model = attngraft.YOLO(MICRO).model
    loss = TrainingLoss(model, 2, (64, 64), {"imgsz": 64, "batch": 2})
    x = torch.rand(2, 3, 64, 64)
    assert alone.train_peak_bytes == memory.peak(loss, x, train=True) != memory.peak(model, x, train=True)
    assert alone.train_flops == flops(loss, x, train=True)


def test_every_runtime_that_is_installed_is_measured_unless_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs the [export] extra")
    found = attngraft.bench(MICRO, imgsz=64, rounds=1)
    assert found.backends == backends.installed()
    assert found.backends[:3] == ["eager", "onnxruntime", "openvino"]
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name in ("onnx", "openvino") else object())
    assert backends.installed() == ["eager"]
