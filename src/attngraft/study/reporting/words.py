"""What a report says in words; every number in it comes from the results."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attngraft.coco.matches import CONFIDENCE, MAX_DETECTIONS
from attngraft.study.judging.decision import EQUAL_FROM
from attngraft.study.judging.learning import GAP
from attngraft.study.reporting.formatting import between, signed

if TYPE_CHECKING:
    from attngraft.study.judging.results import ArmResult, Results, Setting
    from attngraft.study.judging.verdict import Verdict

UNBIASED = 0.005
"""Points from which an estimate that allows for looks is told beside the plain one."""

LOOKS = (
    "Run in the folder of the study, each line writes a page of these images: what the attention of an arm mixed and "
    "what its detections rest on, beside the baseline."
)


def advice(verdict: Verdict) -> str:
    """Say a verdict, and what would decide it where it is open."""
    return f"{verdict.outcome}{verdict.advice}".replace("about 1 more seeds", "about 1 more seed")


def verdict(arm: ArmResult) -> str:
    """Say the verdict on an arm, or that it is a control."""
    return "control" if arm.verdict is None else advice(arm.verdict)


def interval(arm: ArmResult, setting: Setting) -> str:
    """Write an arm's interval, with its level where that is not the table's."""
    text = between(*arm.interval)
    plain = text == "–" or math.isclose(arm.confidence, 1 - setting.alpha, abs_tol=0.0005)
    return text if plain else f"{text} ({percent(arm.confidence)})"


def percent(level: float) -> str:
    """Write a level.

    Example:
        >>> percent(0.95), percent(0.98333)
        ('95 %', '98.3 %')
    """
    return f"{100 * level:.3g} %"


def headline(results: Results) -> list[str]:
    """Answer the question of the study, a sentence an arm."""
    return [answer(arm, results) for arm in results.arms if arm.verdict is not None]


def answer(arm: ArmResult, results: Results) -> str:
    """Answer the question of the study for one arm, in a sentence or two.

    Args:
        arm: One of the study's.
        results: The study's.
    """
    found, setting = arm.verdict, results.setting
    if found is None:
        return f"{arm.name}: {verdict(arm)}."
    numbers = _numbers(arm, found, setting)
    if arm.interim:
        of = f"{arm.estimate.seeds} of {setting.seeds} planned pairs"
        return f"{arm.name}: no verdict yet, after {of}; so far {numbers}."
    said = {
        "better": f"{arm.name} is better than {setting.base}",
        "worse": f"{arm.name} is worse than {setting.base}",
        "no difference": f"{arm.name} makes no difference of {setting.sesoi:g} {setting.metric} points or more",
    }.get(found.outcome, f"{arm.name} is {advice(found)}")
    if not found.learned:
        return f"{said}."  # its numbers are all 0
    return f"{said}: {numbers}{found.caveat}.{_within_latency(arm, results)}{_beside_conv(arm)}"


def _numbers(arm: ArmResult, found: Verdict, setting: Setting) -> str:
    said = f"{signed(arm.estimate.difference)} {setting.metric} points"
    if between(*arm.interval) != "–":
        said += f", {percent(arm.confidence)} interval {between(*arm.interval)}"
    if found.unbiased is not None and abs(found.unbiased - arm.estimate.difference) > UNBIASED:
        said += f" ({signed(found.unbiased)} when the looks are allowed for)"
    return said + (f", at {arm.cost.latency[0]:.2f} times its latency" if arm.cost.latency else "")


def _within_latency(arm: ArmResult, results: Results) -> str:
    fast = results.fast_enough(arm)
    if fast is None or arm.cost.latency is None:
        return ""
    reach = f"95 % interval up to ×{arm.cost.latency[2]:.2f}"
    within = f"within {results.setting.max_latency:g} times the baseline's ({reach})"
    return f" Its latency stays {within}." if fast else f" Its latency was not shown to stay {within}."


def _beside_conv(arm: ArmResult) -> str:
    found = arm.over_conv
    if arm.verdict is None or arm.verdict.outcome != "better" or found is None:
        return ""
    difference = signed(found.estimate.difference)
    if found.outcome == "better":
        return f" It also beats a plain convolution of equal cost ({difference})."
    return f" It was not shown to beat a plain convolution of equal cost ({difference}: {found.outcome})."


def about(results: Results) -> str:
    """Say under the title what was compared."""
    setting = results.setting
    epochs = f", {setting.train['epochs']} epochs each" if "epochs" in setting.train else ""
    of = f" of {compared(setting)}" if setting.task else ""
    on = f" on {_validated(setting)}" if setting.split else ""
    plan = f"; plan {setting.hash}" if setting.hash else ""
    runs = len(results.finished)
    return f"{setting.base} on {setting.data}: {runs} runs{epochs}, judged by {setting.metric}{of}{on}{plan}"


def _validated(setting: Setting) -> str:
    """Say what was evaluated on."""
    return f"one of {setting.folds} validation folds for each seed" if setting.folds else f"the split {setting.split}"


def sentence(line: str, results: Results) -> str:
    """Write a line as a sentence; the name of an arm at its beginning keeps its letters."""
    names = {results.setting.base, *(run.arm for run in results.runs)}
    named = any(line.startswith(f"{name} ") for name in names)
    return f"{line if named else line[:1].upper() + line[1:]}."


def interim(results: Results) -> str:
    """Say that a study goes on, where it does."""
    waiting = [arm for arm in results.asked if arm.verdict and not arm.verdict.stop]
    if results.complete or not (waiting or unfinished(results)):
        return ""
    setting = results.setting
    last = (setting.extensions or (setting.max_seeds or setting.seeds,))[-1]
    have = results.baseline.seeds if results.baseline else 0
    return (
        f"Interim: the baseline has {have} of up to {last} seeds, and the study goes on. No outcome below is the last."
    )


def unfinished(results: Results) -> list[str]:
    """Name the runs that are missing or failed, and why."""
    return [f"{run}: {run.error or 'not run yet'}" for run in results.runs if run.state != "finished"]


def checks(results: Results) -> list[str]:
    """Say what paired runs had in common, and what was not deterministic."""
    found = results.reproducibility
    same = "the same for all arms of a seed (compared by checksum)"
    said = [
        f"{check.what}: "
        + (
            f"not those of the baseline in {', '.join(check.unlike)}, left out of the comparison"
            if check.unlike
            else same
        )
        for check in found.checks
    ]
    odd = _nondeterminism(results)
    nothing = ["every operator has a deterministic implementation, and no run was interrupted"]
    said += [f"not deterministic: {line}" for line in odd] or (nothing if found.checks else [])
    return said + [f"{arm.name}: {arm.note}" for arm in results.arms if arm.note]


def _nondeterminism(results: Results) -> list[str]:
    found = results.reproducibility
    said = [f"PyTorch has no deterministic implementation of {', '.join(found.operators)}"] if found.operators else []
    said += [f"runs were made on different devices: {', '.join(found.devices)}"] if len(found.devices) > 1 else []
    return said + [
        f"{run} was interrupted and resumed from epoch {', '.join(map(str, epochs))}, from averaged half-precision "
        "weights and with another order of images"
        for run, epochs in found.resumed.items()
    ]


def caveats(results: Results) -> list[str]:
    """Say what the numbers do not cover."""
    setting, said = results.setting, []
    if setting.task:
        said.append(
            f"Every seed is validated on a fold of its own, out of {setting.folds}, and trained on the others, so the "
            "intervals cover the split."
            if setting.folds
            else "The evaluation split is the same for every run: how much another split would change the "
            "differences is not in the intervals."
        )
        if setting.train:
            measured = "masks" if setting.task == "segm" else "boxes, or of outlines where labels have them"
            said.append(
                f"Object sizes are areas of {measured}; labels in YOLO's format have no crowd regions to ignore."
            )
        else:
            said.append("Object sizes and crowd regions are those of the ground truth.")
        if not any(results.errors.values()):
            said.append("Types of errors are missing: their computation needs hotcoco.")
    if setting.train and setting.hash:
        said.append("All arms share the training options of the plan, which are those of the baseline.")
    if results.others:
        said.append(f"Other plans on the same data, in the same folder: {', '.join(results.others)}.")
    if results.hours:
        said.append(
            f"The {len(results.finished)} finished runs took {results.hours:.1f} hours in all{_devices(results)}."
        )
    return said


def _devices(results: Results) -> str:
    devices = results.reproducibility.devices
    return f", one run on {devices[0]} at a time" if len(devices) == 1 else ""


def search(results: Results) -> str:
    """Say how the arms were found, where a search found them."""
    found = results.search
    if not found:
        return ""
    fresh = (
        ", on a split that chose nothing."
        if found["fresh_split"]
        else ", but on the images that it chose by, so some of its luck may remain: a held-out split would remove it."
    )
    return (
        f"These arms are the winners of a search over {found['tried']} recipes. The best of many looks better than it "
        "is: the numbers of the search are not shown here. Those below come from seeds that the search never saw"
        + fresh
    )


def compared(setting: Setting) -> str:
    """Say what the evaluation compared."""
    return {"bbox": "boxes", "segm": "masks"}[setting.task]


def methods(results: Results) -> str:
    """Write the paragraph that a thesis can quote."""
    setting = results.setting
    asked = ", ".join(arm.name for arm in results.asked)
    controls = [arm.name for arm in results.arms if arm.control]
    beside = f" and with the controls {', '.join(controls)}" if controls else ""
    chosen = (
        f", the winners of a search over {results.search['tried']} recipes on other seeds," if results.search else ""
    )
    return " ".join(
        filter(
            None,
            [
                f"We compared {asked}{chosen} with {setting.base} as it is{beside}.",
                _training(results),
                _evaluation(setting),
                _statistics(results),
                _looks(results),
                _latency(results),
                _software(results),
            ],
        )
    )


def _training(results: Results) -> str:
    setting = results.setting
    seeds = len({run.seed for run in results.finished})
    if not setting.train:
        return f"There are {len(results.finished)} runs at {_seeds(seeds)}."
    shared = "; arms of one seed shared initial weights, data order and augmentation" if setting.hash else ""
    return (
        f"Every arm was trained for {setting.train['epochs']} epochs at {setting.train['imgsz']} pixels with batches "
        f"of {setting.batch}, at {_seeds(seeds)} ({len(results.finished)} runs){shared}."
    )


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def _evaluation(setting: Setting) -> str:
    if not setting.task:
        return "The numbers of the runs were given; images play no part in the intervals."
    where = _validated(setting) if setting.folds else f"the split {setting.split!r}"
    weights = "The averaged weights of the last epoch were evaluated" if setting.train else "Detections were evaluated"
    on = f" on {where}" if setting.split else ""
    limits = f"confidence from {CONFIDENCE:g}, at most {MAX_DETECTIONS} detections per image and class"
    return f"{weights}{on} with COCO's evaluation of {compared(setting)} ({limits})."


def _errors(setting: Setting) -> str:
    """Say what standard errors are made of."""
    if not setting.task:
        return "their standard errors are those over seeds, with Student's t"
    if setting.folds:
        return (
            "their standard errors are those over seeds, each of which has a validation fold of its own, and allow for "
            "the overlap of training sets (Nadeau and Bengio)"
        )
    return (
        "their standard errors combine the variance over seeds with a bootstrap variance over images, each judged by "
        "Student's t with its own degrees of freedom"
    )


def _statistics(results: Results) -> str:
    setting = results.setting
    errors = _errors(setting)
    drawn = f" Images were drawn in groups ({setting.group})." if setting.group else ""
    conv = (
        " Arms that came out better were then compared with a plain convolution of equal cost, within the same error."
        if any(arm.control and arm.note for arm in results.arms) or results.has_conv
        else ""
    )
    return (
        f"Differences in {setting.metric} were paired by seed; {errors}.{drawn} 'Better' and 'worse' control the "
        f"family-wise error at {setting.alpha:g} over the arms (Holm); 'no difference' means equivalence within "
        f"±{setting.sesoi:g} points (two one-sided tests at {setting.alpha:g} for each arm) and is not said before "
        f"{EQUAL_FROM} seeds.{conv}{_learning(results)}"
    )


def _learning(results: Results) -> str:
    if not any(arm.verdict and arm.verdict.learning for arm in results.arms):
        return ""
    return (
        f" Runs further than {GAP} robust standard deviations and {GAP} times the smallest effect of interest from "
        "their series' median did not learn; an exact test compared how often arms learn, and the pairs that did were "
        "compared among themselves."
    )


def _looks(results: Results) -> str:
    setting = results.setting
    if setting.max_seeds:
        how = (
            "by tests that hold however often one looks"
            if setting.rule == "anytime"
            else "with p-values and intervals that allow for all of these looks"
        )
        more = "".join(
            f" The plan was extended to {last} seeds; its stages' p-values are combined by weighted inverse normals."
            for last in setting.extensions
        )
        first = max(setting.seeds, 2)
        return f"Arms were judged after every seed from number {first} to number {setting.max_seeds}, {how}.{more}"
    waiting = [arm.name for arm in results.asked if arm.interim]
    if waiting:
        return f"Not all of the {setting.seeds} planned seeds are finished: {', '.join(waiting)} are not judged yet."
    pairs = sorted({arm.estimate.seeds for arm in results.asked})
    if pairs in ([], [setting.seeds]):
        return f"Arms were judged once, after {'all ' if setting.seeds > 1 else ''}{_seeds(setting.seeds)}."
    span = " to ".join(map(str, pairs[:1] + pairs[1:][-1:]))
    planned = f" of {setting.seeds} planned" if setting.hash else ""
    return f"Arms were judged once, each from its {span}{planned} pairs of runs."


def _latency(results: Results) -> str:
    if not results.has_latency:
        return ""
    return "Latency was measured in interleaved rounds on one machine, on fused models and single images."


def _software(results: Results) -> str:
    found = results.reproducibility
    made = found.environments[0] if found.environments else {}
    versions = made.get("versions", {})
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    host = f", Ultralytics {versions['ultralytics']}" if "ultralytics" in versions else ""
    on = f"; on {made['device']}" if made.get("device") else ""
    plan = f" Plan {results.setting.hash}." if results.setting.hash else ""
    return f"Software: attngraft {found.software}{torch}{host}{on}.{plan}"
