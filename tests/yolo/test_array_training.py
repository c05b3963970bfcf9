"""The detector in memory is Ultralytics' own: its loss, its boxes, and one start for a seed."""

from __future__ import annotations

import pytest
import torch

from attngraft._core.errors import RecipeError
from attngraft.yolo import Recipe
from attngraft.yolo.array_training import ArrayDetector, one_graft
from attngraft.yolo.step import host_arguments
from attngraft.yolo.training import checksum

BASE = "attngraft-micro.yaml"
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}


def detector(*mechanisms: str, seed: int = 0) -> ArrayDetector:
    specs = [one_graft(BASE, name, "P3") for name in mechanisms]
    return ArrayDetector(BASE, specs, classes=2, seed=seed, gains=GAINS)


def test_equal_seeds_start_alike_outside_the_graft() -> None:
    plain, grafted, other = detector(), detector("mhsa"), detector(seed=1)
    assert checksum(plain.model) == checksum(grafted.model)
    assert checksum(plain.model) != checksum(other.model)
    assert (plain.grafted_parameters, grafted.grafted_parameters) == (0, 13_536)


def test_the_papers_form_is_taken_unless_something_else_is_said() -> None:
    assert one_graft(BASE, "mhsa(heads=2)", "P3").init == "paper"
    assert one_graft(BASE, "mhsa(init=identity)", "P3").init == "identity"
    assert one_graft(BASE, "shsa(zero_init=true)", "P3").init == "paper"  # an option that ends alike
    replaced = one_graft(BASE, "mhsa(mode=replace)", "P3")  # which has one form
    assert Recipe.parse(f"{BASE}+{replaced}").grafts == (replaced,)
    with pytest.raises(RecipeError, match="no mechanism is called 'mhssa'"):
        one_graft(BASE, "mhssa", "P3")


def test_the_loss_is_ultralytics_own() -> None:
    made = detector("se")
    torch.manual_seed(3)
    images = torch.rand(3, 3, 96, 64 + 32)
    owners, labels = torch.tensor([0, 0, 2]), torch.tensor([1, 0, 1])
    boxes = torch.tensor([[8.0, 16, 40, 48], [50, 50, 80, 90], [10, 20, 30, 60]])
    batch = {
        "img": images, "batch_idx": torch.tensor([0.0, 0, 2]), "cls": torch.tensor([[1.0], [0], [1]]),
        "bboxes": torch.tensor([[24, 32, 32, 32], [65, 70, 30, 40], [20, 40, 20, 40]]) / 96,
    }  # fmt: skip
    theirs = detector("se").model
    theirs.args = host_arguments({})
    assert made.loss(images, owners, boxes, labels).item() == pytest.approx(theirs.train()(batch)[0].sum().item())


def test_gains_weigh_the_parts() -> None:
    images, owner, label = torch.rand(1, 3, 96, 96), torch.tensor([0]), torch.tensor([1])
    box = torch.tensor([[8.0, 16, 40, 48]])
    losses = [
        ArrayDetector(BASE, [], classes=2, seed=0, gains={"box": 0.0, "cls": gain, "dfl": 0.0}).loss(
            images, owner, box, label
        )
        for gain in (0.5, 1.0)
    ]
    assert losses[1].item() == pytest.approx(2 * losses[0].item())


def test_logits_and_boxes_lie_where_the_cells_are() -> None:
    made = detector()
    images = torch.rand(2, 3, 96, 96)
    logits, boxes = made.look(images)
    assert logits.shape == (2, 2, 12, 12)
    assert len(boxes) == 2
    decoded, raw = made.model.eval()(images)
    assert logits.flatten(2).equal(raw["scores"])
    assert decoded[:, 4:].equal(logits.flatten(2).sigmoid())
