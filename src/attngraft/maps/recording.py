"""Record what every attention and gate of a model did in one forward pass, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import MapError, suggest
from attngraft.attention._precision import at_least_single
from attngraft.attention._rows import Cells, choose, query_cells
from attngraft.maps.gradients import gradients
from attngraft.maps.readers import Grid, Reader, reader


class RecordedAttention:
    """One attention of a model, and what its last call was given.

    Rows are the true weights of the operator: which cells' values a chosen cell took, and how much of each. That is
    what was mixed, not why the model decides as it does.

    Attributes:
        name: Path of the module in the model.
        module: The module.

    Args:
        name: The path.
        how: What reads the module.
    """

    def __init__(self, name: str, how: Reader) -> None:
        self.name = name
        self.module: nn.Module = how.module
        self._how = how
        self._kept: tuple[Any, ...] | None = None
        self._mixed: list[Tensor] = []  # in one part, or in one for each head
        self._entered: list[Tensor] = []

    @property
    def grid(self) -> Grid | None:
        """Rows and columns of the map whose cells ask; None where the queries are a decoder's."""
        return self._how.grid(self._call())

    @property
    def key_grids(self) -> tuple[Grid, ...]:
        """Rows and columns of the maps whose values are mixed; their cells follow each other along N."""
        return self._how.key_grids(self._call())

    @torch.no_grad()
    def rows(self, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered the values of all cells.

        Args:
            cells: Flat indices ``y * W + x``, ``(Q,)`` for all images alike or ``(B, Q)``; of a decoder the numbers of
                its queries. None takes all, which makes N x N numbers a head.

        Returns:
            ``(B, h, Q, N)``, in float32 at least.

        Raises:
            MapError: If the module has not run while it was recorded, or a cell is not on its map.
        """
        rows = self._how.rows(self._call(), cells)
        return at_least_single(rows)

    @torch.no_grad()
    def values(self) -> Tensor:
        """Return what the weights mix, ``(B, h, N, e)``: ``rows @ values`` is what the last projection is given."""
        return self._how.values(self._call())

    @torch.no_grad()
    def mixed(self) -> Tensor:
        """Return what each head put together at every cell while the model ran, ``(B, h, N, e)``.

        That is what the last projection is given, head by head: ``rows @ values``, and where the module adds a term of
        the same head to it, such as a convolution of the values that tells positions, that term too.

        Raises:
            MapError: If the module has not run while it was recorded, or does not say where its mixture is.
        """
        kept = self._call()
        if self._how.mixture is None or not self._entered:
            raise MapError(f"{self.name} does not say where its mixture is read off; give its class a `mixture`")
        return self._how.mixed(_as_weights(self.module, self.joined(self._entered)), kept)

    def weighted(self, score: Tensor, cells: Cells = None) -> Tensor:
        """Return each weight times the derivative of a score with respect to it.

        Where it is above zero, more of that weight would raise the score; rows alone do not tell.

        Args:
            score: One number that depends on the recorded forward pass; its graph is kept.
            cells: The chosen cells, as in `rows`.

        Returns:
            ``(B, h, Q, N)``, of both signs.

        Raises:
            MapError: If the pass ran without gradients, or the score does not depend on this attention.
        """
        (gradient,) = mixture_gradients([self], score)
        return self.weighted_by(gradient, cells)

    def weighted_by(self, gradient: Tensor, cells: Cells = None) -> Tensor:
        """Return each weight times a derivative that `mixture_gradients` gave, as `weighted` does.

        Args:
            gradient: The derivative of a score with respect to the mixture.
            cells: The chosen cells, as in `rows`.
        """
        rows, values = self.rows(cells), self.values()
        upstream = self._how.mixture_gradient(gradient, self._call(), values.shape[3])  # (B, h, N, e)
        upstream = upstream.to(values.dtype).repeat_interleave(values.shape[1] // upstream.shape[1], 1)
        index = query_cells(cells, len(upstream), upstream.shape[2], upstream.device)
        return rows * (choose(upstream, index) @ values.transpose(2, 3)).to(rows.dtype)

    def carriers(self) -> list[Tensor]:
        """Return the tensors that carry the mixture, with their graph: one, or one for each head after the other.

        Raises:
            MapError: If the pass ran without gradients, or the module does not say where its mixture is.
        """
        self._call()
        if self._how.mixture is None:
            raise MapError(f"{self.name} does not say where its mixture is read off; give its class a `mixture`")
        if not self._mixed or not all(part.requires_grad for part in self._mixed):
            raise MapError(
                f"{self.name} was recorded without gradients; run the model outside torch.no_grad(), "
                "on an input with requires_grad"
            )
        return self._mixed

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Put the parts of a mixture, or of its gradient, beside each other along its channels."""
        assert self._how.mixture is not None
        return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1 if self._how.mixture.layout == "map" else -1)

    def _call(self) -> tuple[Any, ...]:
        if self._kept is None:
            raise MapError(f"{self.name} has not run in the with block; call this very model there, not a copy of it")
        return tuple(_as_weights(self.module, value) for value in self._kept)


