"""Finds where the heads of a transformers model meet: the linear map that mixes them, by what it reads.

The input of that map is ``concat_h softmax(q_h k_h^T / sqrt(d) + mask) v_h``. One eager forward pass runs through
transformers' own interface of attention functions, which is given the weights A and the values V of every attention;
the first linear map after it whose input is A V is the output projection. So no list of names is needed, and a model
whose layers do something else to the heads, such as a gate, is refused instead of misread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import OptionError

NAME = "attngraft"
"""How the interface calls our function."""
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Largest difference between A V and what the projection reads, relative to the largest value; others take `COARSE`."""
COARSE = 2e-2


@dataclass(frozen=True)
class Projection:
    """A linear map that mixes heads.

    Attributes:
        name: Path of the module.
        heads: Number of heads in its input, which are equal parts of the last axis.
        dim: Width of a head.
    """

    name: str
    heads: int
    dim: int


def find_projections(model: nn.Module, run: Callable[[], Any]) -> list[Projection]:
    """Return the output projections of all attentions of a transformers model, in the order in which they run.

    Args:
        model: The model, in evaluation mode.
        run: Runs it once on something short.

    Raises:
        OptionError: If it has no attention whose heads can be told apart; says why.
    """
    name = type(model).__name__
    if getattr(getattr(model, "config", None), "kv_lora_rank", None):
        raise OptionError(
            f"{name} makes the values of all heads from one small vector (multi-head latent attention, MLA); keys by "
            "heads need a model whose heads have keys and values of their own, such as Llama, Qwen3 or BERT"
        )
    probe = _Probe(model)
    with probe.running(), torch.no_grad():
        run()
    if not probe.calls:
        raise OptionError(
            f"{name} has no attention that transformers' interface reaches (a state space model such as Mamba, or "
            "fused and quantized layers); give a model with ordinary attention, such as Llama, Qwen3 or BERT"
        )
    if not probe.found:
        raise OptionError(
            f"no linear map of {name} reads what its heads put together ({probe.calls} attentions ran); something else "
            "mixes them first, so give another model"
        )
    return list(probe.found.values())


@contextmanager
def reading(model: nn.Module, names: list[str], take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Hand over what output projections read while the context is open.

    Args:
        model: The model.
        names: Paths of the projections.
        take: Gets the number of the projection among the names, and its input ``(B, N, heads * dim)``.
    """

    def hook(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, args: take(number, args[0])

    with ExitStack() as hooks:
        for number, name in enumerate(names):
            handle = model.get_submodule(name).register_forward_pre_hook(hook(number))
            hooks.callback(handle.remove)
        yield


class _Probe:
    """Stands in for a model's attention function, and watches what is read after it."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, 0
        self.found: dict[str, Projection] = {}
        self._wanted: Tensor | None = None
        self._heads = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let every attention of the model run through this probe."""
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        AttentionInterface.register(NAME, self.attend)
        AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
        before = self.model.config._attn_implementation
        with ExitStack() as undo:
            for name, module in self.model.named_modules():
                if "Linear" in type(module).__name__ or type(module).__name__ == "Conv1D":
                    undo.callback(module.register_forward_pre_hook(self._watching(name)).remove)
            if self.model._can_set_attn_implementation():
                undo.callback(self.model.set_attn_implementation, before)
                self.model.set_attn_implementation(NAME)
            yield

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as the model's eager form does, and note A V."""
        eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        if eager is None:
            raise OptionError(f"{type(module).__name__} has no eager attention, by which its heads could be checked")
        mixed, weights = eager(module, query, key, value, mask, **options)  # (B, N, h, d), (B, h, N, N)
        self.calls, self._heads, self._wanted = self.calls + 1, mixed.shape[2], None
        if weights is not None:
            values = value.repeat_interleave(weights.shape[1] // value.shape[1], 1)  # (B, h, N, d)
            self._wanted = (weights.double() @ values.double()).transpose(1, 2).flatten(2)
        return mixed, weights

    def _watching(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def watch(module: nn.Module, args: tuple[Any, ...]) -> None:
            if self._wanted is not None and args and self._is_wanted(args[0]):
                self.found.pop(name, None)  # a module that several layers share stands where it ran last
                self.found[name] = Projection(name, self._heads, args[0].shape[-1] // self._heads)
                self._wanted = None

        return watch

    def _is_wanted(self, x: Any) -> bool:
        if not isinstance(x, Tensor) or self._wanted is None or x.shape != self._wanted.shape:
            return False
        allowed = TOLERANCE.get(x.dtype, COARSE) * float(self._wanted.abs().max())
        return float((x.double() - self._wanted).abs().max()) <= allowed
