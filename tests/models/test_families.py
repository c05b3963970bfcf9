"""What every family of whole models promises, on small members of each."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from attngraft import models
from attngraft.measure import flops, parameters

STAGES: dict[str, Any] = {"depths": (1, 1, 2, 1), "heads": (1, 2, 2, 3), "num_classes": 5}
SMALL: dict[str, dict[str, Any]] = {
    "dilateformer_tiny": {**STAGES, "channels": (6, 12, 12, 12), "heads": (3, 6, 2, 3)},
    "flatten_pvt_tiny": {**STAGES, "channels": (4, 8, 8, 12), "mlp_ratios": (2, 2, 2, 2), "image_size": 40},
    "flatten_pvt_v2_b1": {**STAGES, "channels": (4, 8, 8, 12), "mlp_ratios": (2, 2, 2, 2), "image_size": 40},
    "flatten_swin_tiny": {**STAGES, "channels": (4, 8, 8, 12), "window": 3, "image_size": 40},
    "hat_s": {"scale": 2, "channels": 12, "depths": (2,), "heads": 2, "window": 4, "compress": 3, "squeeze": 1},
}
CLASSIFIERS = [name for name in SMALL if models.record(name).task == "classify"]
SIZES = [(64, 64), (45, 31), (7, 90), (3, 1)]

COUNTS = {
    "dilateformer_tiny": 17_238_744,
    "dilateformer_small": 24_057_504,
    "dilateformer_base": 47_432_376,
    "flatten_pvt_tiny": 12_150_504,
    "flatten_pvt_small": 21_670_248,
    "flatten_pvt_medium": 37_242_216,
    "flatten_pvt_large": 50_649_192,
    "flatten_pvt_v2_b0": 3_594_824,
    "flatten_pvt_v2_b1": 12_931_240,
    "flatten_pvt_v2_b2": 22_548_264,
    "flatten_pvt_v2_b3": 38_273_832,
    "flatten_pvt_v2_b4": 51_836_968,
    "flatten_swin_tiny": 29_192_384,
    "flatten_swin_small": 50_510_288,
    "flatten_swin_base": 88_972_488,
    "hat_s": 9_621_183,
    "hat": 20_772_507,
    "hat_l": 40_846_575,
}
"""Parameters of the references at 224 x 224 with 1000 classes, or at scale 4. For DilateFormer-B and HAT-L there is no
figure of the references'; these keep ours."""

GIGA_MACS = {
    "dilateformer_tiny": 3.18,
    "flatten_pvt_tiny": 2.05,
    "flatten_pvt_v2_b1": 2.23,
    "flatten_swin_tiny": 4.50,
}
"""Of the references at 224 x 224, by a counter that counts normalisation too, which ours does not: up to 1 % more. The
other sizes agree as well (FLatten-Swin-B 15.47 of 15.46, and so on); they are left out for the time it takes."""


def small(name: str) -> nn.Module:
    """Build a small member with tables and norms away from their neutral start, and nothing dropped."""
    model = models.create(name, **SMALL[name], drop_path=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return models.create(name)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_reference(name: str) -> None:
    assert parameters(on_meta(name)) == COUNTS[name]
    assert f"{COUNTS[name] / 1e6:.1f} M parameters" in models.record(name).about


@pytest.mark.parametrize("name", GIGA_MACS)
def test_multiply_adds_are_those_of_the_reference(name: str) -> None:
    macs = flops(on_meta(name), torch.empty(1, 3, 224, 224, device="meta")) / 2
    assert macs / 1e9 == pytest.approx(GIGA_MACS[name], rel=0.01)


@pytest.mark.parametrize("name", SMALL)
class TestFamily:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_takes_any_size(self, name: str, size: tuple[int, int]) -> None:
        model = small(name).eval()
        y = model(torch.rand(2, 3, *size))
        assert y.shape == ((2, 5) if name in CLASSIFIERS else (2, 3, 2 * size[0], 2 * size[1]))
        assert y.isfinite().all()

    def test_images_of_a_batch_do_not_see_each_other(self, name: str) -> None:
        model = small(name).double().eval()
        x = torch.rand(3, 3, 37, 22, dtype=torch.float64)
        torch.testing.assert_close(model(x), torch.cat([model(image[None]) for image in x]), atol=1e-10, rtol=0)

    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        model = small(name)
        model(torch.rand(2, 3, 40, 70)).square().mean().backward()
        missing = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not missing

    def test_state_dict_round_trip(self, name: str) -> None:
        model, other = small(name).eval(), small(name).eval()
        x = torch.rand(1, 3, 37, 22)
        assert not torch.equal(model(x), other(x))
        other.load_state_dict(model.state_dict())
        assert torch.equal(model(x), other(x))

    def test_exports_to_onnx_with_equal_numbers_at_two_sizes(self, name: str) -> None:
        ort = pytest.importorskip("onnxruntime", reason="needs the [export] extra")
        model = small(name).eval()
        file = io.BytesIO()
        sizes = {0: "B", 2: "H", 3: "W"}
        axes = {"x": sizes, "y": {0: "B"} if name in CLASSIFIERS else {0: "B", 2: "scaled_H", 3: "scaled_W"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracing exporter is what the hosts use; it warns of its age
            torch.onnx.export(
                model, (torch.rand(1, 3, 64, 96),), file, input_names=["x"], output_names=["y"], opset_version=18,
                dynamic_axes=axes, dynamo=False,
            )  # fmt: skip
        session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        for x in (torch.rand(1, 3, 64, 96), torch.rand(2, 3, 45, 31)):
            (y,) = session.run(None, {"x": x.numpy()})
            torch.testing.assert_close(torch.from_numpy(y), model(x), atol=1e-4, rtol=1e-3)

    def test_drops_branches_while_training_only(self, name: str) -> None:
        options = {**SMALL[name], "drop_path": 0.5}
        model = models.create(name, **options).double()
        x = torch.rand(2, 3, 33, 33, dtype=torch.float64)
        first = model(x)
        assert any(not torch.equal(model(x), first) for _ in range(5))
        model.eval()
        assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", CLASSIFIERS)
class TestClassifier:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_gives_maps_at_four_strides(self, name: str, size: tuple[int, int]) -> None:
        model = small(name).eval()
        maps = model.forward_features(torch.rand(2, 3, *size))
        assert model.strides == (4, 8, 16, 32)
        assert model.channels == SMALL[name]["channels"]
        expected = [
            (2, C, -(-size[0] // stride), -(-size[1] // stride))
            for C, stride in zip(model.channels, model.strides, strict=True)
        ]
        assert [tuple(found.shape) for found in maps] == expected

    def test_no_classes_means_no_classifier(self, name: str) -> None:
        model = models.create(name, **{**SMALL[name], "num_classes": 0}).eval()
        x = torch.rand(2, 3, 40, 33)
        torch.testing.assert_close(model(x), model.norm(model.forward_features(x)[-1]).mean((2, 3)))
        assert not [key for key in model.state_dict() if key.startswith("head.")]

    def test_bad_input_gets_one_clear_sentence(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"3 channels \(B, 3, H, W\), got shape \(1, 4, 32, 32\)"):
            small(name)(torch.rand(1, 4, 32, 32))

    def test_options_for_three_stages_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"depths to be four values, one a stage, got \(1, 1, 1\)"):
            models.create(name, depths=(1, 1, 1))

    def test_a_stage_without_blocks_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="depth_2 to be a positive integer, got 0"):
            models.create(name, depths=(1, 1, 0, 1))
