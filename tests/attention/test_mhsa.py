"""MHSA against BoTNet's equations (arXiv 2101.11605) and against the circulated class, both written slowly."""

from __future__ import annotations

import io
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attngraft._core.errors import OptionError
from attngraft.attention import MHSA, _kernel_cpu, _offsets, kernel
from attngraft.attention._positions import resample

POSITIONS = ["relative", "absolute", "circulated", "none"]


def reference(module: MHSA, x: Tensor) -> Tensor:
    """Compute the operator cell by cell; the map has the tables' size."""
    B, C, H, W = x.shape
    d = C // module.heads
    weight = module.qkv.weight[:, :, 0, 0].reshape(module.heads, 3, d, C)
    bias = torch.zeros(module.heads, 3, d) if module.qkv.bias is None else module.qkv.bias.reshape(-1, 3, d)
    out = torch.empty_like(x)
    for b in range(B):
        for head in range(module.heads):
            q, k, v = (
                {(y, x_): weight[head, n] @ x[b, :, y, x_] + bias[head, n] for y in range(H) for x_ in range(W)}
                for n in range(3)
            )
            for i in q:
                logits = torch.stack([logit(module, head, q[i], k[j], q[j], i, j) for j in k])
                weights = logits.exp() / logits.exp().sum()
                out[b, head * d : (head + 1) * d, i[0], i[1]] = sum(
                    w * v[j]
                    for w, j in zip(weights, v, strict=True)  # type: ignore[misc]
                )
    return out


def logit(
    module: MHSA, head: int, q: Tensor, k: Tensor, other_q: Tensor, i: tuple[int, int], j: tuple[int, int]
) -> Tensor:
    """Compute one logit of query ``i`` and key ``j``, each ``(row, column)``; ``other_q`` is the key's own query."""
    factor = len(q) ** -0.5 if module.scale else 1.0
    if module.position == "none":
        return (q @ k) * factor
    H, W = module.size
    height, width = (t[head if t.shape[0] > 1 else 0] for t in (module.height_table, module.width_table))
    if module.position == "relative":
        return (q @ (k + height[j[0] - i[0] + H - 1] + width[j[1] - i[1] + W - 1])) * factor
    if module.position == "absolute":
        return (q @ (k + height[j[0]] + width[j[1]])) * factor
    return (q @ k + (height[i[0]] + width[i[1]]) @ other_q) * factor


class Circulated(nn.Module):
    """The class that is pasted into YOLO copies, from its equations: e = q'k + (r'q), r on cells, no scaling.

    What it calls width are the rows of the map. ``suffix`` is empty in the original and ``_weight`` in the copies.
    """

    suffix = ""

    def __init__(self, n_dims: int, width: int = 14, height: int = 14, heads: int = 4, pos_emb: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Conv2d(n_dims, n_dims, kernel_size=1) for _ in range(3))
        self.pos = pos_emb
        if pos_emb:
            d = n_dims // heads
            self.register_parameter("rel_h" + self.suffix, nn.Parameter(torch.randn(1, heads, d, 1, height)))
            self.register_parameter("rel_w" + self.suffix, nn.Parameter(torch.randn(1, heads, d, width, 1)))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (conv(x).flatten(2).unflatten(1, (self.heads, -1)) for conv in (self.query, self.key, self.value))
        logits = torch.einsum("bhdi,bhdj->bhij", q, k)
        if self.pos:
            tables = dict(self.named_parameters())
            r = (tables["rel_h" + self.suffix] + tables["rel_w" + self.suffix]).flatten(3)  # (1, h, d, N)
            logits = logits + torch.einsum("bhdi,bhdj->bhij", r, q)
        return torch.einsum("bhij,bhdj->bhdi", self.softmax(logits), v).reshape(x.shape)


class CirculatedCopy(Circulated):
    suffix = "_weight"


