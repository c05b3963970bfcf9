"""Files in three formats, run by their own runtimes, against the module that they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attngraft import export
from attngraft._core.errors import ExportParityError
from attngraft.export import Bound
from attngraft.export.parity import furthest, number
from tests.export.kit import FORMATS, SUFFIX, Attend, FixedTable, write


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


def test_numbering_keeps_order() -> None:
    assert list(number([np.zeros(1)] * 11))[-1] == "y10"