def mixture_gradients(attentions: Sequence[RecordedAttention], score: Tensor) -> list[Tensor]:
    """Return the derivative of a score with respect to what each attention mixed, in one backward pass.

    Args:
        attentions: Attentions of one recorded pass.
        score: One number that depends on them; its graph is kept.

    Raises:
        MapError: If the pass ran without gradients, or the score does not depend on one of them.
    """
    carriers = [attention.carriers() for attention in attentions]
    if not carriers:
        return []
    derived = iter(gradients(score, list(chain(*carriers))))
    joined = []
    for attention, parts in zip(attentions, carriers, strict=True):
        found = [gradient for gradient in islice(derived, len(parts)) if gradient is not None]
        if len(found) < len(parts):
            raise MapError(f"the score does not depend on {attention.name}")
        joined.append(attention.joined(found))
    return joined


class RecordedGate:
    """One gate of a model, and what its last call was given.

    Attributes:
        name: Path of the module in the model.
        module: The module.

    Args:
        name: The path.
        module: The module, which has ``gate_map(x)``.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name = name
        self.module: Any = module
        self._input: Tensor | None = None

    @torch.no_grad()
    def values(self) -> Tensor:
        """Return the gate, broadcastable to the map that it multiplies: `map`.

        Raises:
            MapError: If the module has not run while it was recorded.
        """
        gate: Tensor = self.module.gate_map(self._call())
        return gate

    @torch.no_grad()
    def map(self) -> Tensor:
        """Return what the gate multiplies, ``(B, C, H, W)``: the module's input, for most."""
        x = self._call()
        gated: Tensor = self.module.gated(x) if hasattr(self.module, "gated") else x
        return gated

    def _call(self) -> Tensor:
        if self._input is None:
            raise MapError(f"{self.name} has not run in the with block; call this very model there, not a copy of it")
        return _as_weights(self.module, self._input)


class Tape:
    """What `record` fills: the attentions and gates of a model by path, in the order of its modules.

    Attributes:
        attentions: What mixes cells.
        gates: What scales them.
        silent: Mechanisms that do neither, and why.
    """

    def __init__(self, model: nn.Module) -> None:
        self.attentions: dict[str, RecordedAttention] = {}
        self.gates: dict[str, RecordedGate] = {}
        self.silent: dict[str, str] = {}
        for name, module in model.named_modules():
            how, kind = reader(module), type(module)
            if how is not None:
                self.attentions[name] = RecordedAttention(name, how)
            if hasattr(kind, "gate_map"):  # of the class: a module looks long for an attribute that it lacks
                self.gates[name] = RecordedGate(name, module)
            if hasattr(kind, "no_map"):
                self.silent[name] = str(kind.no_map)

    def __getitem__(self, name: str) -> RecordedAttention:
        """Return an attention by its path.

        Raises:
            MapError: If the model has none there.
        """
        if name not in self.attentions:
            raise MapError(f"this model has no attention at {name!r}; {suggest(name, self.attentions)}")
        return self.attentions[name]


