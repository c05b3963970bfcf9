"""Maps where the truth is known: on beacons the cue of a class is in a corner far away, or on the object itself.

The trained micro detector with MHSA took a red beacon for the cue and green for its absence, so it is a red class that
rests on the beacon; D-RISE, which looks at nothing inside, says the same. The layer asked is the one before the
attention: behind it the beacon's message already lies in the object's own cell.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from statistics import mean

import pytest
import torch
from torch import Tensor

from attngraft import maps
from attngraft.maps import SIDES, Detection
from tests.maps.beacons import ATTENTION, scenes, tensors, watched

IMAGES = 16
SIZE, GRID = (96, 96), (12, 12)
RED, GREEN = 0, 1
BEFORE = "model.2"


def touched(area: tuple[float, ...]) -> Tensor:
    """Return which cells an area touches, ``(144,)``."""
    return (maps.coverage(area, SIZE, GRID) > 0).double().flatten()  # type: ignore[arg-type]


@cache
def found(rule: str) -> list[list[Detection]]:
    return watched(rule).find(tensors(IMAGES))


@cache
def heads(rule: str) -> tuple[list[float], list[float], float]:
    """Return each head's mean mass on the beacon and on the own object, and the beacon's share of the area."""
    detector = watched(rule)
    with maps.record(detector.network) as tape, torch.no_grad():
        detector.network(tensors(IMAGES))
    rows = tape[ATTENTION].rows().double()  # (B, 4, 144, 144)
    on_beacon, on_own, areas = [], [], []
    for image, scene in enumerate(scenes(IMAGES)):
        for thing in scene.things:
            left, top, right, bottom = thing.area
            row = rows[image, :, maps.cell_at(((left + right) / 2, (top + bottom) / 2), SIZE, GRID)]
            on_beacon.append(row @ touched(scene.cue))
            on_own.append(row @ touched(thing.area))
            areas.append(float(touched(scene.cue).mean()))
    return torch.stack(on_beacon).mean(0).tolist(), torch.stack(on_own).mean(0).tolist(), mean(areas)


@cache
def shares(rule: str, label: int) -> dict[str, list[float]]:
    """Return the share of ODAM's mass on the beacon for each target, and where the strongest cell outside boxes is."""
    detector, out = watched(rule), {name: [] for name in ("class", *SIDES, "strongest")}  # type: dict[str, list[float]]
    for image, scene in enumerate(scenes(IMAGES)):
        background = 1 - torch.stack([touched(d.box) for d in found(rule)[image]]).amax(0)
        for detection in found(rule)[image]:
            if detection.label != label:
                continue
            targets = [maps.Target(0, detection.candidate, label, q) for q in ("class", *SIDES)]  # type: ignore[arg-type]
            one = tensors(IMAGES)[image : image + 1]
            heats = maps.odam(detector.network, detector.predict, one, targets, [BEFORE])[BEFORE].double().flatten(1)
            for target, heat in zip(targets, heats, strict=True):
                out[target.quantity].append(float(heat @ touched(scene.cue) / heat.sum()))
            out["strongest"].append(float(touched(scene.cue)[(heats[0] * background).argmax()]))
    return out


def test_the_detectors_do_what_the_rule_says() -> None:
    for rule in ("global", "local"):
        for detections, scene in zip(found(rule), scenes(IMAGES), strict=True):
            labels = sorted(d.label for d in detections)
            assert labels == sorted(thing.far if rule == "global" else thing.near for thing in scene.things)


def test_exactly_one_head_looks_at_the_beacon() -> None:
    on_beacon, on_own, area = heads("global")
    looking = [head for head, mass in enumerate(on_beacon) if mass > 5 * area]
    assert len(looking) == 1
    others = [mass for head, mass in enumerate(on_beacon) if head != looking[0]]
    assert max(others) < 2 * area
    assert on_beacon[looking[0]] > 5 * max(others)
    assert on_own.index(max(on_own)) != looking[0]  # another head keeps to the object


def test_in_the_control_no_head_does() -> None:
    on_beacon, _, area = heads("local")
    assert max(on_beacon) < area


def test_a_class_rests_on_the_beacon_and_a_side_of_the_box_does_not() -> None:
    red = shares("global", RED)
    assert len(red["class"]) > 8
    sides = mean(mean(red[side]) for side in SIDES)
    assert mean(red["class"]) > 0.1
    assert mean(red["class"]) > 6 * sides
    assert mean(red["strongest"]) > 0.75  # of the cells outside all boxes


