"""Checks of a detector's numbers: sizes, start, gradients, training, precision, and what Ultralytics does to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attngraft._core.calls import backward
from attngraft.doctor import one_image as single
from attngraft.doctor.comparing import CLOSE, distance, has_nonfinite, problems
from attngraft.doctor.detector.subject import SAME, Built, DetectorSubject, graft_prefixes, grafted, loss, predict
from attngraft.doctor.findings import Outcome, Wrong, broken, check, examine, expected, failed, passed, skipped, warned
from attngraft.doctor.mechanism.resources import flops_at
from attngraft.doctor.mechanism.shapes import sizes
from attngraft.doctor.mechanism.survival import training_after_validation
from attngraft.doctor.mechanism.values import STEPS, batch, dead_maps, gradient, input_kept, repeats
from attngraft.yolo import host
from attngraft.yolo.grafting import Graft, stripped
from attngraft.yolo.rebuilding import rebuilt
from attngraft.yolo.structure import SHIFTED, misplaced

IMAGE_SIDES = ((2, 2), (1, 1), (3, 5), (7, 13))
"""Heights and widths, in strides."""
MOST_FLOPS = 60e9
"""Above this an image is not run: it would take this check alone half a minute."""
FUSED_CLOSE = 1e-3
HALF_CLOSE = 0.1
OTHER_YAML = (
    "a training run leaves out tensors that its rebuild does not have and starts missing ones at random: take a "
    "checkpoint that its YAML describes, or the YAML that made this one"
)
OTHER_CLASS = "give the file of the mechanism that it was trained with, with --plugin"
OTHER_LAYERS = (
    "a layer keeps something that is neither a tensor nor in the YAML: take the YAML that made the checkpoint"
)
NOT_BY_IMAGES = (".dfl.", ".reprta.", ".savpe.")
"""Parts of names of parameters that images alone do not reach: fixed ones, and YOLOE's encoders of prompts."""
ON_MECHANISMS = (sizes, input_kept, repeats, gradient, dead_maps, batch, training_after_validation)


@check(remedy="check the mechanism alone: attngraft doctor FILE.py:CLASS", vital=True)
def opens(subject: DetectorSubject) -> Outcome:
    """The recipe builds."""
    model = subject.opened.model
    count = sum(p.numel() for p in model.parameters())
    rounded = f"; imgsz={subject.imgsz} is {subject.side}, as the stride is {subject.stride}"
    rounded = rounded if subject.side != subject.imgsz else ""
    slip = misplaced(model.yaml)
    told = partial(warned, remedy=SHIFTED) if slip else passed
    rounded += f"; {slip}" if slip else ""
    if not subject.mechanisms:
        return told(f"{count:,} parameters, {subject.task}; a stock model, with no mechanism in it{rounded}")
    ours = sum(p.numel() for p in grafted(model, subject.mechanisms).values())
    shapes = subject.shapes()
    where = ", ".join(
        f"{type(part).__name__} at {path.removeprefix('model.')} ({shapes[path][1]} channels)"
        for path, part in subject.mechanisms.items()
        if path in shapes
    )
    return told(f"{count:,} parameters, {ours:,} of them grafted: {where}{rounded}")


@check(remedy="attngraft doctor FILE.py:CLASS, or attngraft doctor NAME, shows every check on it")
def mechanisms(subject: DetectorSubject) -> Outcome:
    """Each mechanism by itself takes any map, is seen by the gradient, and keeps images apart and its input whole."""
    wrong: list[str] = []
    looked: dict[tuple[type, int], Built] = {}
    for path, shape in subject.shapes().items():
        part = subject.mechanisms[path]
        looked.setdefault((type(part), shape[1]), Built(type(part).__name__, type(part), shape[1], module=part))
    for built in looked.values():
        findings = [f for f in examine(built, ON_MECHANISMS) if f.status == "fail"]
        wrong += [f"{built.name}: {f.name}: {f.detail} ({f.remedy})" for f in findings]
    if wrong:
        return failed("; ".join(wrong))
    if not looked:
        return skipped("there is none")
    return passed(f"{len(looked)} looked at, {len(ON_MECHANISMS)} checks each")


@check(remedy="take sizes from x.shape in every forward; keep no table for one size")
def image_sizes(subject: DetectorSubject) -> Outcome:
    """Images of any size work: square, tiny, rectangular, odd multiples of the stride, and the largest."""
    model, largest = subject.perturbed(), (subject.side, subject.side)
    expected = flops_at(model, subject.side)
    left_out = expected > MOST_FLOPS
    small = [(height * subject.stride, width * subject.stride) for height, width in IMAGE_SIDES]
    tried = [*small, *([] if left_out else [largest])]

    def trial(height: int, width: int) -> None:
        y = predict(model, subject.images(height, width, 1))
        if has_nonfinite(y):
            raise Wrong("the output is not finite")

    wrong = problems({f"{height}x{width}": partial(trial, height, width) for height, width in tried})
    if wrong:
        return broken(wrong)
    shown = ", ".join(f"{height}x{width}" for height, width in tried)
    rest = f"; {largest[0]}x{largest[1]} not run, about {expected / 1e9:.0f} GFLOPs" if left_out else ""
    return passed(shown + rest)


