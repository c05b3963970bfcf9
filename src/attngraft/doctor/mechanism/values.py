"""Checks of the numbers: gradients, finiteness, precision, and what an output may depend on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from attngraft._core.calls import backward, mean_square, mode
from attngraft.doctor import one_image as single
from attngraft.doctor.comparing import CLOSE, distance, has_nonfinite, problems
from attngraft.doctor.findings import Outcome, Wrong, broken, check, expected, failed, passed, warned
from attngraft.doctor.mechanism.subject import SAME, Subject

STEPS = 20
STATISTICS = (
    "take no statistics over the batch of what is pooled to one cell, as a batch norm does: the last batch of an epoch "
    "may hold one image; leave that norm out, or use nn.GroupNorm or nn.LayerNorm"
)
HALF_CLOSE = 0.1
"""Relative difference from float32 up to which half precision is called near."""


@check(remedy="use every parameter in forward, and no .data, .detach() or numpy on the way")
def gradient(subject: Subject) -> Outcome:
    """The gradient reaches every parameter, and the layer below."""
    module = subject.perturbed().train()
    x = subject.map(9, 8).requires_grad_()
    backward(module(x.clone()))  # in a detector it is no leaf either, and may be written to
    learned = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    wrong = [name for name, grad in {**learned, "the input": x.grad}.items() if grad is None or not grad.any()]
    if wrong:
        return failed(f"none reaches {', '.join(wrong)}")
    return passed(f"all {len(learned)} parameter tensors and the input")


@check(remedy="add an eps inside square roots, logarithms and divisions")
def dead_maps(subject: Subject) -> Outcome:
    """A map of zeros, or of one constant, gives finite values and gradients."""
    module = subject.perturbed().train()
    wrong = []
    for value in (0.0, 1.0):
        x = torch.full_like(subject.map(6, 6), value).requires_grad_()
        y = module(x.clone())
        backward(y)
        seen = {"the output": y, "its gradient": x.grad}
        seen |= {f"the gradient of {name}": p.grad for name, p in module.named_parameters()}
        wrong += [f"{name} at {value:g}" for name, t in seen.items() if has_nonfinite(t)]
        module.zero_grad()
    return failed(f"not finite: {', '.join(wrong)}") if wrong else passed("zeros and ones, forward and backward")


@check(
    remedy="look for divisions, logarithms and exponentials without a bound; start gates near the identity",
    needs=("input kept",),
)
def training(subject: Subject) -> Outcome:
    """Twenty steps of SGD on random data stay finite and move the weights."""
    module = subject.fresh().train()
    before = [p.detach().clone() for p in module.parameters()]
    if not before:
        return passed("it has nothing to learn")
    x, target = subject.map(12, 12, 4), subject.map(12, 12, 4)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    losses: list[float] = []
    for step in range(STEPS):
        loss = mean_square(module(x) - target)
        losses.append(loss.item())
        if has_nonfinite(loss):
            return failed(f"the loss is {losses[-1]} at step {step}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    wrong = [name for name, p in module.named_parameters() if has_nonfinite(p)]
    if wrong:
        return failed(f"not finite after {STEPS} steps: {', '.join(wrong)}")
    if all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)):
        return failed(f"no parameter moved in {STEPS} steps", "check that forward uses them")
    return passed(f"loss {losses[0]:.3g} to {losses[-1]:.3g}")


@check(
    remedy="compute norms and soft-max in float32; make new tensors with x.new_zeros and the like, in its type",
    needs=SAME,
)
def half_precision(subject: Subject) -> Outcome:
    """bfloat16, float16 and autocast give finite values near those of float32."""
    module, x = single.without_dropout(subject.perturbed().train()), subject.map(9, 8) * 4
    usual = copy.deepcopy(module)(x)
    if not torch.equal(copy.deepcopy(module)(x), usual):  # noise of its own, which no type repeats
        usual = copy.deepcopy(module.eval())(x)
    off: dict[str, float] = {}

    def trial(name: str, dtype: torch.dtype, autocast: bool) -> None:
        twin = copy.deepcopy(module).to(torch.float32 if autocast else dtype)
        given = x.to(torch.float32 if autocast else dtype).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=autocast):
            y = twin(given)
        if not autocast and y.dtype != dtype:
            raise Wrong(f"returns {y.dtype}")
        backward(y)
        if any(has_nonfinite(t) for t in (y, given.grad, *(p.grad for p in twin.parameters()))):
            raise Wrong("values or gradients are not finite")
        off[name] = distance(y.float(), usual)

    trials = {
        "bfloat16": partial(trial, "bfloat16", torch.bfloat16, False),
        "float16": partial(trial, "float16", torch.float16, False),
        "autocast": partial(trial, "autocast", torch.bfloat16, True),
    }
    wrong = problems(trials)
    if wrong:
        return broken(wrong)
    detail = ", ".join(f"{name} {100 * value:.1f} % off" for name, value in off.items())
    return warned(detail) if max(off.values()) > HALF_CLOSE else passed(detail)


@check(
    remedy="keep dropout and noise to training mode, and avoid operators that add up in any order",
    needs=("input kept",),
)
def repeats(subject: Subject) -> Outcome:
    """The same input gives the same bits."""
    module, x = subject.perturbed().eval(), subject.map(9, 8)
    first, second = module(x), module(x)
    if not torch.equal(first, second):
        return failed(f"two calls differ by {(first - second).abs().max().item():.1e}")
    return passed("two calls, bit for bit")


@check(remedy="look for a soft-max, mean or reshape that runs over the first axis", needs=SAME)
def batch(subject: Subject) -> Outcome:
    """No information leaks between images of a batch."""
    module = subject.perturbed().eval()
    x = subject.map(7, 5, 3) * torch.tensor([0.1, 1.0, 3.0]).view(3, 1, 1, 1)
    with torch.no_grad():
        off = distance(module(x), torch.cat([module(image[None]) for image in x]))
    if off > CLOSE:
        return failed(f"an image's output changes by {off:.1e} with its neighbours")
    return passed("three images, together and alone")


class _Shortcut(nn.Module):
    """Add to a map what a module makes of it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.inner(x)
        return y


