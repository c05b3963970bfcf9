"""Checks of what goes in and what comes out: widths, sizes, ranks and layouts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from attngraft.doctor.comparing import CLOSE, distance, has_nonfinite, problems
from attngraft.doctor.findings import Outcome, Wrong, broken, check, expected, failed, passed, said, warned, where
from attngraft.doctor.mechanism.subject import SAME, STATE_REMEDY, Subject

SIZES = ((1, 1), (2, 3), (7, 5), (13, 13), (8, 20), (20, 20), (40, 40))
WIDTHS = (64, 128, 192, 256, 320, 384, 512, 576, 640, 768)
"""Channels at P3, P4 and P5 of the size classes n to x of YOLOv8 to YOLO26."""
SQUARES = (14, 16, 7, 8, 10, 40, 80, 32, 64, 13, 26, 28, 52, 56)
"""Sides of maps that pasted classes are made for: ImageNet's at 224 pixels, and detectors' at 224 to 640."""
SIZES_REMEDY = "take the size from x.shape in every forward; keep no table for one size, pad in place of dividing"
NOT_FINITE = "values are not finite"
HOST_NAMES = frozenset({"f", "i", "type", "np"})
"""Attributes that the parser of Ultralytics sets on every layer."""


@check(remedy="take channels as the first argument, and return one map of the input's shape and type", vital=True)
def builds(subject: Subject) -> Outcome:
    """It builds for a width and returns a map of its input's shape and type."""
    module, x = subject.fresh().eval(), subject.map(20, 20)
    if hidden := hidden_modules(module):
        return failed(f"{hidden} holds modules that PyTorch does not see", "use nn.ModuleList or nn.ModuleDict for it")
    before = {name for name, _ in module.named_parameters()}
    try:
        y = module(x)
    except Exception as error:
        if fixed := _only_size(module, subject):
            look = f"{SIZES_REMEDY}; look at {where(error)}"
            return failed(f"takes maps of {fixed}x{fixed} only, and none of 20x20: {said(error)}", look)
        raise
    made = sorted({name for name, _ in module.named_parameters()} - before)
    if made:
        return failed(f"makes parameters in forward, which no optimizer has: {', '.join(made)}", STATE_REMEDY)
    wrong = _unlike(y, x)
    if wrong:
        return failed(wrong)
    return passed(f"{subject.channels} channels, {tuple(x.shape)}")


@check(remedy="derive options from the width, or give the class a fit(channels) that returns options that work")
def widths(subject: Subject) -> Outcome:
    """Every size class of a detector, n to x, can have it."""
    refused: dict[str, list[int]] = {}
    trials = {}
    for channels in WIDTHS:
        try:
            module = subject.fresh(channels).eval()
        except Exception as error:  # noqa: BLE001 (a stranger's code)
            refused.setdefault(said(error), []).append(channels)
            continue
        trials[str(channels)] = partial(_keep_shape, module, torch.randn(1, channels, 4, 5))
    wrong = problems(trials)
    if wrong:
        return broken(wrong, " channels")
    if refused:
        groups = (f"{', '.join(map(str, widths))} ({why})" for why, widths in refused.items())
        return warned(f"does not build at {', '.join(groups)}")
    return passed(f"{', '.join(map(str, WIDTHS))} channels")


@check(remedy=SIZES_REMEDY)
def sizes(subject: Subject) -> Outcome:
    """Maps of any size give finite values: square, rectangular, odd, tiny, large, alone and in a batch."""
    module = subject.perturbed().eval()
    trials = {
        f"{height}x{width}": partial(_keep_shape, module, subject.map(height, width, 1), subject.map(height, width, 2))
        for height, width in SIZES
    }
    wrong = problems(trials)
    if wrong and all(str(error) == NOT_FINITE for error in wrong.values()):
        return replace(broken(wrong), remedy="mind the variance of one cell, and divisions and roots of what can be 0")
    return broken(wrong) if wrong else passed(", ".join(trials))


@check(remedy="keep tables at rank 1 to 4 (5 breaks channels_last) and give the child modules other names")
def host(subject: Subject) -> Outcome:
    """Ultralytics can convert its tensors and set its own attributes on it."""
    module = subject.fresh()
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    wrong = [f"{key} has rank {value.dim()}" for key, value in held.items() if value.dim() > 4]
    wrong += [f"a child is called {name!r}" for name, _ in module.named_children() if name in HOST_NAMES]
    return failed("; ".join(wrong)) if wrong else passed(f"{len(held)} tensors of rank 4 or less")


@check(remedy="use reshape in place of view on maps", needs=SAME)
def channels_last(subject: Subject) -> Outcome:
    """The memory layout that Ultralytics converts to gives the same numbers."""
    module, x = subject.perturbed().eval(), subject.map(8, 6)
    usual = module(x)
    module.to(memory_format=torch.channels_last)
    with expected():
        off = distance(module(x.to(memory_format=torch.channels_last)), usual)
    if off > CLOSE:
        return failed(f"differs by {off:.1e}")
    return passed("same numbers")


def hidden_modules(module: nn.Module) -> str:
    """Name the attribute, a plain list, tuple or dictionary, in which PyTorch does not find modules; empty if none is.

    Example:
        >>> module = nn.Identity()
        >>> module.heads = [nn.Conv2d(8, 8, 1)]
        >>> hidden_modules(module), hidden_modules(nn.Sequential(nn.Identity()))
        ('heads', '')
    """
    for path, child in module.named_modules():
        for name, value in vars(child).items():
            values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
            if not name.startswith("_") and any(isinstance(one, nn.Module) for one in values):
                return f"{path}.{name}" if path else name
    return ""


def _only_size(module: nn.Module, subject: Subject) -> int | None:
    """Return the side of the first square map that a module takes."""
    trials = {str(side): partial(_keep_shape, module, subject.map(side, side)) for side in SQUARES}
    refused = problems(trials)
    return next((side for side in SQUARES if str(side) not in refused), None)


def _keep_shape(module: nn.Module, *maps: Tensor) -> None:
    with torch.no_grad():
        for x in maps:
            y = module(x)
            wrong = _unlike(y, x) or (NOT_FINITE if has_nonfinite(y) else "")
            if wrong:
                raise Wrong(wrong)


def _unlike(y: object, x: Tensor) -> str:
    """Say how an output is not a map like the input, if it is not."""
    if not isinstance(y, Tensor) or y.shape != x.shape:
        return f"returns {tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__} for {tuple(x.shape)}"
    return f"returns {y.dtype} for {x.dtype}" if y.dtype != x.dtype else ""
