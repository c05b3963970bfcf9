"""What a mechanism says that it mixed is what it mixed: rows times values, and gate times map, against what runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attngraft.attention as zoo
from attngraft._core.errors import MapError
from attngraft.attention._rows import Mixture, corners, near_rows, query_cells, spread
from tests.attention.slow import randomise

NAMES = [name for name, record in zoo.mechanisms().items() if record.cls.__module__.startswith("attngraft.")]
ROWS = [name for name in NAMES if hasattr(zoo.mechanism(name).cls, "attention_rows")]
GATES = [name for name in NAMES if hasattr(zoo.mechanism(name).cls, "gate_map")]
SIZES = [(1, 1), (2, 3), (7, 5), (13, 13), (9, 17)]

INNER = {"psa_block": "layers.0.attention", "hab": "attn"}
"""Where the attention stands in blocks that hold one as a module."""

BESIDE = {"area_attention": "position", "bra": "side", "dat": "position", "psa_attention": "position"}
"""Children whose output is added to the mixture before the last projection."""

FORMS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ROWS),
    ("area_attention", {"area": 1}), ("area_attention", {"area": 7}),
    ("bra", {"border": "zero", "regions": 3}), ("bra", {"regions": 3, "topk": 2}),
    ("dat", {"stride": 2, "groups": 2, "half_cell": True}),
    ("focused_linear", {"norm": "head", "heads": 4}), ("focused_linear", {"map_size": None}),
    ("global_context", {"fusion": "multiply"}),
    ("hab", {"window": 4, "shift": 2}), ("hab", {"window": 4, "shift": 3}), ("hab", {"window": 5}),
    ("irmb", {"border": "zero", "window": 3}), ("irmb", {"head_dim": 16, "expansion": 2.0, "window": 4}),
    ("mhsa", {"position": "absolute"}), ("mhsa", {"position": "circulated"}), ("mhsa", {"position": "none"}),
    ("mhsa", {"size": (3, 8)}),
    ("msda", {"border": "zero", "dilations": (1, 2), "heads": 4}),
    ("msda", {"kernel_size": 5, "dilations": (2,), "heads": 4}),
    ("non_local", {"form": "dot_product"}), ("non_local", {"scale": True}),
    ("ocab", {"window": 4, "border": "zero"}), ("ocab", {"window": 4, "overlap": 1.0}),
    ("psa_attention", {"heads": 4, "key_ratio": 0.25}),
    ("mala", {"form": "paper"}), ("mala", {"heads": 8}), ("msla", {"form": "code"}), ("msla", {"heads": 4}),
    ("pola", {"heads": 4, "map_size": None, "qkv_bias": True}),
    ("cascaded_group", {"window": 4, "kernel_sizes": (3, 5, 1, 7)}), ("criss_cross", {"reduction": 2}),
    ("halo", {"window": 4, "halo": 1, "border": "zero"}), ("halo", {"scale_positions": False, "halo": 0}),
    ("shsa", {"attended_channels": 64}), ("shsa", {"key_dim": 5, "attended_channels": 3}),
]  # fmt: skip


def build(name: str, **options: Any) -> nn.Module:
    """Build a mechanism away from its start, in float64."""
    record = zoo.mechanism(name)
    return randomise(record.cls(64, **{**record.cls.fit(64), **options}))


def as_tokens(value: Tensor, mixture: Mixture, size: tuple[int, int]) -> Tensor:
    """Lay out what was read off as ``(B, N, C)``."""
    H, W = size
    if mixture.layout == "map":
        return value.flatten(2).transpose(1, 2)
    if mixture.layout == "cells":
        return value[:, :H, :W].flatten(1, 2)
    return value if mixture.layout == "tokens" else value.unsqueeze(1).expand(-1, H * W, -1)


def what_ran(name: str, module: nn.Module, x: Tensor) -> Tensor:
    """Run a mechanism and read off what its attention gathered, ``(B, N, C)``, by hooks on its children."""
    attention = module.get_submodule(INNER.get(name, ""))
    mixture = attention.mixture
    caught: dict[str, Tensor] = {}
    parts: list[Tensor] = []  # one, or one for each head
    reader = attention.get_submodule(mixture.enters)
    beside = BESIDE.get("psa_attention" if name == "psa_block" else name)
    handles = [reader.register_forward_hook(lambda _m, inputs, out: parts.append(inputs[0] if mixture.enters else out))]
    if beside:
        handles.append(
            attention.get_submodule(beside).register_forward_hook(lambda _m, _i, out: caught.update(beside=out))
        )
    module(x)
    for handle in handles:
        handle.remove()
    gathered = as_tokens(parts[0] if len(parts) == 1 else torch.cat(parts, 1), mixture, x.shape[2:])
    if beside:
        gathered = gathered - caught["beside"][:, :, : x.shape[2], : x.shape[3]].flatten(2).transpose(1, 2)
    return gathered


def what_is_said(name: str, module: Any, x: Tensor, cells: Any = None) -> Tensor:
    """Return rows times values, heads side by side, with the constants that a mechanism's docstring names."""
    rows, values = module.attention_rows(x, cells), module.attention_values(x)
    mixed = rows @ values  # (B, h, Q, e)
    if name == "dat":  # a line for each group of channels; the bias comes once
        bias = module.key_value.bias[64:].unflatten(0, (module.heads, 1, -1))
        mixed = mixed.unflatten(1, (module.heads, -1)).sum(2) + bias
    if name == "bra" and module.border == "zero":  # cells that fill up the map have the bias for a value
        missing = 1 - rows.sum(3, keepdim=True)
        mixed = mixed + missing * module.qkv.bias[128:].unflatten(0, (module.heads, 1, -1))
    said = mixed.transpose(1, 2).flatten(2)
    if name == "focused_linear":
        v = values.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:])
        weight, bias = (t.repeat(module.heads, *(1,) * (t.dim() - 1)) for t in (module.dwc.weight, module.dwc.bias))
        beside = F.conv2d(v, weight, bias, padding=module.kernel_size // 2, groups=64).flatten(2).transpose(1, 2)
        said = said + (beside if cells is None else beside[:, cells])
    return said


@pytest.mark.parametrize(("name", "options"), FORMS, ids=lambda value: str(value))
class TestRows:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_rows_times_values_are_what_runs(self, name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
        module = build(name, **options)
        x = torch.randn(3, 64, *size, dtype=torch.float64)
        torch.testing.assert_close(what_is_said(name, module, x), what_ran(name, module, x), atol=1e-9, rtol=1e-9)

    def test_chosen_rows_are_those_of_all(self, name: str, options: dict[str, Any]) -> None:
        module = build(name, **options)
        x = torch.randn(2, 64, 7, 5, dtype=torch.float64)
        every = module.attention_rows(x)
        torch.testing.assert_close(module.attention_rows(x, [30, 3, 3]), every[:, :, [30, 3, 3]])
        own = module.attention_rows(x, torch.tensor([[1, 2], [33, 4]]))
        torch.testing.assert_close(own, torch.stack([every[0][:, [1, 2]], every[1][:, [33, 4]]]))

    def test_rows_are_weights(self, name: str, options: dict[str, Any]) -> None:
        rows = build(name, **options).attention_rows(torch.randn(2, 64, 7, 5, dtype=torch.float64))
        if options.get("form") == "dot_product" or name == "mala":
            assert rows.min() < 0
            return
        assert rows.min() >= 0
        if (name, options.get("form")) == ("msla", "code"):  # any sum
            return
        total = rows.sum(3)
        assert total.max() <= 1 + 1e-9
        if options.get("border") != "zero" and name != "dat":
            assert total.min() > 1 - 1e-5

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_half_precision_stays_finite(self, name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
        module = build(name, **options).to(dtype)
        rows = module.attention_rows((torch.randn(2, 64, 9, 8) * 8).to(dtype), [0, 71])
        assert rows.isfinite().all()


def test_only_chosen_rows_are_held() -> None:
    """O(Q N): no tensor of the computation has as many elements as N x N on a map of 80 x 80."""
    N, largest = 6400, 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(t, Tensor):
                    largest = max(largest, t.untyped_storage().nbytes() // t.element_size())
            return out

    x = torch.randn(1, 16, 80, 80)
    for name in ROWS:
        module = zoo.mechanism(name).cls(16, **zoo.mechanism(name).cls.fit(16)).eval()
        largest = 0
        with torch.no_grad(), Watch():
            module.attention_rows(x, [0, N - 1])
        assert largest < N * 300, (name, largest)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gate_times_map_is_what_runs(name: str, size: tuple[int, int]) -> None:
    module = build(name)
    x = torch.randn(3, 64, *size, dtype=torch.float64)
    gate = module.gate_map(x)
    assert torch.broadcast_shapes(gate.shape, x.shape) == x.shape
    y = module.gated(x) * gate
    if name == "shuffle_attention":
        y = y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)  # the shuffle of the two halves of the channels
    if name in ("cpca", "tssa"):
        y = module.proj(y)
    if name == "grn":
        y = y + module.offset[:, None, None]
    torch.testing.assert_close(y, module(x), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cpca", {"form": "paper"}), ("polarized", {"order": "sequential"}),
        ("polarized", {"form": "official", "order": "sequential"}), ("polarized", {"form": "official"}),
        ("epsa", {"reverse": True}), ("simam", {"correction": 1}), ("mlca", {"local_size": 3}),
        ("ela", {"variant": "L"}), ("scsa", {"heads": 4, "window_size": 3}),
    ],
    ids=str,
)  # fmt: skip
def test_gates_of_other_forms(name: str, options: dict[str, Any]) -> None:
    module = build(name, **options)
    x = torch.randn(2, 64, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(module.gated(x) * module.gate_map(x), module(x), atol=1e-10, rtol=1e-10)


def test_every_mechanism_says_what_it_mixed_or_why_not() -> None:
    silent = set(NAMES) - set(ROWS) - set(GATES)
    assert silent == {"cafm", "plain_conv", "rfa", "rfcbam", "sk"}
    assert "fixed filters" in zoo.PlainConv.no_map
    assert all(zoo.mechanism(name).cls.no_map for name in silent)


def test_bilinear_weights_are_grid_sample() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    places = torch.rand(2, 11, 2, dtype=torch.float64) * 3 - 1.5
    for align in (True, False):
        expected = F.grid_sample(x, places[:, None], align_corners=align)[:, :, 0]  # (B, C, K)
        near, shares = (t.unsqueeze(1) for t in corners(places, 5, 7, align=align))
        weights = spread(torch.eye(11, dtype=x.dtype).expand(2, 11, 11), near, shares, 35)
        torch.testing.assert_close(x.flatten(2) @ weights.transpose(1, 2), expected)


def test_near_rows_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    keys, inside = torch.tensor([[[[2, 9, 0]]]]), torch.tensor([[[[True, False, True]]]])
    e = torch.e
    torch.testing.assert_close(near_rows(logits, keys, inside), torch.tensor([[[[1, 0, e**2]]]]) / (1 + e**2))
    torch.testing.assert_close(
        near_rows(logits, keys, inside, outside=0.0), torch.tensor([[[[1, 0, e**2]]]]) / (2 + e**2)
    )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([4], r"from 0 to 3 .* 4 to 4"), ([-1], "from -1"), ([[0], [1], [2]], "3 lines for 2 images"),
        (torch.tensor([0.5]), "float32"), (torch.ones(2, 2, 2, dtype=torch.long), r"\(2, 2, 2\)"),
    ],
)  # fmt: skip
def test_bad_cells_get_one_sentence(cells: Any, message: str) -> None:
    with pytest.raises(MapError, match=message):
        query_cells(cells, 2, 4, torch.device("cpu"))
