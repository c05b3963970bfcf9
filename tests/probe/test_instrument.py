"""The instrument: what a batch is, what counts as right, and that runs of one seed are paired."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from attngraft._core.registry import register, unregister
from attngraft.data.probes import PROBES
from attngraft.data.scenes import generator
from attngraft.probe.instrument import NONE, Instrument, ProbeRun, drawn, train
from tests.data.probes.decoding import DECODERS

TINY = replace(Instrument(), images=32, validation=40, epochs=2)


def test_equal_settings_have_equal_hashes_and_others_another() -> None:
    assert Instrument().hash == Instrument().hash
    assert len({Instrument().hash, TINY.hash, replace(TINY, gains={"cls": 1.0}).hash}) == 3


def test_the_rate_rises_for_an_epoch_and_falls_to_its_share() -> None:
    used = Instrument()
    rates = [used.rate(step) for step in range(used.steps * used.epochs + 1)]
    assert rates[used.steps - 1] == used.lr == max(rates)
    assert rates[: used.steps] == sorted(rates[: used.steps])
    assert rates[used.steps :] == sorted(rates[used.steps :], reverse=True)
    assert rates[-1] == pytest.approx(used.lr * used.last_lr)


def test_a_batch_holds_the_chosen_images_and_flips_their_boxes() -> None:
    data = drawn("majority", 0, 6)
    chosen, flips = torch.tensor([4, 1, 3]), torch.tensor([[True, False], [False, True], [False, False]])
    images, owners, boxes, which = data.batch(chosen, flips)
    assert owners.tolist() == [0] * 4 + [1] * 4 + [2] * 4  # Ultralytics' loss wants them in order
    assert data.owners[which].tolist() == [4] * 4 + [1] * 4 + [3] * 4
    for place in range(3):
        pixels = (images[place] * 255).round().byte().permute(1, 2, 0).numpy()
        mine = owners == place
        found = DECODERS["majority"](pixels, [_area(box) for box in boxes[mine]])
        assert found == data.far[which][mine].tolist()
    assert (images[2] * 255).round().byte().equal(data.images[3])


def test_what_is_drawn_is_the_probe() -> None:
    data = drawn("reach", 1, 5)
    scenes = [PROBES["reach"].draw(generator(0, 1, index)) for index in range(5)]
    assert data.far.tolist() == [scene.things[0].far for scene in scenes]
    assert data.labels(control=True).tolist() == [scene.things[0].near for scene in scenes]
    assert data.gaps.min() >= 4
    assert drawn("majority", 0, 6).gaps.unique().tolist() == [-1]


def test_a_run_is_the_same_twice() -> None:
    run = ProbeRun("se", "reach", False, 3)
    first, again = (train(run, TINY, lambda *_: None) for _ in range(2))
    assert first.curve == again.curve
    assert first.ap50 == again.ap50
    assert first.parameters == 512
    assert sum(count for _, count, _ in first.reach) == 40
    assert sum(right for *_, right in first.reach) == pytest.approx(40 * first.accuracy)


def test_an_easy_question_is_learned_and_steps_are_counted() -> None:
    """The control of a probe in a few seconds: the class is the colour of the object's own dot."""
    told: list[tuple[int, float]] = []
    used = replace(Instrument(), images=320, validation=60, epochs=14)
    record = train(ProbeRun(NONE, "reach", True, 0), used, lambda *step: told.append(step))
    assert record.accuracy >= used.learned
    assert record.ap50 > 60
    first = next(epoch for epoch, accuracy in told if accuracy >= used.learned)
    assert record.steps == first * 20
    assert [epoch for epoch, _ in told] == list(range(1, len(record.curve) + 1))
    assert record.parameters == 0


def test_a_run_that_diverges_is_no_run_at_chance() -> None:
    class ProbeTestDiverged(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((channels, 1, 1), torch.inf))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    register(ProbeTestDiverged)
    try:
        with pytest.raises(FloatingPointError, match="gives numbers that are not finite: the run diverged"):
            train(ProbeRun("probe_test_diverged", "reach", False, 0), TINY, lambda *_: None)
    finally:
        unregister("probe_test_diverged")


def _area(box: torch.Tensor) -> tuple[int, ...]:
    from attngraft.data.painting import Area

    return Area(*(int(side) for side in box))