@check(remedy="this is a defect of attngraft: report the recipe")
def rebuild(subject: DetectorSubject) -> Outcome:
    """The rebuild of Ultralytics, in training, tuning and resuming, has the same tensors and numbers."""
    model = subject.perturbed()
    again = rebuilt(model)
    here, there = ({name: t.shape for name, t in m.state_dict().items()} for m in (model, again))
    differing = sorted(name for name in {**here, **there} if here.get(name) != there.get(name))
    if differing:
        return _other_tensors(subject, model, differing, here, there)
    x = subject.images()
    off = distance(predict(again, x), predict(model, x))
    if off > CLOSE:
        return failed(f"the rebuild gives other numbers with the same {len(here)} tensors, {off:.1e} off", OTHER_LAYERS)
    return passed(f"{len(here)} tensors, and the same numbers with them")


def _other_tensors(
    subject: DetectorSubject,
    model: Any,
    differing: Sequence[str],
    here: Mapping[str, torch.Size],
    there: Mapping[str, torch.Size],
) -> Outcome:
    """Say whose tensors a rebuild does not take: the checkpoint's base, a mechanism's, or ours."""
    ours = graft_prefixes(model, subject.mechanisms)
    base = [name for name in differing if not name.startswith(ours)]
    shown = (base or differing)[0]
    shapes = " and ".join(str(tuple(side[shown])) if shown in side else "none" for side in (here, there))
    detail = f"{len(base or differing)} tensors, such as {shown}: {shapes}"
    source = model.yaml.get("yaml_file") or "its YAML"
    if base:
        return failed(f"the checkpoint differs from its own YAML ({source}) in {detail} after a rebuild", OTHER_YAML)
    if subject.opened.ckpt:
        return failed(f"the class of a mechanism builds other tensors than the checkpoint has: {detail}", OTHER_CLASS)
    return failed(f"differs in {detail} after a rebuild")


@check(remedy="leave init=paper away, so that a grafted model starts with the base's numbers")
def identity(subject: DetectorSubject) -> Outcome:
    """The grafted model starts with the base's numbers, bit for bit."""
    model = subject.fresh()
    grafts = [part for part in model.modules() if isinstance(part, Graft)]
    if not grafts or len(grafts) < len(subject.mechanisms):
        return skipped("nothing follows a layer; what replaces one cannot start as the identity")
    if any(graft.gamma is None for graft in grafts):
        return skipped("init=paper starts with the paper's form")
    if any(bool(graft.gamma.any()) for graft in grafts if graft.gamma is not None):
        return skipped("it is trained: gamma has left zero")
    x = subject.images()
    if not torch.equal(predict(model, x), predict(stripped(model), x)):
        return failed("differs from the base", "the mechanism gives values that are not finite, or changes its input")
    return passed(f"{len(grafts)} graft(s), two images")


@check(remedy="use every parameter in forward, and no .data, .detach() or numpy on the way")
def gradients(subject: DetectorSubject) -> Outcome:
    """The gradient reaches every parameter, those of the grafts and those below them."""
    model = subject.perturbed().train()
    backward(model(subject.images()))
    ours = grafted(model, subject.mechanisms)
    wrong = [
        name
        for name, p in model.named_parameters()
        if not any(part in name for part in NOT_BY_IMAGES) and (p.grad is None or (name in ours and not p.grad.any()))
    ]
    if wrong:
        return failed(f"none reaches {', '.join(wrong[:5])}{' and more' if wrong[5:] else ''}")
    return passed(f"all {len(list(model.parameters()))} parameter tensors, {len(ours)} of them grafted")


@check(remedy="look for divisions, logarithms and exponentials without a bound; start gates near the identity")
def training(subject: DetectorSubject) -> Outcome:
    """Twenty steps with the loss of Ultralytics on random data stay finite and move the grafts."""
    model = subject.fresh()
    ours = grafted(model, subject.mechanisms)
    before = {name: p.detach().clone() for name, p in ours.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses: list[float] = []
    for step in range(STEPS):
        total = loss(subject, model)
        losses.append(total.item())
        if has_nonfinite(total):
            return failed(f"the loss is {losses[-1]} at step {step}")
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)  # as Ultralytics does
        optimizer.step()
    wrong = [name for name, p in model.named_parameters() if has_nonfinite(p)]
    if wrong:
        return failed(f"not finite after {STEPS} steps: {', '.join(wrong[:5])}")
    still = [name for name, p in ours.items() if torch.equal(p, before[name])]
    if ours and len(still) == len(ours):
        return failed(f"no grafted parameter moved in {STEPS} steps", "check that forward uses them")
    return passed(f"loss {losses[0]:.3g} to {losses[-1]:.3g}, {len(ours) - len(still)} of {len(ours)} grafted moved")


