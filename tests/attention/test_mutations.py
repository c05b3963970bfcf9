"""Tests of the tests: a mechanism that is broken on purpose must fail the tests of its own file.

An entry of `MUTATIONS` replaces one piece of a mechanism's source. The broken source takes the place of the real
module, its test file is loaded anew on top of it, and one of the tests there that take no fixture must fail. A mutant
has to run: one that only crashes proves nothing of the numbers, so it is an error here and not a success.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import attngraft.attention as zoo
from attngraft._core import registry


class Mutation(NamedTuple):
    """A mistake to make in a mechanism.

    Attributes:
        mechanism: Its registry name.
        mistake: What goes wrong.
        old: The text to replace; it must stand exactly once in the file, so that a drifting table is noticed.
        new: The text that takes its place.
        files: The module that holds the text, where it is not the mechanism's own, and those between the two.
    """

    mechanism: str
    mistake: str
    old: str
    new: str
    files: str = ""


MUTATIONS = [
    Mutation("eca", "max for mean", "x.mean((2, 3))", "x.amax((2, 3))"),
    Mutation("eca", "batch mixed", "x.mean((2, 3)).unsqueeze(1)", "x.mean((0, 2, 3)).view(1, 1, -1)"),
    Mutation("eca", "bias added", "bias=False", "bias=True"),
    Mutation("eca", "residual added", "return x * self", "return x + x * self"),
    Mutation("eca", "kernel fixed", "= adaptive_kernel_size(channels) if kernel_size is None else kernel_size", "= 3"),
    Mutation("se", "max for mean", "x.mean((2, 3))", "x.amax((2, 3))"),
    Mutation("se", "batch mixed", "x.mean((2, 3))", "x.mean((0, 2, 3)).expand(x.shape[:2])"),
    Mutation("se", "bias added", "channels, hidden, bias=bias", "channels, hidden, bias=True"),
    Mutation("se", "residual added", "return x * self", "return x + x * self"),
    Mutation("se", "relu dropped", ".relu()", ""),
    Mutation("mhsa", "scale dropped", "(self.channels // self.heads) ** -0.5 if self.scale else 1.0", "1.0"),
    Mutation("mhsa", "query and key swapped", "attend(q, k, v,", "attend(k, q, v,"),
    Mutation("mhsa", "batch mixed", "self.qkv(x)", "self.qkv(x.mean(0, keepdim=True).expand_as(x))"),
    Mutation("mhsa", "residual added", "return attend(", "return x + attend("),
    Mutation("mhsa", "bias dropped", "bias=self.bias)", "bias=False)"),
    Mutation(
        "mhsa",
        "height and width tables swapped",
        "(self.height_table, 2 * H - 1), resample(self.width_table, 2 * W - 1)",
        "(self.width_table, 2 * H - 1), resample(self.height_table, 2 * W - 1)",
    ),
    Mutation(
        "mhsa",
        "circulated positions the right way round",
        "torch.cat((q, place), 2), torch.cat((k, q), 2)",
        "torch.cat((q, q), 2), torch.cat((k, place), 2)",
    ),
    Mutation("mhsa", "offsets of columns moved by one", "2 * H + W - 2 -", "2 * H + W - 3 -", "_kernel_cpu _kernels"),
    Mutation(
        "mhsa",
        "softmax in base 2",
        "scale * LOG2_E, out=weights)\n            peak",
        "scale, out=weights)\n            peak",
        "_kernel_cpu _kernels",
    ),
    Mutation("grn", "sum for the mean", "norms.mean(1, keepdim=True)", "norms.sum(1, keepdim=True)"),
    Mutation("grn", "mean over the cells too", "norms.mean(1, keepdim=True)", "norms.mean((0, 1), keepdim=True)"),
    Mutation("grn", "input not added", "return 1 + ", "return "),
    Mutation("grn", "offset dropped", " + self.offset[:, None, None].to(x.dtype)", ""),
    Mutation("shsa", "scale dropped", "attend(q, k, v, scale=self.key_dim**-0.5)", "attend(q, k, v, scale=1.0)"),
    Mutation("shsa", "relu before the channels meet", "(mixed, passed), 1).relu()", "(mixed.relu(), passed), 1)"),
    Mutation("shsa", "norm dropped", "self.qkv(self.norm(x[:, : self.attended]))", "self.qkv(x[:, : self.attended])"),
    Mutation("tssa", "sign dropped", "self.proj(-w * self._gate(w))", "self.proj(w * self._gate(w))"),
    Mutation("tssa", "softmax over cells", ".softmax(1).unsqueeze(2)", ".softmax(2).unsqueeze(2)"),
    Mutation("tssa", "temperature dropped", " * self.temperature)", ")"),
    Mutation("mala", "offset dropped", " - z * values.mean(3, keepdim=True)", ""),
    Mutation("mala", "rows and columns swapped", "torch.cat((by_row, by_column))", "torch.cat((by_column, by_row))"),
    Mutation("mala", "turned the other way", "even * cosine - odd * sine", "even * cosine + odd * sine"),
    Mutation("pola", "signs not swapped", "torch.cat((q_minus, q_plus), 2)", "torch.cat((q_plus, q_minus), 2)"),
    Mutation("pola", "power fixed", "(1 + self.alpha *", "(3 + 0 * self.alpha *"),
    Mutation("cafm", "temperature dropped", " * self.temperature)", ")"),
    Mutation("cafm", "lengths over the channels", "dim=3) for t", "dim=2) for t"),
    Mutation("cafm", "forms swapped", 'if self.form == "code":', 'if self.form != "code":'),
    Mutation("msla", "shortcut of the convolution dropped", "(part + conv(part))", "conv(part)"),
    Mutation("msla", "softmaxes swapped", '(3, 4) if self.form == "paper"', '(4, 3) if self.form == "paper"'),
    Mutation("criss_cross", "the cell itself twice", "y[:, None] == y, -torch.inf", "y[:, None] == y, 0.0"),
    Mutation("criss_cross", "rows and columns swapped", "weights[..., :H].transpose", "weights[..., -H:].transpose"),
    Mutation("bam", "input not added", "return 1 + logits", "return logits"),
    Mutation("bam", "logits always added", 'if self.combine == "sum"', 'if True or self.combine == "sum"'),
    Mutation("bam", "dilation dropped", "3, padding=dilation, dilation=dilation", "3, padding=1"),
    Mutation("sk", "softmax over channels", ".softmax(1)", ".softmax(2)"),
    Mutation("sk", "norm of the choice dropped", "self.squeeze_norm(self.squeeze(", "(self.squeeze("),
    Mutation("rfa", "softmax over channels", ".softmax(2)", ".softmax(1)"),
    Mutation("rfa", "border means of fewer cells", "stride=1, padding=", "stride=1, count_include_pad=False, padding="),
    Mutation("rfcbam", "taps in columns", "planes.permute(0, 1, 4, 2, 5, 3)", "planes.permute(0, 1, 4, 3, 5, 2)"),
    Mutation("rfcbam", "relu of the channel gate dropped", "(x.mean((2, 3))).relu()", "(x.mean((2, 3)))"),
    Mutation(
        "halo", "tables swapped", "placed @ self._spread(self.height_table", "placed @ self._spread(self.width_table"
    ),
    Mutation("halo", "zeros seen", 'if self.border == "mask"', 'if self.border == "zero"'),
    Mutation("halo", "offsets moved by one", "own[:, None] + self.window - 1", "own[:, None] + self.window - 2"),
    Mutation("cascaded_group", "heads side by side", "share + found[-1][3] if found else share", "share"),
    Mutation(
        "cascaded_group", "scale dropped", "at_least_single(queries) * self.key_dim**-0.5", "at_least_single(queries)"
    ),
    Mutation("cascaded_group", "relu dropped", "self.proj(found.relu())", "self.proj(found)"),
    Mutation("mha", "scale dropped", "attention(q, k, v)", "attention(q, k, v, scale=1.0)"),
    Mutation("mha", "query and key swapped", "attention(q, k, v)", "attention(k, q, v)"),
    Mutation("mha", "bias dropped", "self.proj(gathered)", "gathered @ self.proj.weight.T"),
    Mutation("mha", "batch mixed", "to_tokens(x)", "to_tokens(x.mean(0, keepdim=True).expand_as(x))"),
    Mutation("mha", "height and width swapped", "to_tokens(x)", "to_tokens(x.transpose(2, 3))"),
    Mutation("mha", "residual added", "return to_map(", "return x + to_map("),
    Mutation("psa_attention", "scale dropped", "scale=self.key_dim**-0.5", "scale=1.0"),
    Mutation("psa_attention", "scale of the values", "scale=self.key_dim**-0.5", "scale=self.value_dim**-0.5"),
    Mutation("psa_attention", "position of x", "self.position(v.reshape(x.shape))", "self.position(x)"),
    Mutation("psa_attention", "kernel fixed", "channels, channels, 3, groups", "channels, channels, 5, groups"),
    Mutation("psa_attention", "residual added", "out: Tensor = ", "out: Tensor = x + "),
    Mutation("psa_attention", "bias before the norm", "bias=False", "bias=True", files="_conv"),
    Mutation("psa_block", "residual dropped", "= x + self.attention(x)", "= self.attention(x)"),
    Mutation("psa_block", "residual added", "return merged", "return x + merged"),
    Mutation("psa_block", "halves swapped", "passed, attended = ", "attended, passed = "),
    Mutation("psa_block", "activation of the MLP dropped", "2 * channels), nn.SiLU()", "2 * channels), nn.Identity()"),
    Mutation("area_attention", "scale dropped", "(q, k, v, mask)", "(q, k, v, mask, scale=1.0)"),
    Mutation("area_attention", "padding seen", "(q, k, v, mask)", "(q, k, v)"),
    Mutation("area_attention", "strips of columns", "to_tokens(qkv)", "to_tokens(qkv.transpose(2, 3))"),
    Mutation("area_attention", "kernel fixed", "channels, kernel_size, groups", "channels, 7, groups"),
    Mutation("area_attention", "batch mixed", "repeat(B, 1, 1, 1)", "repeat_interleave(B, 0)"),
    Mutation("aifi", "scale dropped", "attention(q, k, v)", "attention(q, k, v, scale=1.0)"),
    Mutation("aifi", "height and width swapped", "H, W = x.shape[2:]", "W, H = x.shape[2:]"),
    Mutation("aifi", "positions in the values", "self.value(tokens)", "self.value(tokens + self._positions(x))"),
    Mutation("aifi", "approximate GELU", "nn.GELU()", "nn.GELU('tanh')"),
    Mutation("aifi", "residual dropped", "self.norm2(tokens + self.mlp(tokens))", "self.norm2(self.mlp(tokens))"),
    Mutation("cbam", "means for maxima", "shared_max(x, 2, 3)", "x.mean((2, 3))"),
    Mutation("cbam", "logits averaged", ".sum(0).sigmoid()", ".mean(0).sigmoid()"),
    Mutation("cbam", "norm dropped", "self.norm(self.conv(pooled))", "self.conv(pooled)", files="_gates"),
    Mutation("cbam", "residual added", "return x * spatial_gate", "return x + x * spatial_gate"),
    Mutation("coord_attention", "one layer for both strips", "self.columns(hidden", "self.rows(hidden"),
    Mutation("coord_attention", "SiLU for hard swish", "F.hardswish", "F.silu"),
    Mutation("coord_attention", "norm dropped", "self.norm(self.squeeze(strips))", "self.squeeze(strips)"),
    Mutation("simam", "variance without lambda", "deviation.square() + e_lambda", "deviation.square()"),
    Mutation("simam", "half dropped", ".add_(0.5)", ""),
    Mutation("simam", "gradient of the variance dropped", ".addcmul_(scaled, by_variance, value=-1)", ""),
    Mutation("simam", "gradient of the mean dropped", "d_distance.sub_(d_distance.mean((2, 3), keepdim=True))", "pass"),
    Mutation("gam", "sigmoid dropped", "self.channel(x).sigmoid()", "self.channel(x)"),
    Mutation("gam", "relu dropped", "hidden, 1), nn.ReLU()", "hidden, 1), nn.Identity()"),
    Mutation("shuffle_attention", "shuffle dropped", "halves.transpose(1, 2)", "halves"),
    Mutation("shuffle_attention", "halves swapped", "torch.cat((u, v), 1)", "torch.cat((v, u), 1)"),
    Mutation("nam", "Euclidean shares", "p=1.0", "p=2.0"),
    Mutation("nam", "gradient of the shares cut", "if self.detach else self.norm.weight", "if True else None"),
    Mutation("triplet", "gates not averaged", "hw / 3", "hw"),
    Mutation("triplet", "plane turned over", "z_pool(x, 3).transpose(2, 3)", "z_pool(x, 3).transpose(2, 3).flip(2)"),
    Mutation("ela", "channels mixed", '"B": (7, 1, 16)', '"B": (7, 8, 16)'),
    Mutation("ela", "norm dropped", "self.norm(self.conv(strip))", "self.conv(strip)"),
    Mutation("scsa", "scale dropped", "q * head_dim**-0.5", "q"),
    Mutation("scsa", "norm of the rows for the columns", "x.mean(2), self.norm_columns", "x.mean(2), self.norm_rows"),
    Mutation("scsa", "incomplete windows", "[:, :, : H // size + (size > H), : W // size + (size > W)]", ""),
    Mutation("cpca", "strips side by side", "strip(local) for", "strip(x) for"),
    Mutation("cpca", "local view dropped", "self.strips), local)", "self.strips), 0 * local)"),
    Mutation("cpca", "forms swapped", 'if self.form == "paper" else logits', 'if self.form == "code" else logits'),
    Mutation("lska", "dilation fixed", "self.dilated_size, dilation)", "self.dilated_size, 2)"),
    Mutation(
        "lska",
        "sigmoid added",
        "gate: Tensor = self.proj(self.strips(x))",
        "gate = self.proj(self.strips(x)).sigmoid()",
    ),
    Mutation("global_context", "softmax dropped", ".softmax(2)", ".sigmoid()"),
    Mutation("global_context", "GELU for ReLU", "nn.ReLU()", "nn.GELU()"),
    Mutation("non_local", "scaled by default", "scale=None if self.scale else 1.0", "scale=None"),
    Mutation("non_local", "mean over the cells dropped", "(g / (H * W))", "g"),
    Mutation("non_local", "residual added", "out: Tensor = ", "out: Tensor = x + "),
    Mutation("caa", "border means of fewer cells", "SMOOTHING // 2)", "SMOOTHING // 2, count_include_pad=False)"),
    Mutation(
        "lsk",
        "choices swapped",
        "near * choice[:, :1] + far * choice[:, 1:]",
        "near * choice[:, 1:] + far * choice[:, :1]",
    ),
    Mutation("lsk", "views side by side", "self.far(near)", "self.far(x)"),
    Mutation("epsa", "sigmoid dropped", ".sigmoid().softmax(1)", ".softmax(1)"),
    Mutation("epsa", "order of the reference", "if self.reverse", "if not self.reverse"),
]


def swap_in(monkeypatch: pytest.MonkeyPatch, mechanism: str, mutation: Mutation | None = None) -> None:
    """Put a mechanism's source, run anew with the mutation in it, in the place of the module for one test."""
    monkeypatch.setattr(registry, "_TABLE", dict(registry._TABLE))
    own = zoo.mechanism(mechanism).cls.__module__
    chain = [*(f"{zoo.__name__}.{file}" for file in (mutation.files if mutation else "").split()), own]
    for name in chain:
        path = Path(zoo.__file__).with_name(f"{name.rpartition('.')[2]}.py")
        source = path.read_text(encoding="utf-8")
        if mutation and name == chain[0]:
            assert source.count(mutation.old) == 1, f"not exactly once in {path.name}: {mutation.old!r}"
            source = source.replace(mutation.old, mutation.new)
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, path, "exec"), vars(module))
        for key, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == name and hasattr(zoo, key):
                monkeypatch.setattr(zoo, key, value)