@check(remedy=single.REMEDY, needs=(*SAME, "batch"))
def one_image(subject: Subject) -> Outcome:
    """It trains with one image, with the gradients of the same image twice, behind and before what detectors have."""
    with expected(STATISTICS):
        subject.perturbed().train()(subject.map(13, 9, 1))
    C = subject.channels
    places: dict[str, Callable[[nn.Module], nn.Module]] = {
        "behind a batch norm": lambda m: nn.Sequential(nn.Conv2d(C, C, 1), nn.BatchNorm2d(C), m),
        "between two": lambda m: nn.Sequential(
            nn.Conv2d(C, C, 1), nn.BatchNorm2d(C), nn.SiLU(), m, nn.BatchNorm2d(C), nn.Conv2d(C, C, 1)
        ),
        "in a shortcut": lambda m: nn.Sequential(nn.Conv2d(C, C, 1), nn.BatchNorm2d(C), nn.SiLU(), _Shortcut(m)),
    }
    outcome = passed("")
    for where, build in places.items():
        outcome = single.compare(
            build(subject.perturbed()), subject.map(13, 9, 1), batch=subject.batch, where=f" {where}"
        )
        if outcome.status != "pass":
            return outcome
    return passed(", ".join(places))


@check(remedy="write x = x + y in place of x += y, and inplace=False in activations")
def input_kept(subject: Subject) -> Outcome:
    """Its input is not modified."""
    module, x = subject.perturbed(), subject.map(9, 8)
    before, wrong = x.clone(), []
    for name, train, context in (("training", True, torch.no_grad), ("inference", False, torch.inference_mode)):
        with mode(module, train=train), context():
            module(x)
        if not torch.equal(x, before):
            wrong.append(name)
            x = before.clone()
    return failed(f"modified in {' and '.join(wrong)} mode") if wrong else passed("training and inference mode")