@check(remedy="keep dropout and noise to training mode, and avoid operators that add up in any order")
def same_seed(subject: DetectorSubject) -> Outcome:
    """The same seed gives the same bits: an inference twice, and a training step twice."""
    model, x = subject.perturbed(), subject.images()
    if not torch.equal(predict(model, x), predict(model, x)):
        return failed("two inferences differ")

    def step() -> list[Tensor]:
        twin = copy.deepcopy(model)
        torch.manual_seed(1)
        loss(subject, twin).backward()  # type: ignore[no-untyped-call]
        return [p.grad for p in twin.parameters() if p.grad is not None]

    if not all(map(torch.equal, step(), step())):
        return warned("two training steps differ", "set seeds, or accept that runs of one seed are not the same run")
    return passed("an inference and a training step, bit for bit")


@check(remedy="look for a soft-max, mean or reshape that runs over the first axis", needs=SAME)
def batches(subject: DetectorSubject) -> Outcome:
    """No information leaks between images of a batch."""
    model, x = subject.perturbed(), subject.images(batch=3)
    off = distance(predict(model, x), torch.cat([predict(model, one[None]) for one in x]))
    if off > 10 * CLOSE:
        return failed(f"an image's output changes by {off:.1e} with its neighbours")
    return passed("three images, together and alone")


@check(remedy=single.REMEDY, needs=SAME)
def one_image(subject: DetectorSubject) -> Outcome:
    """Gradients with one image equal those of the same image twice."""
    return single.compare(subject.perturbed(), subject.images(batch=1), batch=subject.batch)


@check(
    remedy="compute norms and soft-max in float32; make new tensors with x.new_zeros and the like, in its type",
    needs=SAME,
)
def half_precision(subject: DetectorSubject) -> Outcome:
    """Autocast and float16 weights, as checkpoints store them, give finite values about as near as the base's."""
    model, x = subject.perturbed(), subject.images()
    base = stripped(model)
    off: dict[str, tuple[float, float]] = {}

    def trial(name: str, dtype: torch.dtype, *, autocast: bool) -> None:
        def far(network: torch.nn.Module) -> float:
            twin = copy.deepcopy(network) if autocast else copy.deepcopy(network).to(dtype)
            with torch.autocast("cpu", dtype, enabled=autocast):
                y = predict(twin, x if autocast else x.to(dtype))
            if has_nonfinite(y):
                raise Wrong("values are not finite")
            return distance(y.float(), predict(network, x))

        off[name] = far(model), far(base)

    wrong = problems(
        {
            "autocast": partial(trial, "autocast", torch.bfloat16, autocast=True),
            "float16": partial(trial, "float16", torch.float16, autocast=False),
        }
    )
    if wrong:
        return broken(wrong)
    detail = ", ".join(
        f"{name} {100 * mine:.1f} % off (without grafts {100 * stock:.1f} %)" for name, (mine, stock) in off.items()
    )
    far = any(mine > max(HALF_CLOSE, 3 * stock) for mine, stock in off.values())
    return warned(detail) if far else passed(detail)


@check(remedy="keep the mechanism's norms and convolutions where they are; Ultralytics folds its own only", needs=SAME)
def fuse(subject: DetectorSubject) -> Outcome:
    """The fusing of Ultralytics, before validation, prediction and export, changes no number and loses no graft."""
    model, x = subject.perturbed(), subject.images()
    expected = predict(model, x)
    fused = copy.deepcopy(model).eval().fuse(verbose=False)
    lost = [path for path in subject.mechanisms if path not in dict(fused.named_modules())]
    if lost:
        return failed(f"lost: {', '.join(lost)}")
    off = distance(predict(fused, x), expected)
    return passed(f"relative {off:.1e}") if off <= FUSED_CLOSE else failed(f"differs by {off:.1e}")


@check(
    remedy="keep nothing of a forward on self; compute it again, or keep it as a buffer made in __init__", needs=SAME
)
def averaged_copy(subject: DetectorSubject) -> Outcome:
    """The averaged copy (EMA) of Ultralytics, made and updated between steps, is whole."""
    model = subject.perturbed()
    loss(subject, model).backward()  # type: ignore[no-untyped-call]
    with expected():
        ema = host.averaged_copy(model)
    x = subject.images(width=2 * subject.stride)
    if distance(predict(ema.ema, x), predict(model, x)) > CLOSE:
        return failed("the copy gives other numbers")
    loss(subject, model)
    ema.update(model)
    if set(ema.ema.state_dict()) != set(model.state_dict()) or has_nonfinite(predict(ema.ema, x)):
        return failed("after an update it lacks tensors, or is not finite")
    return passed("made after a step, updated after another")
