"""The plain loops that parity tests are written with: no torch.nn.functional, no padding, no groups argument."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def randomise(module: nn.Module) -> nn.Module:
    """Give every weight, bias and norm statistic a value of its own, in float64 and evaluation mode."""
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
    return module


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def counted_macs(module: nn.Module, height: int, width: int) -> int:
    """Count the multiply-adds that run; the counter knows the plain products of attention, not the fused CPU kernel."""
    x = torch.randn(1, module.channels, height, width)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    flops: int = counter.get_total_flops()
    return flops // 2


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """Correlate, zeros outside the map, same size; the number of groups is read from the weight's shape."""
    B, C, H, W = x.shape
    outputs, per_group, kh, kw = weight.shape
    outputs_per_group = outputs // (C // per_group)
    out = x.new_zeros(B, outputs, H, W)
    for o, i, j in product(range(outputs), range(H), range(W)):
        first = o // outputs_per_group * per_group
        for u, v in product(range(kh), range(kw)):
            y, z = i + dilation * (u - kh // 2), j + dilation * (v - kw // 2)
            if 0 <= y < H and 0 <= z < W:
                out[:, o, i, j] += x[:, first : first + per_group, y, z] @ weight[o, :, u, v]
        if bias is not None:
            out[:, o, i, j] += bias[o]
    return out


def conv1d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return conv2d(x[:, :, None], weight[:, :, None], bias)[:, :, 0]


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Normalise each channel by the running statistics."""
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        normalised = (x[:, c] - norm.running_mean[c]) / (norm.running_var[c] + norm.eps).sqrt()
        out[:, c] = normalised * norm.weight[c] + norm.bias[c]
    return out


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise the values of each image's channel groups by their own mean and 1/N variance."""
    out = torch.empty_like(x)
    per_group = x.shape[1] // groups
    for b, g in product(range(len(x)), range(groups)):
        values = x[b, g * per_group : (g + 1) * per_group]
        mean = values.sum() / values.numel()
        variance = ((values - mean) ** 2).sum() / values.numel()
        for c in range(g * per_group, (g + 1) * per_group):
            out[b, c] = (x[b, c] - mean) / (variance + eps).sqrt() * weight[c] + bias[c]
    return out


def official(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Make a state as an authors' module has it: random numbers that take gradients, and running statistics."""
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, dtype=torch.float64) * 0.5
        if ".running_" in name:
            state[name] = value.abs() + 0.5 if name.endswith("var") else value
        else:
            state[name] = value.requires_grad_()
    return state


def norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Name what a batch norm holds."""
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def normed(x: Tensor, state: Mapping[str, Tensor], name: str, eps: float = 1e-5) -> Tensor:
    """Normalise each channel by the running statistics of a state."""
    mean, variance, weight, bias = (
        state[f"{name}.{part}"].view(-1, *(1,) * (x.dim() - 2))
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def assert_same(
    module: nn.Module,
    slow: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    state: Mapping[str, Tensor],
    x: Tensor,
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    cancelled: Collection[str] = (),
) -> None:
    """Compare outputs, and the gradients of the input and of every number of an authors' state.

    Args:
        module: Ours.
        slow: The equations, of the input and that state.
        state: The authors' state, of numbers that take gradients.
        x: The input.
        convert: Makes our state of theirs.
        cancelled: Biases of theirs before a batch norm, which takes them away in training: their gradients are not
            compared.
    """
    module.double().eval()
    ours = {name: value.double() for name, value in module.state_dict().items()} | dict(convert(state))
    ours = {name: value.detach() if ".running_" in name else value for name, value in ours.items()}
    assert set(ours) == set(module.state_dict())
    takes = [value for name, value in state.items() if value.requires_grad and name not in cancelled]
    found = []
    for run in (lambda x: torch.func.functional_call(module, ours, (x,)), lambda x: slow(x, state)):
        image = x.clone().requires_grad_()
        y = run(image)
        weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
        found.append([y, *torch.autograd.grad((y * weight).sum(), [image, *takes], materialize_grads=True)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)
    module.load_state_dict({name: value.detach() for name, value in ours.items()})
    # What is divided by a traced size is of single precision.
    torch.testing.assert_close(traced(module, x), found[1][0].detach(), atol=1e-5, rtol=1e-5)


def traced(module: nn.Module, x: Tensor) -> Tensor:
    """Return the output of the graph that is traced of a module for export, which may be of other operations."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = torch.jit.trace(module, (x,), check_trace=False)
        output: Tensor = graph(x)
    return output
