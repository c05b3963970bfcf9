"""How a module is called by whoever measures, exports or examines it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from attngraft._core.errors import OptionError

Example: TypeAlias = Tensor | tuple[Tensor, ...]
"""What a module is called with: one tensor, or a tuple of positional ones."""


def arguments(example: Example) -> tuple[Tensor, ...]:
    """Return the positional arguments that an example stands for."""
    return (example,) if isinstance(example, Tensor) else tuple(example)


def tensors(output: object) -> list[Tensor]:
    """List the tensors in whatever a module returned, depth first.

    Example:
        >>> [t.item() for t in tensors({"a": torch.tensor(1), "b": [torch.tensor(2), None]})]
        [1, 2]
    """
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return [tensor for item in output for tensor in tensors(item)]
    return []


@contextmanager
def mode(module: nn.Module, *, train: bool) -> Iterator[None]:
    """Put a module in training or evaluation mode, and every part of it back as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.train(train)
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Undo what calls inside do to a module's buffers and gradients, such as running statistics."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    module.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def forward(module: nn.Module, example: Example) -> Callable[[], object]:
    """Return the call that an inference is: forward, no gradient."""
    inputs = arguments(example)

    def call() -> object:
        with torch.no_grad():
            return module(*inputs)

    return call


def training_step(module: nn.Module, example: Example) -> Callable[[], object]:
    """Return the call that a training step is, up to the optimizer: forward, mean square, backward.

    Inputs that require a gradient get one, as those of a layer inside a network do; an image does not. Gradients add up
    in place from the second call on.
    """
    inputs = tuple(x.detach().requires_grad_(x.requires_grad) for x in arguments(example))

    def call() -> object:
        loss = mean_square(module(*inputs))
        if not loss.requires_grad:
            raise OptionError(
                f"{type(module).__name__} has nothing to train: no parameter and no input that requires a gradient; "
                "give an example made with requires_grad=True"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return call


def backward(output: object) -> None:
    """Send a gradient back from every floating-point tensor in an output."""
    mean_square(output).backward()  # type: ignore[no-untyped-call]


def mean_square(output: object) -> Tensor:
    """Return the mean square of every floating-point tensor in an output, summed: a loss that reaches all of it."""
    return torch.stack([y.float().square().mean() for y in tensors(output) if y.is_floating_point()]).sum()


def in_place(model: nn.Module, *, wanted: bool) -> nn.Module:
    """Let a model's activations overwrite their input, as Ultralytics does when it loads a checkpoint, or not.

    A model that was built from a YAML, and every model in training, does not: two are compared fairly only alike.
    """
    for part in model.modules():
        if hasattr(part, "inplace") and type(part).__module__.startswith("torch."):
            part.inplace = wanted  # type: ignore[assignment]
    return model