def shaken(module: MHSA) -> MHSA:
    """Move every parameter away from its start, so that no term is small."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.double()


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("size", [(5, 3), (2, 7)], ids=str)
def test_equals_the_equations(position: str, size: tuple[int, int]) -> None:
    module = shaken(MHSA(6, heads=2, position=position, size=size))
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("options", [{"bias": True, "scale": False}, {"bias": True}], ids=str)
def test_bias_and_scale_are_options(options: dict[str, bool]) -> None:
    module = shaken(MHSA(6, heads=3, size=(3, 5), **options))
    x = torch.randn(1, 6, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("channels", "options", "count"),
    [
        (256, {"size": 20}, 201_600),
        (512, {"size": 14}, 793_344),
        (512, {"size": 7}, 789_760),
        (256, {"position": "circulated", "size": 14}, 204_544),
        (256, {"position": "circulated", "size": 20}, 207_616),
        (512, {"position": "circulated", "size": 14}, 802_304),
        (256, {"position": "none", "bias": True, "scale": False}, 197_376),
    ],
    ids=str,
)
def test_parameter_counts_are_the_published_ones(channels: int, options: dict[str, Any], count: int) -> None:
    assert sum(p.numel() for p in MHSA(channels, **options).parameters()) == count


@pytest.mark.parametrize("position", POSITIONS)
def test_cost_formula_holds_for_every_position(position: str) -> None:
    module = MHSA(16, position=position, size=(6, 9))
    # Of the fused kernel, the counter counts nothing.
    with kernel("tiled"), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.randn(1, 16, 6, 9))
    assert module.macs(6, 9) == counter.get_total_flops() // 2


def test_tables_start_with_the_variance_of_the_authors_correction() -> None:
    module = MHSA(1024, heads=4, size=64)
    assert module.height_table.mean().abs() < 0.002
    assert module.height_table.std().item() == pytest.approx(256**-0.5, rel=0.03)
    assert module.qkv.weight.std().item() == pytest.approx(0.01, rel=0.03)


class TestWhatMustNotMatter:
    """Metamorphic: what changes nothing by the equations, or everything."""

    @pytest.mark.parametrize(("position", "blind"), [("relative", True), ("absolute", True), ("circulated", False)])
    def test_one_vector_added_to_a_whole_table(self, position: str, blind: bool) -> None:
        """Softmax forgets what is equal for all keys. The circulated form fails: its term is transposed."""
        module = shaken(MHSA(12, heads=3, position=position, size=(5, 7)))
        x = torch.randn(1, 12, 5, 7, dtype=torch.float64)
        before = module(x)
        with torch.no_grad():
            for table in (module.height_table, module.width_table):
                table.add_(torch.randn(4, dtype=torch.float64))
        change = (module(x) - before).abs().max().item()
        assert change < 1e-12 if blind else change > 0.1

    def test_relative_logits_depend_on_offsets_only(self) -> None:
        """Content that is the same everywhere leaves the position logits, which must move with the query."""
        module = shaken(MHSA(8, heads=2, size=(7, 5)))
        with torch.no_grad():
            module.qkv.weight.zero_()
        module.qkv.bias = nn.Parameter(torch.randn(24, dtype=torch.float64))
        q = module.qkv.bias.reshape(2, 3, 4)[0, 0] * 4**-0.5
        offsets = _offsets.Offsets(module.height_table[0], module.width_table[0], 7, 5)
        cells = q.reshape(1, 1, 1, 4).expand(1, 1, 35, 4)
        to_row, to_column = _offsets.axis_logits(cells, offsets)
        for y in range(7):
            for other in range(7):
                assert torch.allclose(to_row[0, 0, y, 2, other], q @ module.height_table[0, other - y + 6])
        for x in range(5):
            for other in range(5):
                assert torch.allclose(to_column[0, 0, 3, x, other], q @ module.width_table[0, other - x + 4])

    @pytest.mark.parametrize("position", ["relative", "absolute", "none"])
    def test_no_query_means_the_mean_of_v(self, position: str) -> None:
        module = shaken(MHSA(8, heads=2, position=position, size=(5, 3)))
        x = torch.randn(1, 8, 5, 3, dtype=torch.float64)
        with torch.no_grad():
            module.qkv.weight.view(2, 3, 4, 8)[:, 0] = 0
        v = torch.einsum("hdc,bcyx->bhdyx", module.qkv.weight.view(2, 3, 4, 8)[:, 2], x).flatten(1, 2)
        torch.testing.assert_close(module(x), v.mean((2, 3), keepdim=True).expand_as(x), atol=1e-12, rtol=0)


class TestAnyMapSize:
    def test_smaller_maps_use_the_centre_of_relative_tables(self) -> None:
        large, small = shaken(MHSA(8, size=(6, 9))), MHSA(8, size=(4, 5)).double()
        small.qkv.load_state_dict(large.qkv.state_dict())
        with torch.no_grad():
            small.height_table.copy_(large.height_table[:, 2:9])  # offsets -3..3 of -5..5
            small.width_table.copy_(large.width_table[:, 4:13])  # offsets -4..4 of -8..8
        x = torch.randn(1, 8, 4, 5, dtype=torch.float64)
        assert torch.equal(large(x), small(x))

    def test_larger_maps_interpolate_relative_tables(self) -> None:
        """Offset 0 stays the middle row and the furthest offset the last; between them lines are drawn."""
        table = torch.randn(1, 5, 3, dtype=torch.float64)  # offsets -2..2 of a map of 3
        rows = resample(table, 9)  # offsets -4..4 of a map of 5
        assert torch.equal(rows[:, ::2], table)
        torch.testing.assert_close(rows[:, 1::2], (table[:, 1:] + table[:, :-1]) / 2)

    @pytest.mark.parametrize(
        ("count", "expected"),
        [(1, [10.0]), (2, [10.0, 20.0]), (4, [0.0, 10.0, 20.0, 30.0]), (7, [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0])],
    )
    def test_rule_of_the_tables(self, count: int, expected: list[float]) -> None:
        table = torch.tensor([0.0, 10.0, 20.0, 30.0]).view(1, 4, 1)
        assert resample(table, count).flatten().tolist() == pytest.approx(expected)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
    @pytest.mark.parametrize("rows", [1, 2, 5, 8])
    def test_a_traced_rule_is_the_same_rule(self, rows: int) -> None:
        table = torch.randn(2, rows, 3)
        traced = torch.jit.trace(lambda x: resample(table, x.shape[0]), (torch.zeros(4),), check_trace=False)
        for count in range(1, 12):
            expected = resample(table, count)
            torch.testing.assert_close(traced(torch.zeros(count)), expected, atol=1e-6, rtol=0)
            if count <= rows:
                assert torch.equal(traced(torch.zeros(count)), expected)

    @pytest.mark.parametrize("position", POSITIONS)
    def test_sizes_may_change_from_call_to_call(self, position: str) -> None:
        module = MHSA(8, position=position, size=(6, 4))
        for size in ((6, 4), (1, 1), (13, 2), (3, 11), (6, 4)):
            x = torch.randn(1, 8, *size)
            with kernel("factored"):
                plain = module(x)
            torch.testing.assert_close(module(x), plain, atol=1e-6, rtol=1e-4)


class TestOtherRuntimes:
    @pytest.mark.parametrize(("position", "opset"), [*((position, 18) for position in POSITIONS), ("relative", 11)])
    def test_onnx_takes_maps_below_and_above_the_tables(self, position: str, opset: int) -> None:
        """Opset 11, the oldest that Ultralytics exports, has no fused attention and clips no integers."""
        ort = pytest.importorskip("onnxruntime", reason="needs the [export] extra")
        module = shaken(MHSA(8, position=position, size=(6, 7))).float().eval()
        session = ort.InferenceSession(exported(module, opset), providers=["CPUExecutionProvider"])
        for size in ((6, 7), (4, 3), (9, 5), (11, 13)):
            x = torch.randn(2, 8, *size)
            (y,) = session.run(None, {"x": x.numpy()})
            torch.testing.assert_close(torch.from_numpy(y), module(x), atol=1e-5, rtol=1e-4)

    def test_openvino_takes_maps_below_and_above_the_tables(self) -> None:
        ov = pytest.importorskip("openvino", reason="needs the [export] extra")
        module = shaken(MHSA(8, size=(6, 7))).float().eval()
        core = ov.Core()
        model = core.compile_model(core.read_model(exported(module)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for size in ((6, 7), (4, 3), (11, 13)):
            x = torch.randn(1, 8, *size)
            torch.testing.assert_close(torch.from_numpy(model(x.numpy())[0]), module(x), atol=1e-5, rtol=1e-4)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
    def test_torchscript_takes_other_sizes(self) -> None:
        module = shaken(MHSA(8, size=(6, 7))).float().eval()
        with torch.no_grad():
            traced = torch.jit.trace(module, (torch.randn(1, 8, 6, 7),))
        for size in ((6, 7), (4, 3), (11, 13)):
            x = torch.randn(2, 8, *size)
            torch.testing.assert_close(traced(x), module(x), atol=1e-5, rtol=1e-4)

    def test_compiles_once_for_all_sizes_and_trains(self) -> None:
        module = shaken(MHSA(8, size=(6, 7))).float()
        graphs: list[str] = []

        def backend(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
            graphs.append(graph.code)
            return graph.forward

        torch.compiler.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler says about itself
            compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
            for size in ((6, 7), (4, 3), (5, 6), (3, 5)):
                x = torch.randn(2, 8, *size)
                y = compiled(x)
                torch.testing.assert_close(y, module(x), atol=1e-5, rtol=1e-4)
                y.sum().backward()
        assert len(graphs) == 1
        assert "scaled_dot_product_attention" in graphs[0]


def exported(module: nn.Module, opset: int = 18) -> bytes:
    """Export with the tracing exporter that Ultralytics uses, all sizes free."""
    file = io.BytesIO()
    axes = {name: {0: "B", 2: "H", 3: "W"} for name in "xy"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its age
        torch.onnx.export(
            module, (torch.randn(1, 8, 5, 6),), file, input_names=["x"], output_names=["y"], opset_version=opset,
            dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
    return file.getvalue()


@pytest.mark.parametrize("size", [(7, 5), (4, 6)], ids=str)
def test_equals_timm(size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm.layers.bottleneck_attn")
    theirs = timm.BottleneckAttn(24, feat_size=size, num_heads=3, qk_ratio=1.0, scale_pos_embed=True).double()
    ours = MHSA(24, heads=3, size=size).double()
    with torch.no_grad():
        nn.init.normal_(theirs.qkv.weight)
        ours.qkv.weight.copy_(theirs.qkv.weight.unflatten(0, (3, 3, 8)).transpose(0, 1).flatten(0, 2))
        ours.height_table[0].copy_(theirs.pos_embed.height_rel)
        ours.width_table[0].copy_(theirs.pos_embed.width_rel)
    x = torch.randn(2, 24, *size, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("original", [Circulated, CirculatedCopy])
@pytest.mark.parametrize("size", [(7, 7), (5, 3), (2, 7)], ids=str)
class TestTheCirculatedClass:
    def test_its_state_gives_its_numbers(self, original: type[Circulated], size: tuple[int, int]) -> None:
        theirs = original(12, *size, heads=3).double()
        ours = MHSA(12, heads=3, position="circulated", size=size).double()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(2, 12, *size, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=0)

    def test_its_pickle_becomes_ours(
        self, original: type[Circulated], size: tuple[int, int], its_home: Callable[[type], None]
    ) -> None:
        its_home(original)
        theirs = original(12, *size, heads=3).double().eval()
        theirs.i, theirs.f, theirs.type, theirs.np = 11, -1, "ultralytics.nn.tasks.MHSA", 7
        file = pickle.dumps(nn.Sequential(nn.Identity(), theirs))
        its_home(MHSA)
        ours = pickle.loads(file)[1]
        assert type(ours) is MHSA
        assert not ours.training
        assert (ours.i, ours.f, ours.type, ours.np) == (11, -1, "ultralytics.nn.tasks.MHSA", 7)
        x = torch.randn(2, 12, *size, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=0)
        again = pickle.loads(pickle.dumps(ours))
        assert torch.equal(again(x), ours(x))

    def test_its_copies_without_positions(
        self, original: type[Circulated], size: tuple[int, int], its_home: Callable[[type], None]
    ) -> None:
        its_home(original)
        theirs = original(12, *size, heads=3, pos_emb=False)
        ours = MHSA(12, heads=3, position="none", bias=True, scale=False)
        ours.load_state_dict(theirs.state_dict())
        file = pickle.dumps(theirs.half())
        its_home(MHSA)
        x = torch.randn(2, 12, *size)
        expected = theirs.float()(x)
        torch.testing.assert_close(ours(x), expected, atol=2e-3, rtol=0)  # theirs went through half precision
        unpickled = pickle.loads(file)
        assert unpickled.qkv.weight.dtype == torch.float16
        torch.testing.assert_close(unpickled.float()(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("proj", nn.Conv2d(12, 12, 1)), ("softmax", nn.Softmax(1)), ("scale", 0.5),
        ("key", nn.Conv2d(12, 12, 1, stride=2)), ("value", nn.Conv2d(12, 12, 1, groups=2)),
        ("temperature", nn.Buffer(torch.tensor(0.5))), ("table", nn.Buffer(torch.ones(4), persistent=False)),
    ],
)  # fmt: skip
def test_a_pickle_that_computes_something_else_is_refused(
    name: str, part: object, its_home: Callable[[type], None]
) -> None:
    its_home(Circulated)
    theirs = Circulated(12, 4, 6, heads=3)
    setattr(theirs, name, part)
    file = pickle.dumps(theirs)
    its_home(MHSA)
    with pytest.raises(OptionError, match=f"state of the circulated class, got one with {name}; open it where"):
        pickle.loads(file)


@pytest.fixture
def its_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type], None]]:
    """Return what puts a class where checkpoints look for the circulated one."""
    home = types.ModuleType("circulated_home")
    monkeypatch.setitem(sys.modules, home.__name__, home)
    before = [(cls, cls.__module__, cls.__qualname__) for cls in (Circulated, CirculatedCopy)]

    def put(cls: type) -> None:
        home.MHSA = cls  # type: ignore[attr-defined]
        if cls is not MHSA:
            cls.__module__, cls.__qualname__ = home.__name__, "MHSA"

    yield put
    for cls, module, name in before:
        cls.__module__, cls.__qualname__ = module, name


@pytest.mark.parametrize("options", [{}, {"position": "circulated", "heads": 2, "size": (5, 3)}], ids=str)
def test_a_circulated_state_says_what_it_needs(options: dict[str, Any]) -> None:
    state = Circulated(12, 4, 6, heads=3).state_dict()
    wanted = r"MHSA\(12, position='circulated', heads=3, size=\(4, 6\), bias=True, scale=False\)"
    with pytest.raises(RuntimeError, match=f"of the circulated MHSA; build {wanted}"):
        MHSA(12, **{"heads": 3, **options}).load_state_dict(state)


def test_a_training_step_makes_no_tensor_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.attention.test_kernels import LargestTensor

    cells = 30 * 29
    monkeypatch.setattr(_kernel_cpu, "TILE", 32 * cells)
    monkeypatch.setattr(_kernel_cpu, "BLOCK", 64 * cells)
    for position in POSITIONS:
        module = MHSA(16, heads=1, position=position, size=(30, 29))
        with LargestTensor() as largest:
            module(torch.randn(1, 16, 30, 29)).sum().backward()
        assert largest.elements < cells**2 / 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "channels divisible by heads, got channels=64 and heads=5; heads could be 4 or 8"),
        ({"heads": 0}, "heads to be a positive integer, got 0"),
        ({"position": "rel"}, "'relative', 'absolute', 'circulated', 'none', got 'rel'"),
        ({"size": (0, 14)}, "height to be a positive integer, got 0"),
        ({"size": (14, 2.5)}, r"size to be an integer, or a list of integers, got \(14, 2.5\)"),
        ({"size": (14, 14, 4)}, r"size to be one number or \(H, W\), got \(14, 14, 4\)"),
    ],
    ids=str,
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MHSA(64, **options)


@pytest.mark.parametrize(("channels", "fitted"), [(64, {}), (6, {"heads": 3}), (7, {"heads": 1}), (90, {"heads": 3})])
def test_fit_finds_heads(channels: int, fitted: dict[str, int]) -> None:
    assert MHSA.fit(channels) == fitted
    MHSA(channels, **fitted)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ([], {}),
        ([14, 12, 8], {"size": (14, 12), "heads": 8}),
        ([14], {"size": (14, 14)}),
        ([14, 14, 4, False], {"size": (14, 14), "heads": 4, "position": "none"}),
        ([14, 14, 4, True], {"size": (14, 14), "heads": 4, "position": "relative"}),
    ],
    ids=str,
)
def test_rows_as_they_circulate(row: list[Any], options: dict[str, Any]) -> None:
    """A row of H x W gives a table of H x W, although the circulated class calls its first value width."""
    assert MHSA.from_row(64, *row) == options
    with pytest.raises(ValueError, match=r"takes \[width, height, heads, pos_emb\], got \[64, 14, 14, 4, True\]"):
        MHSA.from_row(64, 64, 14, 14, 4, True)
