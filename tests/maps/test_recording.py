"""The recorder: what it finds, that it is exact in real models, and that nothing is left behind."""

from __future__ import annotations

import copy
import itertools
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attngraft import maps
from attngraft._core.errors import MapError
from attngraft.attention import EMA, HAB, MHA, MHSA, AIFIEncoder, PlainConv, mechanisms


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


@pytest.fixture
def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), MHSA(16), EMA(16), MHA(16, heads=2)).eval()


class TestRecord:
    def test_finds_attentions_and_gates_in_order(self, small: nn.Module) -> None:
        with maps.record(small) as tape:
            small(x := torch.randn(2, 3, 9, 14))
        assert list(tape.attentions) == ["1", "3"]
        assert list(tape.gates) == ["2"]
        assert tape["1"].grid == (5, 7)
        assert tape["3"].rows([4]).shape == (2, 2, 1, 35)
        gate = tape.gates["2"]
        torch.testing.assert_close(gate.values() * gate.map(), small[:3](x))

    def test_leaves_no_hook_behind_even_after_an_exception(self, small: nn.Module) -> None:
        with maps.record(small):
            assert hooks(small) > 0
        assert hooks(small) == 0
        with pytest.raises(ZeroDivisionError), maps.record(small):
            raise ZeroDivisionError
        assert hooks(small) == 0

    def test_changes_no_output(self, small: nn.Module) -> None:
        x = torch.randn(2, 3, 9, 14)
        expected = small(x)
        with maps.record(small) as tape:
            assert torch.equal(small(x), expected)
        first = tape["1"].rows()
        with maps.record(small) as again:
            small(x)
        assert torch.equal(again["1"].rows(), first)

    def test_the_last_call_counts_and_in_place_operators_do_no_harm(self) -> None:
        attention = MHSA(8)
        model = nn.Sequential(attention, nn.ReLU(inplace=True)).eval()
        x = torch.randn(1, 8, 4, 4)
        expected = attention.attention_rows(x)
        with maps.record(model) as tape:
            model(torch.randn(1, 8, 5, 3))
            model(x)
            x.zero_()
        torch.testing.assert_close(tape["0"].rows(), expected)
        assert tape["0"].grid == (4, 4)

    def test_what_heads_mixed_is_kept_as_it_was(self) -> None:
        attention = MHSA(8, heads=2)
        model = nn.Sequential(attention, nn.ReLU(inplace=True)).eval()
        with maps.record(model) as tape, torch.no_grad():
            model(x := torch.randn(3, 8, 5, 3))
        mixed = tape["0"].mixed()
        assert mixed.shape == (3, 2, 15, 4)
        torch.testing.assert_close(mixed, tape["0"].rows() @ tape["0"].values())
        torch.testing.assert_close(mixed.transpose(2, 3).reshape(x.shape), attention(x))

    def test_half_precision_and_inference_mode(self) -> None:
        model = nn.Sequential(MHSA(16)).half().eval()
        with maps.record(model) as tape, torch.inference_mode():
            model(torch.randn(1, 16, 6, 5).half())
        rows = tape["0"].rows([3])
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.sum(3), torch.ones(1, 4, 1))

    def test_autocast(self, small: nn.Module) -> None:
        x = torch.randn(1, 3, 12, 10)
        with maps.record(small) as plain:
            small(x)
        with maps.record(small) as tape, torch.autocast("cpu", torch.bfloat16):
            y = small(x.requires_grad_())
        torch.testing.assert_close(tape["3"].rows([4]), plain["3"].rows([4]), atol=0.02, rtol=0.05)
        assert tape["1"].weighted(y.float().sum(), [4]).isfinite().all()
        assert tape.gates["2"].values().dtype == torch.float32

    def test_blocks_are_read_at_their_attention(self) -> None:
        model = nn.Sequential(HAB(16, heads=2, window=4, shift=2, squeeze=4), AIFIEncoder(16)).eval()
        with maps.record(model) as tape:
            model(torch.randn(1, 16, 6, 7))
        assert list(tape.attentions) == ["0.attn", "1"]
        assert tape["0.attn"].grid == (6, 7)

    def test_a_mechanism_of_a_user(self) -> None:
        class Mean(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.mean((2, 3), keepdim=True).expand_as(x)

            def attention_rows(self, x: Tensor, cells: Tensor) -> Tensor:
                N = x.shape[2] * x.shape[3]
                return x.new_full((len(x), 1, len(cells), N), 1 / N)

        model = nn.Sequential(nn.Conv2d(3, 4, 1), Mean()).eval()
        with maps.record(model) as tape:
            y = model(torch.randn(1, 3, 4, 5).requires_grad_())
        assert tape["1"].rows(torch.tensor([2])).sum() == pytest.approx(1)
        with pytest.raises(MapError, match="`mixture`"):
            tape["1"].weighted(y.sum(), [2])
        with pytest.raises(MapError, match="`mixture`"):
            tape["1"].mixed()
        with pytest.raises(MapError, match="attention_values"):
            tape["1"].values()

    @pytest.mark.parametrize("name", [n for n, m in mechanisms().items() if m.cls.__module__.startswith("attngraft.")])
    def test_every_mechanism_is_recorded_or_says_why_not(self, name: str) -> None:
        cls = mechanisms()[name].cls
        module = cls(32, **cls.fit(32)).eval()  # type: ignore[attr-defined]
        reason = getattr(cls, "no_map", None)
        assert name != "plain_conv" or "fixed filters" in str(reason)
        if reason is not None:
            with (
                pytest.raises(MapError, match=f"{cls.__name__} has no attention.*{re.escape(reason)}"),
                maps.record(module),
            ):
                pass
            return
        with maps.record(module) as tape:
            module(torch.randn(2, 32, 6, 5))
        assert tape.attentions or tape.gates
        for attention in tape.attentions.values():
            assert attention.rows([0, 29]).shape[2:] == (2, 30)
        for gate in tape.gates.values():
            assert (gate.values() * gate.map()).shape == (2, 32, 6, 5)


class TestRefusals:
    def test_of_what_cannot_be_recorded(self, small: nn.Module) -> None:
        traced = torch.jit.script(nn.Conv2d(3, 4, 1)).eval()
        compiled_in_place = copy.deepcopy(small)
        compiled_in_place.compile()
        for model, message in (
            (traced, "is exported"),
            (torch.compile(small), "is compiled"),
            (compiled_in_place, "is compiled"),
            (nn.DataParallel(small), "spread over devices"),
            (copy.deepcopy(small).train(), "training mode"),
            ("best.onnx", "got str"),
            (nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), "Sequential has no attention"),
            (nn.Sequential(PlainConv(4)).eval(), "0: it convolves"),
        ):
            with pytest.raises(MapError, match=message), maps.record(model):  # type: ignore[arg-type]
                pass

    def test_of_rows_that_are_not_there(self, small: nn.Module) -> None:
        with maps.record(small) as tape:
            with pytest.raises(MapError, match="has not run in the with block"):
                tape["1"].rows()
            with pytest.raises(MapError, match="has not run in the with block"):
                tape.gates["2"].values()
            small(torch.randn(1, 3, 1, 1))
        assert tape["1"].rows([0]).flatten().tolist() == [1.0] * 4  # one cell attends to itself
        with pytest.raises(MapError, match="did you mean|there are: 1, 3"):
            tape["7"]
        with pytest.raises(MapError, match="from 0 to 0"):
            tape["1"].rows([1])

    def test_a_model_without_attention_may_be_allowed(self) -> None:
        with maps.record(nn.Sequential(nn.ReLU()).eval(), require=False) as tape:
            pass
        assert not tape.attentions


