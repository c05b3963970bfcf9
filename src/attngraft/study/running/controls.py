"""Settling a plan's arms: which ``conv`` control costs as much as which arm, measured before the first run.

The control is `PlainConv` after the same layers, as wide as makes the two models' cost most nearly equal. An arm that
costs less than the narrowest convolution gets that one, and its note says by how much it misses.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from attngraft._core.errors import PlanError
from attngraft.measure import latency
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import Arm, Plan
from attngraft.study.running.run import device_of
from attngraft.yolo import Recipe
from attngraft.yolo.recipe import GraftSpec

CONV = "plain_conv"
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Widths that are timed when latency is to match."""

ROUNDS = 15


def resolve_arms(plan: Plan) -> FrozenPlan:
    """Resolve every arm of a plan, controls included.

    Args:
        plan: The plan.

    Raises:
        PlanError: If two arms are one under two names, which would be trained and counted twice, or of two tasks.
        OptionError: If their task is not compared.
    """
    arms = plan.recipes()
    named: dict[str, str] = {}
    for arm in arms:
        if arm.kind == "arm" and plan.command is None and (first := named.setdefault(arm.model, arm.name)) != arm.name:
            raise PlanError(f"{first} and {arm.name} are the same arm, {arm.model}; name it once")
    if plan.command is None:
        _require_one_task(arms)
    if "conv" not in plan.controls or plan.command is not None:
        return FrozenPlan(plan, tuple(arms))
    controls: dict[str, Arm] = {}
    with own_cache():
        for arm in [arm for arm in arms if arm.kind == "arm"]:
            control = conv_control(arm, plan)
            if control is None:
                continue
            same = controls.get(control.model)
            controls[control.model] = replace(same, against=(*same.against, arm.name)) if same else control
    return FrozenPlan(plan, (*arms, *controls.values()))


def _require_one_task(arms: Sequence[Arm]) -> None:
    """Require arms that find the same kind of thing, and one that can be compared, before any of them is trained."""
    from attngraft.yolo.detecting import require_compared
    from attngraft.yolo.host import task_of

    bases = dict.fromkeys(Recipe.parse(arm.model).base for arm in arms)  # the baseline's first
    with own_cache():
        tasks = {base: task_of(base) for base in bases}
    baseline, *others = tasks
    for base in others:
        if tasks[base] != tasks[baseline]:
            raise PlanError(
                f"{base} is for the task {tasks[base]}, and the baseline {baseline} for {tasks[baseline]}: masks and "
                "boxes are not compared with each other; name a model of the baseline's task"
            )
    require_compared(baseline, tasks[baseline])


def conv_control(arm: Arm, plan: Plan) -> Arm | None:
    """Return the ``conv`` control of an arm; None if it grafts nothing, or removes more than it adds.

    Args:
        arm: The arm.
        plan: The plan, which says what is to match.
    """
    recipe = Recipe.parse(arm.model)
    if not recipe.grafts:
        return None
    grafts, note = (_by_parameters if plan.match == "parameters" else _by_latency)(recipe, plan)
    if not grafts:
        return None
    model = str(Recipe(recipe.base, tuple(grafts)))
    return Arm(f"conv for {arm.name}", model, "control", against=(arm.name,), note=note)


def _by_parameters(recipe: Recipe, plan: Plan) -> tuple[list[GraftSpec], str]:
    from attngraft.yolo.step import parameters

    base = parameters(recipe.base)
    grafts, reached, wanted = [], 0, 0
    for spec in recipe.grafts:
        for place in spec.places:
            target = parameters(str(Recipe(recipe.base, (replace(spec, places=(place,)),)))) - base
            one, two = (parameters(str(Recipe(recipe.base, (_conv(place, width, spec),)))) - base for width in (1, 2))
            wanted += target
            if target > 0:
                width = max(1, round(1 + (target - one) / (two - one)))
                grafts.append(_conv(place, width, spec))
                reached += one + (width - 1) * (two - one)
    share = f" ({100 * (reached / wanted - 1):+.1f} %)" if wanted > 0 else ""
    return grafts, f"{reached:,} parameters more than its base, where its arm has {wanted:,} more{share}"


def _by_latency(recipe: Recipe, plan: Plan) -> tuple[list[GraftSpec], str]:
    from attngraft.yolo.options import data_channels
    from attngraft.yolo.step import network

    def candidate(width: int) -> list[GraftSpec]:
        return [_conv(place, width, spec) for spec in recipe.grafts for place in spec.places]

    side, channels, device = int(plan.train["imgsz"]), data_channels(plan.data), device_of(plan)
    image = torch.rand(1, channels, side, side, device=device)
    recipes = {0: str(recipe), **{width: str(Recipe(recipe.base, tuple(candidate(width)))) for width in WIDTHS}}
    models = {width: network(text, channels).to(device) for width, text in recipes.items()}
    with torch.inference_mode():
        calls = {str(width): (lambda model=model: model(image)) for width, model in models.items()}
        timings = {int(t.name): t.ratio for t in latency.compare(calls, rounds=ROUNDS)}
    width = min(WIDTHS, key=lambda width: abs(timings[width] - 1))
    return candidate(width), f"measured latency {100 * (timings[width] - 1):+.1f} % beside its arm's, at width {width}"


def _conv(place: str, width: int, like: GraftSpec) -> GraftSpec:
    return GraftSpec(CONV, (place,), (("width", width),), init=like.init)


@contextmanager
def own_cache() -> Iterator[None]:
    """Keep models that are built only to be counted out of the user's cache and off the screen."""
    from attngraft.yolo.model import quiet

    before = os.environ.get("ATTNGRAFT_CACHE")
    with tempfile.TemporaryDirectory() as folder, quiet(logging.WARNING):
        os.environ["ATTNGRAFT_CACHE"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["ATTNGRAFT_CACHE"]
            else:
                os.environ["ATTNGRAFT_CACHE"] = before
