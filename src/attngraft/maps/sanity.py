"""Whether a relevance map depends on what the model has learned: Adebayo's randomisation check, for detectors.

Source: Sanity Checks for Saliency Maps, Adebayo et al., NeurIPS 2018, arXiv 1810.03292; for detectors Padmanabhan et
    al., 2023, arXiv 2306.02424. A map that stays the same when the weights are scrambled explains the image, not the
    model. Weights are permuted within each tensor instead of drawn again, which keeps their distribution.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attngraft._core.errors import MapError


@dataclass(frozen=True)
class Randomised:
    """One step of the check.

    Attributes:
        module: Path of the module that was scrambled last; all before it in the list are too.
        similarity: Mean over targets of Spearman's correlation between the maps of the trained model and of this one.
    """

    module: str
    similarity: float


def randomisation_check(
    model: nn.Module, explain: Callable[[nn.Module], Tensor], modules: Sequence[str], *, seed: int = 0
) -> list[Randomised]:
    """Scramble a model's weights from its head to its stem, and say how far its maps stay the same.

    Args:
        model: The trained model; it is left as it is.
        explain: What explains a copy of it: maps of the same targets, ``(T, H, W)``.
        modules: Paths in the order in which they are scrambled, each on top of those before it.
        seed: Seed of the permutations.

    Returns:
        A step for each module. A method that explains the model falls towards 0.

    Raises:
        MapError: If a module is not there or has no weights.
    """
    trained, scrambled = explain(model), copy.deepcopy(model)
    known = dict(scrambled.named_modules())
    generator = torch.Generator().manual_seed(seed)
    steps = []
    for path in modules:
        if path not in known or not list(known[path].parameters()):
            raise MapError(f"there is no module {path!r} with weights to scramble in this model")
        scramble(known[path], generator)
        steps.append(Randomised(path, spearman(trained, explain(scrambled))))
    return steps


@torch.no_grad()
def scramble(module: nn.Module, generator: torch.Generator) -> None:
    """Permute the numbers of every weight of a module among themselves, in place."""
    for parameter in module.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


def spearman(maps: Tensor, others: Tensor) -> float:
    """Return the mean rank correlation of two stacks of maps ``(T, H, W)``; ties have their mean rank.

    A map without any variation has a correlation of 0 with everything.

    Example:
        >>> a = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
        >>> round(spearman(a, a**3), 6), round(spearman(a, -a), 6)
        (1.0, -1.0)
    """
    found = []
    for first, second in zip(maps.flatten(1), others.flatten(1), strict=True):
        a, b = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
        norm = float(a.norm() * b.norm())
        found.append(float(a @ b) / norm if norm > 0 else 0.0)
    return sum(found) / len(found)


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]
