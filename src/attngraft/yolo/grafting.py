"""What stands in a grafted model: the modules that checkpoints pickle, so none of them moves.

A grafted layer keeps its class, its index and its keys. It gains one child, ``grafts``, and one forward hook under a
string key; both survive pickle, deepcopy, fuse, tracing and a rebuild, because the recipe stands in the model's YAML.
`attngraft.yolo.joining` puts them there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.registry import Role
from attngraft.attention._base import Attention
from attngraft.yolo.placing import CHILD

# PyTorch numbers its hooks from 0 in every process, so a pickled number would be overwritten by the next hook there.
HOOK_KEY = "attngraft"


class Graft(nn.Module):
    """A mechanism that starts as the identity, or in its paper's form.

    A mixer is added, ``x + gamma * f(x)``; a gate is blended, ``x + gamma * (f(x) - x)``. With ``gamma`` at zero the
    output equals the input bit for bit. In the paper's form a mixer is ``x + f(x)``, a gate ``f(x)``, without gamma.

    Args:
        mechanism: The module, ``(B, C, H, W)`` to the same shape.
        channels: Number of channels C.
        role: ``mixer`` or ``gate``.
        identity: Whether to start as the identity.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``
    """

    def __init__(self, mechanism: nn.Module, channels: int, role: Role, *, identity: bool = True) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.role = role
        self.gamma = nn.Parameter(torch.zeros(channels)) if identity else None

    def reset_parameters(self) -> None:
        """Return to the start: the identity, where the graft has a gamma; the mechanism's own are its own to reset."""
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the mechanism joined to it."""
        y: Tensor = self.mechanism(x)
        if self.gamma is None:
            return x + y if self.role == "mixer" else y
        change = y if self.role == "mixer" else y - x
        return x + self.gamma[:, None, None] * change


class BoTConv(nn.Module):
    """BoTNet's stand-in for a 3x3 convolution: attention, batch norm, activation.

    Source: the BoT block of arXiv 2101.11605, between its two 1x1 convolutions. A convolution of stride 2 becomes
    attention at the resolution that comes in and a 2x2 average pool.

    Args:
        mechanism: The attention.
        channels: Number of channels C.
        act: The activation of the convolution whose place it takes.
        stride: 1 or 2.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, ceil(H / stride), ceil(W / stride))``
    """

    def __init__(self, mechanism: nn.Module, channels: int, act: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.mechanism = mechanism
        if stride > 1:
            self.pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended, normalised and activated map."""
        y: Tensor = self.mechanism(x)
        if "pool" in self._modules:  # not in checkpoints from before convolutions of stride 2 were replaced
            y = self.pool(y)
        out: Tensor = self.act(self.norm(y))
        return out


class TokenEncoder(nn.Module):
    """A transformer encoder layer on maps whose attention is a mechanism; the rest is the layer whose place it takes.

    ``x + f(x)`` and ``x + ffn(x)``, each with the layer's own norm and dropout, after the sum or before as that layer
    has it. Positions are the mechanism's own matter: the layer's sine and cosine table is not added.

    Args:
        mechanism: The attention, ``(B, C, H, W)`` to the same shape.
        layer: The encoder layer, with ``fc1 fc2 norm1 norm2 dropout dropout1 dropout2 act normalize_before``.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``
    """

    PARTS = ("fc1", "fc2", "norm1", "norm2", "dropout", "dropout1", "dropout2", "act")
    fc1: nn.Module
    fc2: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    dropout: nn.Module
    dropout1: nn.Module
    dropout2: nn.Module
    act: nn.Module

    def __init__(self, mechanism: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.mechanism = mechanism
        for name in self.PARTS:
            self.add_module(name, getattr(layer, name))
        self.normalize_before = bool(layer.normalize_before)

    def forward(self, x: Tensor) -> Tensor:
        """Return the encoded map."""
        B, C, H, W = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        tokens = self._add(tokens, self.norm1, self.dropout1, lambda t: self._attend(t, B, C, H, W))
        tokens = self._add(tokens, self.norm2, self.dropout2, self._feed_forward)
        return tokens.transpose(1, 2).reshape(B, C, H, W)

    def _add(self, x: Tensor, norm: nn.Module, dropout: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        if self.normalize_before:
            return x + dropout(branch(norm(x)))
        y: Tensor = norm(x + dropout(branch(x)))
        return y

    def _attend(self, tokens: Tensor, B: int, C: int, H: int, W: int) -> Tensor:
        y: Tensor = self.mechanism(tokens.transpose(1, 2).reshape(B, C, H, W))
        return y.flatten(2).transpose(1, 2)

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.dropout(self.act(self.fc1(tokens))))
        return y


def apply_grafts(layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """Forward hook of a grafted layer: pass its output through its grafts, in order."""
    grafted: Tensor = getattr(layer, CHILD)(output)
    return grafted


def reset_mechanisms(model: nn.Module) -> None:
    """Let every mechanism of a model draw its tensors again, one that holds others after them.

    Args:
        model: A model of which each layer was reset as PyTorch does, so that what mechanisms set themselves is lost.
    """
    for part in reversed([part for part in model.modules() if isinstance(part, Attention)]):
        part.reset_parameters()


def stripped(model: nn.Module) -> nn.Module:
    """Return a copy of a model without the grafts that follow its layers."""
    bare = copy.deepcopy(model)
    for layer in list(bare.modules()):
        if hasattr(layer, CHILD) and isinstance(getattr(layer, CHILD), nn.Sequential):
            layer._forward_hooks.pop(HOOK_KEY, None)  # type: ignore[call-overload]
            delattr(layer, CHILD)
    return bare