@contextmanager
def record(model: nn.Module, *, require: bool = True) -> Iterator[Tape]:
    """Record the attentions and gates of a model while it runs.

    Only what they are given is copied, C x N numbers each; weights are computed when they are asked for, for the cells
    that are asked for. Where the model runs several times the last call counts. No hook is left behind, also after an
    exception; the tape stays good after the block.

    Args:
        model: Any PyTorch model in evaluation mode: a grafted or a stock detector, one of ours, a single mechanism.
        require: Whether a model without an attention or gate is an error.

    Yields:
        The tape.

    Raises:
        MapError: If the model cannot be recorded: it is exported, compiled, in training mode, or has nothing to record.

    Example:
        >>> from attngraft.attention import MHSA
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), MHSA(16)).eval()
        >>> with record(model) as tape:
        ...     _ = model(torch.randn(2, 3, 14, 10))
        >>> tape["1"].grid, tape["1"].rows([0, 34]).shape
        ((7, 5), torch.Size([2, 4, 2, 35]))
    """
    require_recordable(model)
    tape = Tape(model)
    if require and not (tape.attentions or tape.gates):
        why = "".join(f"; {name or type(model).__name__}: {reason}" for name, reason in tape.silent.items())
        raise MapError(f"{type(model).__name__} has no attention or gate whose weights could be shown{why}")
    handles: list[Any] = []
    try:
        for attention in tape.attentions.values():
            handles += _watch_attention(attention)
        for gate in tape.gates.values():
            handles.append(gate.module.register_forward_pre_hook(_note_input(gate), with_kwargs=True))
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def require_recordable(model: object) -> None:
    """Raise a `MapError` unless hooks on a model see what its modules do.

    Raises:
        MapError: If it is no module, exported, compiled, spread over devices, or in training mode.
    """
    if not isinstance(model, nn.Module):
        raise MapError(f"maps are recorded of a PyTorch module, got {type(model).__name__}; pass the .pt model")
    if isinstance(getattr(model, "model", None), str):
        raise MapError(
            f"{model.model} is an exported file, and what happens inside it cannot be seen; use the .pt model"
        )
    for name, module in model.named_modules():
        where = f"{name} of this model" if name else "this model"
        if isinstance(module, (torch.jit.ScriptModule, torch.fx.GraphModule)):
            raise MapError(
                f"{where} is exported ({type(module).__name__}), and its parts cannot be seen; use the .pt model"
            )
        if "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None:
            raise MapError(f"{where} is compiled, and its parts cannot be seen; use the module that was compiled")
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise MapError(f"{where} is spread over devices; pass its .module")
    if model.training:
        raise MapError("the model is in training mode, where batches change what it attends to; call model.eval()")


def _as_weights(module: nn.Module, value: Any) -> Any:
    """Give a recorded map the type of a module's weights, from which autocast may have taken it."""
    weight = next(module.parameters(), None)
    if weight is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value.to(weight.dtype)


def _watch_attention(attention: RecordedAttention) -> list[Any]:
    how = attention._how

    def note(_module: nn.Module, args: Any, kwargs: Any) -> None:
        attention._kept, attention._mixed, attention._entered = how.keep(args, kwargs), [], []

    handles = [attention.module.register_forward_pre_hook(note, with_kwargs=True)]
    if how.mixture is not None:
        handles.append(_watch_mixture(attention, how.mixture.enters))
    return handles


def _watch_mixture(attention: RecordedAttention, enters: str) -> Any:
    """Note the tensor that carries the mixture, with its graph: the input of a child, or what leaves the module."""
    child = attention.module.get_submodule(enters)
    if enters and not isinstance(child, nn.MultiheadAttention):

        def before(_module: nn.Module, args: Any) -> None:
            attention._mixed.append(args[0])
            attention._entered.append(args[0].detach())

        return child.register_forward_pre_hook(before)

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        attention._mixed.append(output[0] if isinstance(output, tuple) else output)
        attention._entered.append(attention._mixed[-1].detach().clone())  # what comes after may overwrite it in place

    return child.register_forward_hook(after, prepend=True)  # before a graft on this module changes its output


def _note_input(gate: RecordedGate) -> Any:
    def note(_module: nn.Module, args: Any, kwargs: Any) -> None:
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        gate._input = x.detach().clone()

    return note
