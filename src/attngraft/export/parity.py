"""Does an exported file give the module's numbers? Measured on inputs, not assumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from attngraft._core.calls import Example, arguments, mode, tensors
from attngraft._core.errors import ExportParityError, MissingExtraError, first_line
from attngraft.export.exported import Array, Exported

Split: TypeAlias = Callable[[Sequence[Array]], Mapping[str, Array]]
"""Names the outputs, or parts of them that have a unit of their own, such as boxes and scores."""
Run: TypeAlias = Callable[..., Sequence[Array]]
"""Takes the tensors of one input and returns the outputs, flat."""
Pairs: TypeAlias = Mapping[str, tuple[Array, Array]]
"""What is held against each other, by name: what the module gave, and what the file gave."""


@dataclass(frozen=True)
class Bound:
    """The largest deviation that passes.

    Attributes:
        absolute: In the unit of the output.
        relative: By the largest magnitude in the module's output.
    """

    absolute: float = math.inf
    relative: float = math.inf


FULL = Bound(relative=1e-3)
"""For float32: two orders above what runtimes differ by, two below a frozen size or a wrong axis."""
HALF = Bound(relative=5e-2)
"""For weights stored in float16."""


@dataclass(frozen=True)
class OutputDeviation:
    """How far one output of an exported file is from the module's, at the input where it is furthest.

    Attributes:
        name: Of the output.
        absolute: Largest absolute difference of an element; infinite when an element is not finite.
        relative: The same by the largest magnitude in the module's output.
        bound: What passes.
        inputs: Shapes of the input where it is furthest.
    """

    name: str
    absolute: float
    relative: float
    bound: Bound
    inputs: tuple[tuple[int, ...], ...]

    @property
    def within(self) -> bool:
        """Whether both deviations are inside the bound."""
        return self.absolute <= self.bound.absolute and self.relative <= self.bound.relative

    @property
    def rank(self) -> tuple[bool, float, float]:
        """What tells which of two deviations of an output is the further: one outside its bound before any inside."""
        used = [_used(getattr(self, key), allowed) for key, allowed in vars(self.bound).items()]
        return not self.within, max(used), self.relative

    def __str__(self) -> str:
        allowed = ", ".join(f"{key} {value:.0e}" for key, value in vars(self.bound).items() if value < math.inf)
        found = f"{self.name} {self.absolute:.1e}, relative {self.relative:.1e} at {self.inputs}"
        return f"{found} (bound: {allowed or 'none'})"


@dataclass(frozen=True)
class Deviation:
    """How far an exported file is from the module over several inputs.

    Attributes:
        outputs: The largest deviation of each output.
        error: What went wrong where the file could not be run or gave outputs of another shape.
    """

    outputs: tuple[OutputDeviation, ...]
    error: str = ""

    @property
    def within(self) -> bool:
        """Whether the file ran on every input and every output is inside its bound."""
        return not self.error and all(output.within for output in self.outputs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which knows no infinity: None stands for it."""
        outputs = [
            {
                "name": output.name,
                "absolute": _finite(output.absolute),
                "relative": _finite(output.relative),
                "bound": {key: _finite(value) for key, value in vars(output.bound).items()},
                "inputs": [list(shape) for shape in output.inputs],
                "within": output.within,
            }
            for output in self.outputs
        ]
        return {"within": self.within, "error": self.error, "outputs": outputs}

    def __str__(self) -> str:
        return self.error or "; ".join(map(str, self.outputs))


def parity(
    module: nn.Module,
    exported: Exported,
    inputs: Iterable[Example],
    *,
    bound: Bound | Mapping[str, Bound] | None = None,
    split: Split | None = None,
) -> Deviation:
    """Run inputs through a module and its exported file, and compare.

    Args:
        module: What was exported, in float32 on the CPU.
        exported: The file.
        inputs: What to run; give a dynamic file sizes other than the exported one.
        bound: What passes, for all outputs or by name; None takes `FULL` or, for float16 weights, `HALF`.
        split: How to name the outputs; None numbers them ``y0``, ``y1``, in the order of the module's tensors.

    Returns:
        The largest deviation of each output; a file that cannot be run on an input is a finding, not an exception.

    Raises:
        MissingExtraError: If the runtime of the file is not installed.
    """
    allowed = bound or (HALF if exported.half else FULL)
    named = split or number

    def pair(expected: Sequence[Array], actual: Sequence[Array]) -> Pairs:
        got = named(actual)
        return {name: (wanted, got[name]) for name, wanted in named(expected).items()}

    return furthest(
        lambda *x: _outputs(module, x),
        exported,
        inputs,
        pair=pair,
        bound=lambda name: allowed if isinstance(allowed, Bound) else allowed.get(name, Bound()),
    )