def calls(mechanism: str) -> Iterator[Callable[[], None]]:
    """Load the mechanism's test file and yield each case of each test that takes no fixture."""
    file = zoo.mechanism(mechanism).cls.__module__.rpartition(".")[2]
    spec = importlib.util.spec_from_file_location(f"mutated_{file}", Path(__file__).with_name(f"test_{file}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, test in vars(module).items():
        if name.startswith("test_"):
            marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
            for case in itertools.product(*map(cases, marks)):
                arguments = {key: value for part in case for key, value in part.items()}
                if arguments.keys() == inspect.signature(test).parameters.keys():
                    yield partial(test, **arguments)


def cases(parametrize: pytest.Mark) -> list[dict[str, Any]]:
    names, rows = parametrize.args[:2]
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    rows = [row.values if isinstance(row, type(pytest.param())) else row if len(names) > 1 else (row,) for row in rows]
    return [dict(zip(names, row, strict=True)) for row in rows]


def first_failure(mechanism: str) -> str:
    """Return what the first failing test says, or nothing if all pass."""
    for call in calls(mechanism):
        try:
            call()
        except pytest.skip.Exception:
            continue
        except (AssertionError, pytest.fail.Exception) as failure:
            return f"{call.func.__name__}: {failure}"
    return ""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.mechanism}-{m.mistake}".replace(" ", "_"))
def test_a_broken_mechanism_fails_its_own_tests(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_in(monkeypatch, mutation.mechanism, mutation)
    assert first_failure(mutation.mechanism)


@pytest.mark.parametrize("mechanism", dict.fromkeys(m.mechanism for m in MUTATIONS))
def test_the_same_road_without_a_mutation_passes(mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = getattr(zoo, zoo.mechanism(mechanism).cls.__name__)
    swap_in(monkeypatch, mechanism)
    assert getattr(zoo, before.__name__) is not before
    assert len(list(calls(mechanism))) > 1
    assert not first_failure(mechanism)