class TestWeighted:
    @pytest.mark.parametrize("name", [n for n, m in mechanisms().items() if hasattr(m.cls, "attention_rows")])
    def test_is_the_derivative_with_respect_to_each_weight(self, name: str) -> None:
        """Against finite differences: add epsilon to one weight of one head by moving the mixture that it makes."""
        torch.manual_seed(1)
        cls = mechanisms()[name].cls
        module = cls(32, **cls.fit(32)).double().eval()  # type: ignore[attr-defined]
        x = torch.randn(2, 32, 4, 5, dtype=torch.float64)
        probe = torch.randn(2, 32, 4, 5, dtype=torch.float64)
        with maps.record(module) as tape:
            score = (module(x.requires_grad_()) * probe).sin().sum()
            (path,) = tape.attentions
            weighted = tape[path].weighted(score, [7])
        attention: Any = tape[path]
        rows, values = attention.rows([7]), attention.values()
        image, key, epsilon = 1, 13, 1e-5
        for head in {0, rows.shape[1] - 1}:
            finite = []
            for step in (epsilon, -epsilon):
                delta = step * values[image, head, key]
                finite.append(_score_with(attention, module, x, probe, image, head, delta, name))
            derivative = (finite[0] - finite[1]) / (2 * epsilon)
            torch.testing.assert_close(weighted[image, head, 0, key], rows[image, head, 0, key] * derivative)

    def test_needs_gradients(self, small: nn.Module) -> None:
        with maps.record(small) as tape, torch.no_grad():
            y = small(torch.randn(1, 3, 8, 8))
        with pytest.raises(MapError, match="without gradients"):
            tape["1"].weighted(y.sum())

    def test_needs_a_score_that_depends_on_it(self, small: nn.Module) -> None:
        other = torch.ones(1, requires_grad=True)
        with maps.record(small) as tape:
            small(torch.randn(1, 3, 8, 8))
        with pytest.raises(MapError, match="does not depend on 1"):
            tape["1"].weighted(other.sum())


def _score_with(
    attention: Any, module: nn.Module, x: Tensor, probe: Tensor, image: int, head: int, delta: Tensor, name: str
) -> Tensor:
    """Run a mechanism with one head's mixture of cell 7 moved by ``delta``; of a shared context, by its share."""
    mixture, width = attention._how.mixture, len(delta)
    first = (head // module.groups if name == "dat" else head) * width  # type: ignore[operator]
    calls = itertools.count()

    def move(value: Tensor) -> Tensor:
        value = value.clone()
        channels = slice(first, first + width)
        if name == "cascaded_group":  # which is read off head by head
            if next(calls) != head:
                return value
            channels = slice(0, width)
        if mixture.layout == "map":
            value[image, channels, 1, 2] += delta
        elif mixture.layout == "cells":
            value[image, 1, 2, channels] += delta
        elif mixture.layout == "tokens":
            value[image, 7, channels] += delta
        else:
            value[image, channels] += delta
        return value

    entered = [mixture.enters, "proj"] if name == "irmb" else [mixture.enters]  # whose mixture goes two ways
    handles = [
        attention.module.get_submodule(path).register_forward_pre_hook(lambda _m, inputs: (move(inputs[0]),))
        if path
        else attention.module.register_forward_hook(lambda _m, _i, output: move(output))
        for path in entered
    ]
    try:
        return (module(x) * probe).sin().sum().detach()
    finally:
        for handle in handles:
            handle.remove()