def furthest(
    expect: Run,
    run: Run,
    inputs: Iterable[Example],
    *,
    pair: Callable[[Sequence[Array], Sequence[Array]], Pairs],
    bound: Callable[[str], Bound],
) -> Deviation:
    """Run inputs through what was exported and through its file, and keep the furthest deviation of each name.

    Args:
        expect: Runs what was exported.
        run: Runs the file.
        inputs: What to run.
        pair: Says what of the outputs is held against each other, once their shapes agree.
        bound: Says what passes, by name.

    Returns:
        The deviations; a file that cannot be run on an input is a finding, not an exception.

    Raises:
        MissingExtraError: If the runtime of the file is not installed.
    """
    found: dict[str, OutputDeviation] = {}
    for example in inputs:
        shapes = tuple(tuple(x.shape) for x in arguments(example))
        expected = expect(*arguments(example))
        try:
            actual = run(*arguments(example))
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001 (each runtime has errors of its own)
            return Deviation(tuple(found.values()), f"fails at {shapes}: {first_line(error)}")
        if _shapes(actual) != _shapes(expected):
            differ = f"gives {_shapes(actual)} at {shapes}, the module {_shapes(expected)}"
            return Deviation(tuple(found.values()), differ)
        for name, (wanted, got) in pair(expected, actual).items():
            one = OutputDeviation(name, *differences(wanted, got), bound(name), shapes)
            if name not in found or one.rank > found[name].rank:
                found[name] = one
    return Deviation(tuple(found.values()))


def require_parity(
    module: nn.Module,
    exported: Exported,
    inputs: Iterable[Example],
    *,
    bound: Bound | Mapping[str, Bound] | None = None,
    split: Split | None = None,
) -> Deviation:
    """Do what `parity` does, and put a file aside that is not within its bound, as ``*.rejected``.

    Args:
        module: What was exported.
        exported: The file.
        inputs: What to run.
        bound: What passes.
        split: How to name the outputs.

    Raises:
        ExportParityError: If it is not; says what differs by how much, and where the file is now.
    """
    deviation = parity(module, exported, inputs, bound=bound, split=split)
    if not deviation.within:
        kept = exported.put_aside()
        raise ExportParityError(
            f"{exported.path.name} does not give the numbers of {type(module).__name__}: {deviation}", kept
        )
    return deviation


def number(outputs: Sequence[Array]) -> dict[str, Array]:
    """Name outputs by their place: ``y0``, ``y1``."""
    return {f"y{i}": output for i, output in enumerate(outputs)}


def _outputs(module: nn.Module, example: Example) -> list[Array]:
    with mode(module, train=False), torch.no_grad():
        return [y.numpy() for y in tensors(module(*arguments(example)))]


def _shapes(outputs: Sequence[Array]) -> dict[str, tuple[int, ...]]:
    return {name: output.shape for name, output in number(outputs).items()}


def differences(expected: Array, actual: Array) -> tuple[float, float]:
    """Return the largest absolute difference, and that by the largest magnitude expected."""
    difference = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    absolute = float(difference.max(initial=0.0))
    if not math.isfinite(absolute):
        return math.inf, math.inf
    scale = float(np.abs(expected).max(initial=0.0))
    return absolute, absolute / scale if scale else (math.inf if absolute else 0.0)


def _used(found: float, allowed: float) -> float:
    """Return how much of what is allowed is found, 1 where all of it is."""
    if not found or allowed == math.inf:
        return 0.0
    return found / allowed if allowed else math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