def test_in_the_control_the_class_rests_on_the_object() -> None:
    for label in (RED, GREEN):
        local = shares("local", label)
        assert mean(local["class"]) < 0.02
        assert mean(local["strongest"]) == 0


def test_in_the_control_the_class_rests_on_the_dot() -> None:
    """The dot in the middle of the object, about six pixels wide, has more than ten times its share of the area."""
    detector, masses, areas = watched("local"), [], []
    for image, detections in enumerate(found("local")):
        targets = [d.target() for d in detections]
        heats = maps.odam(detector.network, detector.predict, tensors(IMAGES), targets, [BEFORE])[BEFORE].double()
        for detection, heat in zip(detections, heats.flatten(1), strict=True):
            thing = max(scenes(IMAGES)[image].things, key=lambda t: float(touched(t.area) @ touched(detection.box)))
            x, y = (thing.area.left + thing.area.right) / 2, (thing.area.top + thing.area.bottom) / 2
            dot = touched((x - 3, y - 3, x + 3, y + 3))
            masses.append(float(heat @ dot / heat.sum()))
            areas.append(float(dot.mean()))
    assert mean(masses) > 10 * mean(areas)


@pytest.mark.parametrize("label", [RED, GREEN])
def test_random_masks_say_the_same(label: int) -> None:
    """D-RISE: hiding the beacon costs a red object its class, a green one nothing."""
    image, detection = next((i, d) for i, ds in enumerate(found("global")) for d in ds if d.label == label)
    heat = maps.drise(watched("global").predict, tensors(IMAGES)[image], detection, masks=400, grid=8)
    left, top, right, bottom = scenes(IMAGES)[image].cue
    beacon = heat[top:bottom, left:right].mean()
    rank = float((heat < beacon).double().mean())
    assert (rank > 0.9) == (label == RED)
    again = maps.drise(watched("global").predict, tensors(IMAGES)[image], detection, masks=400, grid=8)
    assert torch.equal(heat, again)


def test_without_the_graft_red_is_lost() -> None:
    """The causal test: nothing but the attention carries the colour of the beacon."""
    detector = watched("global")
    with maps.without(detector.network):
        bare = detector.find(tensors(IMAGES))
    before, after = list(chain(*found("global"))), list(chain(*bare))
    changes = maps.compare(before, after)
    assert sum(c.kind == "kept" for c in changes if c.before and c.before.label == RED) < len(before) / 10
    with maps.strength(detector.network) as strengths:
        detector.find(tensors(IMAGES))
    (only,) = strengths.values()
    assert only.ratio().min() > 0.05


def test_odam_of_a_red_class_beats_maps_that_know_nothing() -> None:
    """Hiding what the map marks costs a red object its class: sooner than at random or in the middle of the image."""
    detector, items = watched("global"), []
    for image, detections in enumerate(found("global")):
        one = tensors(IMAGES)[image]
        red = [d for d in detections if d.label == RED]
        if red:
            targets = [maps.Target(0, d.candidate, RED) for d in red]
            heats = maps.odam(detector.network, detector.predict, one[None], targets, [BEFORE])[BEFORE]
            items.append((one, red, {"odam": list(heats)}))
    verdicts = maps.scorecard(detector.predict, items, fills=["mean"], steps=8)
    assert {v.metric for v in verdicts} == {"deletion mean", "insertion mean", "pointing"}
    assert {v.images for v in verdicts} == {len(items)}
    beaten = {(v.metric, v.control): v.beats for v in verdicts}
    assert beaten["deletion mean", "random"]
    assert beaten["insertion mean", "gaussian"]
    assert not beaten["pointing", "box"]  # nothing points into a box better than the box


def test_gradients_weigh_the_head_that_looks_at_the_beacon() -> None:
    """The class of a red object: where more weight would raise the score, per head."""
    detector, image = watched("global"), next(i for i, ds in enumerate(found("global")) if ds[0].label == RED)
    detection = found("global")[image][0]
    with maps.record(detector.network) as tape:
        predictions = detector.predict(tensors(IMAGES)[image : image + 1].requires_grad_())
    score = maps.Target(0, detection.candidate, RED).of(predictions)
    cell = maps.cell_at(detection.place, SIZE, GRID)
    weighted = tape[ATTENTION].weighted(score, [cell])[0, :, 0].double()  # (4, 144)
    on_beacon = (weighted * touched(scenes(IMAGES)[image].cue)).sum(1)
    masses, _, _ = heads("global")
    assert int(on_beacon.argmax()) == masses.index(max(masses))
    assert float(on_beacon.max()) > 0
