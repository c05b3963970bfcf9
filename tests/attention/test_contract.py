"""What every mechanism promises, tested over the whole registry: a new file is tested by being there."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

import attngraft.attention as zoo
from attngraft._core.errors import OptionError
from attngraft.export import Bound, parity, to_onnx, to_openvino, to_torchscript

NAMES = [name for name, record in zoo.mechanisms().items() if record.cls.__module__.startswith("attngraft.")]
SIZES = [(1, 1), (2, 3), (7, 5), (13, 13), (8, 20)]
ATOL = {torch.float64: 1e-10, torch.float32: 2e-5}


DERIVED_ONCE = frozenset(
    ["aifi", "area_attention", "bra", "dat", "irmb", "mha", "mhsa", "non_local", "psa_attention", "psa_block", "shsa"]
)
"""Those on kernels, PyTorch's and ours, that have no second derivative and say so."""


def build(name: str, channels: int = 64, **options: object) -> nn.Module:
    """Build a mechanism as the graft does, with gates and tables away from their neutral start."""
    record = zoo.mechanism(name)
    module = record.cls(channels, **{**record.cls.fit(channels), **options})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def gradients(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    module(x.requires_grad_()).square().mean().backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


class Doubled(nn.Module):
    """A layer in an adapter, as LoRA's: it acts in the call, and still shows the layer's own weight."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.base(x)


def double_by_a_hook(module: nn.Module, path: str) -> None:
    module.get_submodule(path).register_forward_hook(lambda _module, _inputs, output: 2 * output)


def double_by_an_adapter(module: nn.Module, path: str) -> None:
    module.set_submodule(path, Doubled(module.get_submodule(path)))


def double_behind_a_sequence(module: nn.Module, path: str) -> None:
    """Show nothing of the layer: neither weights nor their type."""
    module.set_submodule(path, nn.Sequential(Doubled(module.get_submodule(path))))


def double_by_the_instance(module: nn.Module, path: str) -> None:
    layer = module.get_submodule(path)
    usual = layer.forward
    layer.forward = lambda x: 2 * usual(x)


def layers(module: nn.Module) -> list[str]:
    """Return the paths of the layers that have weights, convolutions, linear layers and norms."""
    kinds = (nn.Conv2d, nn.Conv1d, nn.Linear, nn.GroupNorm, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
    return [path for path, layer in module.named_modules() if isinstance(layer, kinds) and layer.weight is not None]


def products_with_weights_in_front(file: Path) -> list[str]:
    """Return the matrix products of an OpenVINO file whose first factor is constant.

    Quantized to int8, NNCF corrects a bias behind one along the wrong axis, and OpenVINO scales it along the wrong one.
    """
    import openvino

    def constant(node: Any) -> bool:
        inputs = node.input_values()
        return all(constant(one.get_node()) for one in inputs) if inputs else node.get_type_name() == "Constant"

    operations = openvino.Core().read_model(file).get_ordered_ops()
    products = [one for one in operations if one.get_type_name() == "MatMul"]
    return [one.get_friendly_name() for one in products if constant(one.input_value(0).get_node())]


BACKEND = "aot_eager" if torch.__version__ >= (2, 10) else "inductor"
"""The cheapest that is right: up to PyTorch 2.8, aot_eager reads memory that nobody wrote in fused attention."""


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_keeps_shape_and_dtype_at_any_size(self, name: str, size: tuple[int, int]) -> None:
        module = build(name).eval()
        for batch in (1, 3):
            x = torch.randn(batch, 64, *size)
            y = module(x)
            assert y.shape == x.shape
            assert y.dtype == x.dtype
            assert y.isfinite().all()

    @pytest.mark.parametrize("channels", [4, 16, 24, 48, 80, 256])
    def test_fit_finds_options_for_any_width(self, name: str, channels: int) -> None:
        x = torch.randn(1, channels, 6, 5)
        assert build(name, channels).eval()(x).shape == x.shape

    def test_passes_gradcheck(self, name: str) -> None:
        module = build(name, 8).double().eval()
        x = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
        parameters = tuple(module.parameters())

        def call(x: Tensor, *values: Tensor) -> Tensor:
            named = {key: value for (key, _), value in zip(module.named_parameters(), values, strict=True)}
            return torch.func.functional_call(module, named, (x,))

        assert torch.autograd.gradcheck(call, (x, *parameters), fast_mode=True)

    def test_images_of_a_batch_do_not_see_each_other(self, name: str) -> None:
        module = build(name).double().eval()
        x = torch.randn(3, 64, 7, 5, dtype=torch.float64)
        alone = torch.cat([module(image[None]) for image in x])
        torch.testing.assert_close(module(x), alone, atol=ATOL[torch.float64], rtol=0)

    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        module = build(name)
        found = gradients(module, torch.randn(2, 64, 9, 8))
        missing = [key for key, _ in module.named_parameters() if key not in found or not found[key].abs().sum() > 0]
        assert not missing

    def test_a_grafts_zero_factor_has_a_gradient_from_the_first_step(self, name: str) -> None:
        """A mechanism that starts as nothing, times a factor that starts at zero, would never learn."""
        if name == "noop":
            pytest.skip("the control that changes nothing by design")
        record = zoo.mechanism(name)
        module = record.cls(64, **record.cls.fit(64))
        x = torch.randn(2, 64, 9, 8)
        change = module(x) if record.role == "mixer" else module(x) - x
        if record.starts_as_identity:
            assert not change.any(), f"{name} does not start as the identity, and gets no gamma to start as it"
        else:
            assert change.abs().mean() > 1e-4, f"{name} starts as the identity: say starts_as_identity=True"

    def test_state_dict_round_trip(self, name: str) -> None:
        module, other = build(name).eval(), build(name).eval()
        x = torch.randn(2, 64, 6, 7)
        assert not list(module.parameters()) or not torch.equal(module(x), other(x))
        other.load_state_dict(module.state_dict())
        assert torch.equal(module(x), other(x))

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
    @pytest.mark.parametrize(
        "lay",
        [
            lambda x: x.to(memory_format=torch.channels_last),
            lambda x: torch.stack([x, x], 4)[..., 0],
            lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
            lambda x: torch.cat([x, x], 1)[:, x.shape[1] :],
        ],
        ids=["channels last", "strided", "columns first", "part of more channels"],
    )
    def test_output_and_gradients_do_not_depend_on_the_layout(
        self, name: str, lay: Callable[[Tensor], Tensor], train: bool, batch: int
    ) -> None:
        module = build(name).double().train(train)
        found = []
        for arrange in (lambda x: x, lay):
            twin = copy.deepcopy(module)
            x = torch.randn(batch, 64, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            x = arrange(x).detach().requires_grad_()
            weight = torch.randn(batch, 64, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            y = twin(x)
            (y * weight).sum().backward()
            found.append([y, x.grad, *(p.grad for p in twin.parameters())])
        for usual, other in zip(*found, strict=True):
            torch.testing.assert_close(other, usual, atol=1e-9, rtol=1e-9)

    @pytest.mark.parametrize(
        "double", [double_by_a_hook, double_by_an_adapter, double_behind_a_sequence, double_by_the_instance]
    )
    def test_what_is_added_to_a_layer_acts(self, name: str, double: Callable[[nn.Module, str], None]) -> None:
        if name == "nam" and double is double_behind_a_sequence:
            pytest.skip("it gates by the very weights of its norm")
        module = build(name).double().eval()
        x = torch.randn(2, 64, 7, 5, dtype=torch.float64)
        for path in layers(module):
            heavy, changed = copy.deepcopy(module), copy.deepcopy(module)
            with torch.no_grad():
                for parameter in heavy.get_submodule(path).parameters():
                    parameter.mul_(2)
            double(changed, path)
            torch.testing.assert_close(changed(x), heavy(x), atol=1e-9, rtol=1e-9, msg=path)

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("size", [(7, 5), (9, 9), (8, 20)], ids=str)
    def test_watched_layers_give_the_same_gradients(self, name: str, size: tuple[int, int], batch: int) -> None:
        """A hook changes the form that some mechanisms run; the batch norm before them sees the gradient's layout."""
        norm, usual = nn.BatchNorm2d(64).double(), build(name).double()
        watched = copy.deepcopy(usual)
        for path in layers(watched):
            watched.get_submodule(path).register_forward_hook(lambda *_: None)
        x, weight = torch.randn(2, batch, 64, *size, dtype=torch.float64)
        found = []
        for module in (usual, watched):
            before, image = copy.deepcopy(norm), x.clone().requires_grad_()
            (module(before(image)) * weight).sum().backward()
            found.append([image.grad, *(p.grad for p in before.parameters()), *(p.grad for p in module.parameters())])
        for expected, came in zip(*found, strict=True):
            torch.testing.assert_close(came, expected, atol=1e-9, rtol=1e-9)

    def test_a_pruned_layer_trains(self, name: str) -> None:
        """Pruning sets the weight in each call: one that was read before the call is that of the step before."""
        module = build(name).double().eval()
        for path in layers(module):
            pruned, usual = copy.deepcopy(module), copy.deepcopy(module)
            mask = torch.rand_like(usual.get_submodule(path).weight).round()
            prune.custom_from_mask(pruned.get_submodule(path), "weight", mask)
            pruned.get_submodule(path).weight_orig.register_hook(lambda gradient, mask=mask: gradient * mask)
            with torch.no_grad():
                usual.get_submodule(path).weight.mul_(mask)
            for step in range(2):
                outputs = []
                for twin in (pruned, usual):
                    x = torch.randn(2, 64, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
                    outputs.append(twin(x))
                    twin.zero_grad()
                    outputs[-1].square().mean().backward()
                torch.testing.assert_close(*outputs, atol=1e-9, rtol=1e-9, msg=path)
                usual.get_submodule(path).weight.grad.mul_(mask)
                for twin in (pruned, usual):
                    torch.optim.SGD(twin.parameters(), 0.1).step()

    def test_a_parametrised_mechanism_is_described_as_itself(self, name: str) -> None:
        """`parametrize` makes a subclass of the module whose parameter it changes, and so may a user."""
        module = build(name)
        usual, before = type(module), repr(module)
        module.__class__ = type(f"Parametrized{usual.__name__}", (usual,), {})
        assert repr(module) == before.replace(usual.__name__, type(module).__name__, 1)
        assert module.macs(6, 7) == build(name).macs(6, 7)

    def test_survives_pickle_and_deepcopy(self, name: str) -> None:
        module = build(name)
        x = torch.randn(2, 64, 6, 7)
        module(x.requires_grad_()).sum().backward()  # what a forward leaves behind must not stand in the way
        module.eval()
        expected = module(x)
        for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
            assert torch.equal(twin(x), expected)

    def test_takes_channels_last(self, name: str) -> None:
        module = build(name).eval()
        x = torch.randn(2, 64, 8, 6)
        expected = module(x)
        module.to(memory_format=torch.channels_last)
        torch.testing.assert_close(
            module(x.to(memory_format=torch.channels_last)), expected, atol=ATOL[torch.float32], rtol=1e-4
        )

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_stays_finite_in_half_precision(self, name: str, dtype: torch.dtype) -> None:
        module = build(name).to(dtype)
        x = (torch.randn(2, 64, 9, 8) * 8).to(dtype).requires_grad_()
        y = module(x)
        y.float().square().mean().backward()
        assert y.dtype == dtype
        assert y.isfinite().all()
        assert x.grad is not None
        assert x.grad.isfinite().all()

    def test_second_derivatives_are_right_or_refused(self, name: str) -> None:
        """Of a gradient penalty: what ``autograd.grad`` gives of gradients, against their finite differences."""
        module = build(name, 32).double().eval()
        x, v = torch.randn(2, 1, 32, 5, 6, dtype=torch.float64)

        def gradient(at: Tensor, **options: bool) -> Tensor:
            return torch.autograd.grad(module(at).square().sum(), at, **options)[0]

        step = 1e-5
        near = [gradient((x + sign * step * v).requires_grad_()) for sign in (1, -1)]
        right = (near[0] - near[1]) / (2 * step)
        given = x.clone().requires_grad_()
        if name in DERIVED_ONCE:
            with pytest.raises(RuntimeError, match=r"first derivatives only|_backward is not implemented"):
                torch.autograd.grad((gradient(given, create_graph=True) * v).sum(), given)
            return
        (ours,) = torch.autograd.grad((gradient(given, create_graph=True) * v).sum(), given)
        assert (ours - right).norm() < 1e-3 * right.norm()

    def test_is_near_double_precision_in_half_on_a_strong_map(self, name: str) -> None:
        """Of standard deviation 300, whose squares fp16 does not hold; of those whose output it does.

        A softmax as sharp as there may choose another cell by a rounding error of its logits; nothing else may.
        """
        module = build(name).half().eval()
        x = (torch.randn(1, 64, 20, 20) * 300).half()
        with torch.no_grad():
            right = copy.deepcopy(module).double()(x.double())
            if right.abs().max() > torch.finfo(torch.half).max / 2:
                assert name in {"cpca", "lsk", "lska", "mala", "pola"}, "a product with the input, by the paper"
                return
            error = (module(x).double() - right).norm() / right.norm()
        assert error < (0.2 if zoo.mechanism(name).role == "mixer" else 0.02)

    def test_runs_in_half_precision_under_autocast_too(self, name: str) -> None:
        module = build(name).bfloat16().eval()
        exact = copy.deepcopy(module).double()
        x = torch.randn(1, 64, 9, 7).bfloat16().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = module(x)
        torch.testing.assert_close(y.to(x.dtype), module(x), atol=0.1, rtol=0.1)
        weight, given = torch.randn(y.shape), x.detach().double().requires_grad_()
        ours = torch.autograd.grad((y.float() * weight).sum(), [x, *module.parameters()])
        right = torch.autograd.grad((exact(given) * weight).sum(), [given, *exact.parameters()])
        flat, wanted = (torch.cat([one.double().flatten() for one in found]) for found in (ours, right))
        assert torch.cosine_similarity(flat, wanted, dim=0) > 0.99

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_stays_finite_in_mixed_precision_on_a_strong_map(self, name: str, dtype: torch.dtype) -> None:
        """Maps of standard deviation 300: a sum that is scaled afterwards has left the range of fp16 before."""
        module = build(name)
        x = (torch.randn(2, 64, 9, 8) * 300).requires_grad_()
        with torch.autocast("cpu", dtype=dtype):
            y = module(x)
        ((y.float() / 300).square().mean() / 300).backward()  # or a weight seen by a gate gets more than fp16 holds
        assert y.isfinite().all()
        for key, gradient in [("x", x.grad), *((key, p.grad) for key, p in module.named_parameters())]:
            assert gradient is not None, key
            assert gradient.isfinite().all(), key

    def test_repeats_itself(self, name: str) -> None:
        module = build(name).eval()
        x = torch.randn(2, 64, 9, 8)
        assert torch.equal(module(x), module(x))

    def test_does_not_modify_its_input(self, name: str) -> None:
        module = build(name)
        x = torch.randn(2, 64, 9, 8)
        before = x.clone()
        module(x)
        module.eval()
        with torch.inference_mode():
            module(x)
        assert torch.equal(x, before)

    def test_trains_after_inference_mode(self, name: str) -> None:
        module = build(name)
        x = torch.randn(2, 64, 6, 6)
        with torch.inference_mode():
            module(x)
        module(x.requires_grad_()).sum().backward()

    def test_compiles_without_a_graph_break(self, name: str) -> None:
        module = build(name).eval()
        x = torch.randn(2, 64, 6, 5)
        torch.compiler.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler says about itself
            compiled = torch.compile(module, fullgraph=True, backend=BACKEND)
            y = compiled(x)
        torch.testing.assert_close(y, module(x), atol=ATOL[torch.float32], rtol=1e-4)

    @pytest.mark.filterwarnings("ignore:There is a performance drop")
    def test_gradients_of_each_image_by_function_transforms(self, name: str) -> None:
        """What ``vmap(grad(...))`` of `torch.func` gives, image by image, sums up to the batch's gradient."""
        module = build(name, 16).double().eval()
        x, weight = torch.randn(2, 2, 16, 7, 5, dtype=torch.float64)
        values = {key: p.detach() for key, p in module.named_parameters()}

        def loss(x: Tensor, values: dict[str, Tensor], weight: Tensor) -> Tensor:
            return (torch.func.functional_call(module, values, (x[None],))[0] * weight).sum()

        found = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), (0, None, 0))(x, values, weight)
        (module(x.requires_grad_()) * weight).sum().backward()
        torch.testing.assert_close(found[0], x.grad, atol=1e-9, rtol=1e-9)
        for key, parameter in module.named_parameters():
            torch.testing.assert_close(found[1][key].sum(0), parameter.grad, atol=1e-9, rtol=1e-9)

    def test_forward_mode_agrees_with_backward_mode(self, name: str) -> None:
        if name == "dat":
            pytest.skip("PyTorch has no forward mode for grid_sample")
        module = build(name, 16).double().eval()
        x, direction, weight = torch.randn(3, 2, 16, 7, 5, dtype=torch.float64)
        with sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():  # the fused kernels have no forward mode either
            tangent = forward_ad.unpack_dual(module(forward_ad.make_dual(x, direction))).tangent
        (module(x.requires_grad_()) * weight).sum().backward()
        torch.testing.assert_close((tangent * weight).sum(), (x.grad * direction).sum(), atol=1e-9, rtol=1e-9)

    @pytest.mark.parametrize("form", ["onnx static", "onnx", "openvino static", "openvino", "torchscript"])
    def test_exports_with_equal_numbers_at_other_sizes(self, name: str, form: str, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime", reason="needs the [export] extra")
        module = build(name).eval()
        x, other = torch.randn(1, 64, 10, 12), torch.randn(2, 64, 15, 7)
        if form == "openvino static":  # where a window larger than the map is told
            x = x[..., :3, :5].contiguous()
        exported = {
            "onnx static": lambda: to_onnx(module, x, tmp_path / "m.onnx"),
            "onnx": lambda: to_onnx(module, x, tmp_path / "m.onnx", dynamic=True),
            "openvino static": lambda: to_openvino(module, x, tmp_path / "m.xml"),
            "openvino": lambda: to_openvino(module, x, tmp_path / "m.xml", dynamic=True),
            "torchscript": lambda: to_torchscript(module, x, tmp_path / "m.torchscript"),
        }[form]()
        deviation = parity(module, exported, (x, other) if exported.dynamic else (x,), bound=Bound(1e-4, 1e-3))
        assert deviation.within, str(deviation)
        if form.startswith("openvino"):
            assert products_with_weights_in_front(tmp_path / "m.xml") == []

    def test_has_no_tensor_the_host_cannot_convert(self, name: str) -> None:
        """Tensors of rank 5 break channels_last; children named f, i, type or np are overwritten by the host."""
        module = build(name)
        assert all(tensor.dim() <= 4 for tensor in module.state_dict().values())
        assert not {"f", "i", "type", "np"} & set(dict(module.named_children()))

    def test_cost_formula_is_what_runs(self, name: str) -> None:
        assert zoo.mechanism(name).cost, f"{name} has no cost: @register(cost=...), 0 where nothing is multiplied"
        module = build(name).eval()
        for height, width in ((14, 14), (8, 20)):
            x = torch.randn(1, 64, height, width)
            # The counter knows the plain products of an attention; of the fused CPU kernel it counts nothing.
            plain = sdpa_kernel(SDPBackend.MATH), zoo.kernel("tiled")
            with plain[0], plain[1], FlopCounterMode(display=False) as counter, torch.no_grad():
                module(x)
            assert module.macs(height, width) == counter.get_total_flops() // 2

    def test_record_is_complete(self, name: str) -> None:
        record = zoo.mechanism(name)
        for key in ("summary", "paper", "code", "differs", "formula", "growth", "family"):
            assert getattr(record, key), f"{name} has no {key}"
        assert record.year > 1990, f"{name} has no year"
        for section in ("Shape:", "Example:"):
            assert section in (record.cls.__doc__ or ""), f"the docstring of {name} has no {section}"
        for option in record.options.values():
            assert option.about, f"{name}'s option {option.name} is not described"
            assert hasattr(build(name), option.name), f"{name} does not keep its option {option.name}"


WRONG: dict[str, list[object]] = {
    "bool": ["no", "off", 1, 1.5, [True]],
    "int": [1.5, "x", True, float("nan"), [4]],
    "float": ["small", float("nan"), float("inf"), False, [0.5]],
}
"""Values that no option of a type takes: a word for a switch is not read as true."""


def wrong_options() -> list[tuple[str, str, object]]:
    """Return every option of a plain type, ``None`` besides or not, with each value that is none of this type."""
    found: list[tuple[str, str, object]] = []
    for name in NAMES:
        for option in list(inspect.signature(zoo.mechanism(name).cls).parameters.values())[1:]:
            values = WRONG.get(option.annotation.removesuffix(" | None"), ["x", 1.5, (1.5, 2)])
            found += [(name, option.name, value) for value in values if option.annotation != "str"]
    return found


@pytest.mark.parametrize(("name", "option", "value"), wrong_options())
def test_an_option_of_another_type_is_refused(name: str, option: str, value: object) -> None:
    record = zoo.mechanism(name)
    with pytest.raises(OptionError, match=rf"^{record.cls.__name__} needs {option} to be .*, got "):
        record.cls(64, **{**record.cls.fit(64), option: value})


UNLIKE = {
    "lsk": "its gate has mean zero",
    "lska": "its gate has mean zero",
    "psa_block": "a block of its own, between two projections",
    "shuffle_attention": "it shuffles the channels",
}
"""Gates whose result is not like the map that they gate, and why."""


@pytest.mark.parametrize("name", NAMES)
def test_a_mechanism_whose_result_holds_its_input_is_a_gate_and_no_other(name: str) -> None:
    """A gate that is grafted as a mixer adds the map a second time, and a mixer as a gate takes the map away."""
    record = zoo.mechanism(name)
    module, x = record.cls(64, **record.cls.fit(64)).eval(), torch.randn(2, 64, 16, 16)
    with torch.no_grad():
        likeness = torch.corrcoef(torch.stack([module(x).flatten(), x.flatten()]))[0, 1].item()
    assert (likeness > 0.5) == (record.role == "gate" and name not in UNLIKE)
    assert abs(likeness) < 0.2 or likeness > 0.7  # nothing between that could fall on either side


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.randn(64, 6, 6), r"\(B, 64, H, W\).*\(64, 6, 6\)"),
        (lambda: torch.randn(1, 32, 6, 6), r"64 channels.*\(1, 32, 6, 6\)"),
        (lambda: torch.randn(1, 64, 0, 6), r"no empty axis.*\(1, 64, 0, 6\)"),
        (lambda: torch.ones(1, 64, 6, 6, dtype=torch.int64), r"floating-point.*int64"),
    ],
    ids=["rank", "channels", "empty", "integers"],
)
def test_bad_input_gets_one_clear_sentence(name: str, make: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        build(name)(make())  # type: ignore[operator]
