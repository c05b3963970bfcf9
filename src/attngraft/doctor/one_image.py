"""Gradients of one image against those of the same image twice, and who is to blame where they differ.

PyTorch's batch norm on the CPU goes by the stride of the batch axis, which is arbitrary where that axis has one image
(2.13 to 2.14.1). A gradient that lies token by token leaves a stride there that it misreads: the gradients of all
layers before it are wrong, outputs are right, and nothing says so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attngraft._core.calls import backward, in_place
from attngraft.doctor.findings import Outcome, failed, passed, warned

FAR = 1e-6
"""Relative difference of float64 gradients from which they are not the same computation in another order."""
NEGLIGIBLE = 1e-9
"""Part of the largest gradient below which a whole tensor's counts as zero."""
REMEDY = (
    "train with batch=2 or more, or on a GPU: PyTorch's batch norm on the CPU misreads a gradient that lies token by "
    "token where there is one image. In code of your own, make tokens with x.permute(0, 2, 3, 1).flatten(1, 2)"
)


def compare(network: nn.Module, x: Tensor, *, batch: int, where: str = "") -> Outcome:
    """Compare the gradients of one image with those of a batch that holds it twice.

    Both run in float64 with the statistics of batch norms kept, so that nothing but the batch axis differs.

    Args:
        network: What to look at, in training; left as it was.
        x: One image or map, ``(1, C, H, W)``.
        batch: Images in a training step; with more than one, a fault of PyTorch's is a warning.
        where: What surrounds the subject, for the message.
    """
    network = _prepared(network)
    x = x.double()
    twice = _gradients(network, x.repeat(2, 1, 1, 1))
    wrong = _differing(_gradients(network, x), twice)
    if not wrong:
        return passed(f"{len(twice)} tensors{where}")
    detail = f"{len(wrong)} of {len(twice)} gradients are wrong with one image{where}, such as {wrong[0]}"
    with _plain_layouts(network) as misread:
        still = _differing(_gradients(network, x), twice)
    if still or not misread:
        return failed(detail, "look for a squeeze, a mean or a reshape over the batch axis")
    cause = f"{detail}: PyTorch's batch norm misreads the layout at {misread[-1]}; the model's own arithmetic is right"
    training_is_hit = batch == 1 and not torch.cuda.is_available()
    return failed(cause, REMEDY) if training_is_hit else warned(cause, REMEDY)


def _prepared(network: nn.Module) -> nn.Module:
    """Copy a network in float64 and in training, with the statistics of its batch norms kept.

    Its activations write to a new tensor, unlike a checkpoint's: autograd lets nobody write over what a hook hands on.
    """
    network = in_place(without_dropout(copy.deepcopy(network).double().train()), wanted=False)
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
    return network


def without_dropout(network: nn.Module) -> nn.Module:
    """Let the dropouts of a network in training pass everything on; returns it."""
    for part in network.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.eval()
    return network


def _gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the gradients of the input and of every parameter; the loss is a mean over the batch.

    The network is copied: one that notes statistics of its own would be another at the next call.
    """
    network = copy.deepcopy(network)
    network.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    backward(network(x))
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return found if x.grad is None else {**found, "the input": x.grad.sum(0, keepdim=True)}


def _differing(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> list[str]:
    """List the tensors whose gradients are not the same."""
    floor = NEGLIGIBLE * max((float(t.abs().max()) for t in two.values()), default=0.0)
    return [
        name
        for name, expected in two.items()
        if not float((one[name] - expected).abs().max()) <= FAR * max(float(expected.abs().max()), floor)
    ]


@contextmanager
def _plain_layouts(network: nn.Module) -> Iterator[list[str]]:
    """Hand batch norms plain layouts inside, and note the norms whose input or gradient had another."""
    odd: list[str] = []

    def plain(name: str, t: Tensor) -> Tensor:
        if t.stride(0) != t[0].numel() and not t[0].is_contiguous():
            odd.append(name)
        return t.clone(memory_format=torch.contiguous_format)

    def hooks(name: str, norm: nn.Module) -> list[Any]:
        def hook(_: nn.Module, given: Any) -> tuple[Tensor]:
            return (plain(name, given[0]),)

        return [norm.register_forward_pre_hook(hook), norm.register_full_backward_pre_hook(hook)]

    made = [h for name, part in network.named_modules() if isinstance(part, _BatchNorm) for h in hooks(name, part)]
    try:
        yield odd
    finally:
        for hook in made:
            hook.remove()
