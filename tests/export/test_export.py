"""Files in three formats, run by their own runtimes, against the module that they came from."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attngraft import export
from attngraft._core.errors import ExportParityError, MissingExtraError, OptionError, OutputError
from attngraft.export import Bound, Exported
from attngraft.export.exported import _without
from attngraft.export.parity import furthest, number

RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino", "torchscript": "torch"}
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript"}
FORMATS = list(SUFFIX)


class Attend(nn.Module):
    """Self-attention of a map that asks for its size at every call; two outputs, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(8, 24, 1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, 2)  # (B, N, C)
        y = (q @ k.transpose(1, 2)).softmax(-1) @ v  # (B, N, C)
        return self.norm(y.transpose(1, 2).reshape(x.shape)), [x.mean((2, 3))]


class FixedTable(nn.Module):
    """Keep a position table for the size that came first, as a Python-side cache does."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        H, W = int(x.shape[2]), int(x.shape[3])
        if (H, W) not in self.cache:
            self.cache[H, W] = torch.linspace(0, 1, H * W).view(H, W)
        return x + self.cache[H, W]


def write(kind: str, module: nn.Module, folder: Path, x: Tensor, **options: bool) -> Exported:
    pytest.importorskip(RUNTIME[kind], reason="needs the [export] extra")
    function: Callable[..., Exported] = getattr(export, f"to_{kind}")
    if kind == "torchscript":
        options.pop("dynamic", None)
    return function(module, x, folder / f"model{SUFFIX[kind]}", **options)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_file_gives_the_modules_numbers(kind: str, dynamic: bool, tmp_path: Path) -> None:
    module = Attend()
    module.qkv.train(False)
    x = torch.randn(1, 8, 6, 10)
    exported = write(kind, module, tmp_path, x, dynamic=dynamic)
    others = [torch.randn(3, 8, 7, 5)] if dynamic else []
    deviation = export.parity(module, exported, [x, *others])
    assert deviation.within, str(deviation)
    assert [output.name for output in deviation.outputs] == ["y0", "y1"]
    assert 0 <= deviation.outputs[0].relative < 1e-4
    assert [part.training for part in module.modules()] == [True, False, True]
    by_numpy = exported(x.numpy())
    assert all(np.array_equal(a, b) for a, b in zip(by_numpy, exported(x), strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in exported.files)


# OpenVINO runs it, and gives the map the size of its table.
@pytest.mark.parametrize(("kind", "how"), [("onnx", "fails at"), ("openvino", "gives"), ("torchscript", "fails at")])
def test_a_frozen_size_is_found_and_the_file_put_aside(kind: str, how: str, tmp_path: Path) -> None:
    x = torch.randn(1, 8, 6, 10)
    exported = write(kind, FixedTable(), tmp_path, x, dynamic=True)
    export.require_parity(FixedTable(), exported, [x])
    with pytest.raises(ExportParityError, match=rf"model\{SUFFIX[kind]} .*FixedTable: {how}") as caught:
        export.require_parity(FixedTable(), exported, [x, torch.randn(1, 8, 7, 5)])
    assert caught.value.kept == tmp_path / f"model{SUFFIX[kind]}.rejected"
    assert all(path.name.endswith(".rejected") for path in tmp_path.iterdir())
    assert caught.value.kept.is_file()


def test_a_transposed_size_that_runs_is_found_by_its_numbers(tmp_path: Path) -> None:
    exported = write("torchscript", FixedTable(), tmp_path, torch.randn(1, 1, 6, 1))
    deviation = export.parity(FixedTable(), exported, [torch.zeros(1, 1, 1, 6)])
    assert deviation.error == ("gives {'y0': (1, 1, 6, 6)} at ((1, 1, 1, 6),), the module {'y0': (1, 1, 1, 6)}")


def test_another_weight_is_a_deviation_with_its_size_and_place(tmp_path: Path) -> None:
    module, x = nn.Conv2d(2, 2, 1), torch.zeros(1, 2, 3, 3)
    exported = write("torchscript", module, tmp_path, x)
    with torch.no_grad():
        module.bias.copy_(torch.tensor([4.0, -5.0]))
        old = torch.from_numpy(exported(x)[0])
    deviation = export.parity(module, exported, [x])
    (found,) = deviation.outputs
    assert not deviation.within
    assert found.absolute == pytest.approx((module(x) - old).abs().max().item())
    assert found.relative == pytest.approx(found.absolute / 5)
    assert found.inputs == ((1, 2, 3, 3),)
    assert "y0" in str(deviation)
    assert "bound: relative 1e-03" in str(deviation)


def test_outputs_can_be_split_and_bounded_in_their_own_units(tmp_path: Path) -> None:
    module, x = nn.Conv2d(2, 2, 1), torch.zeros(1, 2, 3, 3)
    exported = write("torchscript", module, tmp_path, x)
    with torch.no_grad():
        module.bias += torch.tensor([0.1, 0.0])

    def split(outputs: list[np.ndarray]) -> dict[str, np.ndarray]:
        return {"boxes": outputs[0][:, :1], "scores": outputs[0][:, 1:]}

    for allowed, within in ((0.2, True), (0.05, False)):
        bounds = {"boxes": Bound(absolute=allowed), "scores": Bound(absolute=1e-6)}
        deviation = export.parity(module, exported, [x], bound=bounds, split=split)
        assert [(o.name, o.within) for o in deviation.outputs] == [("boxes", within), ("scores", True)]


@pytest.mark.parametrize(("bound", "outside"), [(Bound(absolute=0.9), 100), (Bound(relative=0.1), 1)])
def test_what_is_outside_its_bound_comes_before_what_is_further_and_inside(bound: Bound, outside: int) -> None:
    given = [torch.full((1, size), float(size)) for size in (1, 100)]
    off = {1: 0.5, 100: 1.0}
    for inputs in (given, given[::-1]):
        deviation = furthest(
            lambda x: [x.numpy()],
            lambda x: [x.numpy() + off[x.shape[1]]],
            inputs,
            pair=lambda expected, actual: {"y": (expected[0], actual[0])},
            bound=lambda name: bound,
        )
        assert not deviation.within
        assert deviation.outputs[0].inputs == ((1, outside),)


def test_not_a_number_is_never_within(tmp_path: Path) -> None:
    module = nn.ReLU()
    exported = write("torchscript", module, tmp_path, torch.zeros(1, 2))
    deviation = export.parity(module, exported, [torch.full((1, 2), torch.nan)], bound=Bound())
    assert deviation.outputs[0].absolute == np.inf
    assert deviation.to_dict()["outputs"][0]["absolute"] is None
    assert not export.parity(module, exported, [torch.full((1, 2), torch.nan)]).within


@pytest.mark.parametrize("half", [False, True])
def test_openvino_stores_weights_in_the_type_asked_for(half: bool, tmp_path: Path) -> None:
    module, x = nn.Conv2d(16, 64, 3), torch.randn(1, 16, 5, 5)
    exported = write("openvino", module, tmp_path, x, half=half)
    weights = 64 * 16 * 9 * (2 if half else 4)
    assert weights <= exported.files[1].stat().st_size < weights * 1.2
    (found,) = export.parity(module, exported, [x]).outputs
    assert found.within
    assert (found.relative > 1e-5) == half


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_an_existing_file_is_replaced_only_when_asked(kind: str, tmp_path: Path) -> None:
    x = torch.randn(1, 2, 3, 3)
    first = write(kind, nn.Conv2d(2, 2, 1), tmp_path, x)
    before = first(x)
    with pytest.raises(OutputError, match=r"model.* is there already; pass overwrite=True"):
        write(kind, nn.Conv2d(2, 2, 1), tmp_path, x)
    assert np.array_equal(export.load(first.path)(x), before)
    second = write(kind, nn.Conv2d(2, 2, 1), tmp_path, x, overwrite=True)
    assert not np.array_equal(second(x), before)


def test_files_put_aside_never_replace_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.bin.rejected").write_text("the user's")
    for expected in ("model.xml.rejected-2", "model.xml.rejected-3"):
        exported = write("openvino", nn.Conv2d(2, 2, 1), tmp_path, torch.randn(1, 2, 3, 3))
        kept = exported.put_aside()
        assert kept.name == expected
        assert kept.with_name(expected.replace("xml", "bin")).is_file()
    assert (tmp_path / "model.bin.rejected").read_text() == "the user's"


def test_weights_beside_a_missing_file_are_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(OutputError, match=r"model\.bin is there already"):
        write("openvino", nn.ReLU(), tmp_path, torch.randn(1, 2))


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        write("onnx", nn.Conv2d(2, 2, 1), tmp_path, torch.randn(1, 3, 3, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"model\.torchscript cannot be written.*choose another path"):
        write("torchscript", nn.ReLU(), tmp_path / "file", torch.zeros(1, 2))


def test_a_wrong_ending_is_said(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"onnx file ends in \.onnx, got .*model\.pt; use model\.onnx"):
        export.to_onnx(nn.ReLU(), torch.zeros(1), tmp_path / "model.pt")
    with pytest.raises(OptionError, match=r"got .*none\.onnx, which is not there"):
        export.load(tmp_path / "none.onnx")
    (tmp_path / "model.pt").touch()
    with pytest.raises(OptionError, match=r"end in \.onnx, \.xml, \.torchscript, got"):
        export.load(tmp_path / "model.pt")


@pytest.mark.parametrize(("package", "kind"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_runtime_names_the_extra(
    package: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / f"model{SUFFIX[kind]}").touch()
    with pytest.raises(MissingExtraError, match=rf"needs {package}.*pip install 'attngraft\[export\]'"):
        export.load(tmp_path / f"model{SUFFIX[kind]}")(torch.zeros(1))


def test_a_package_can_be_kept_out_of_an_import() -> None:
    with _without("this"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    with _without("sys"):
        importlib.import_module("sys")  # what is in already stays


def test_files_are_opened_with_the_threads_of_pytorch(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    exported = write("onnx", nn.Conv2d(2, 2, 1), tmp_path, torch.randn(1, 2, 3, 3))
    seen = []
    original = runtime.InferenceSession

    def spy(path: os.PathLike[str], options: object, **rest: object) -> object:
        seen.append(options.intra_op_num_threads)
        return original(path, options, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "InferenceSession", spy)
        exported(torch.randn(1, 2, 3, 3))
        exported(torch.randn(1, 2, 3, 3))
    assert seen == [torch.get_num_threads()]


def test_several_inputs_keep_their_order(tmp_path: Path) -> None:
    class Difference(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a - 2 * b

    pair = (torch.randn(2, 3), torch.randn(2, 3))
    for kind in FORMATS:
        exported = write(kind, Difference(), tmp_path / kind, pair, dynamic=True)
        assert export.parity(Difference(), exported, [pair]).within


def test_numbering_keeps_order() -> None:
    assert list(number([np.zeros(1)] * 11))[-1] == "y10"
