"""Classification: what the network sees of an image, and what is made of its logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision import tv_tensors

from attngraft._core.errors import DataError
from attngraft.fit import Fit, Options, load, validate
from attngraft.fit.tasks.classify import Classifier, augmented, plain
from attngraft.fit.tasks.classify import load as read
from attngraft.fit.tasks.learner import normalized

OPTIONS = {"model": "tiny_classifier", "data": "flowers", "workers": 0, "imgsz": 16}


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (9, 50), (1, 1)], ids=str)
def test_measured_images_show_the_centre(size: tuple[int, int]) -> None:
    image = tv_tensors.Image(torch.randint(0, 255, (3, *size), dtype=torch.uint8))
    one, other = (plain(16)(image) for _ in range(2))
    assert one.shape == (3, 16, 16)
    assert torch.equal(one, other)
    if size == (40, 24):  # whose crop leaves as much on either side
        mirrored = plain(16)(tv_tensors.Image(image.flip(-1)))
        assert (mirrored.flip(-1).int() - one.int()).abs().max() <= 2


def test_training_images_are_cropped_and_mirrored_by_chance() -> None:
    image = tv_tensors.Image(torch.randint(0, 255, (3, 40, 24), dtype=torch.uint8))
    transform = augmented(Options.of(OPTIONS))
    made = [transform(image) for _ in range(4)]
    assert all(one.shape == (3, 16, 16) and type(one) is torch.Tensor for one in made)
    assert not all(torch.equal(one, made[0]) for one in made)
    still = augmented(Options.of({**OPTIONS, "randaugment": 0, "flip": False, "crop": 1.0}))
    assert still(tv_tensors.Image(torch.full((3, 20, 20), 7, dtype=torch.uint8))).unique().tolist() == [7]


def test_a_prediction_is_the_softmax_of_the_logits(colours: Path, begin: Callable[..., Fit]) -> None:
    learner = load(begin(colours).run().folder).learner
    images = [read(file) for file in sorted((colours / "val/green").iterdir())]
    with torch.no_grad():
        logits = learner.network(normalized(torch.stack([plain(16)(image) for image in images])))
    for row, found in zip(logits.exp() / logits.exp().sum(1, keepdim=True), learner.predict(images), strict=True):
        assert [p for _, p in found] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-6)
        assert [name for name, _ in found] == [learner.classes[i] for i in row.argsort(descending=True)]
    rows = learner.rows("a", "b.png", found)
    assert [(r["image"], r["rank"], r["class"]) for r in rows] == [
        ("b.png", i + 1, n) for i, (n, _) in enumerate(found)
    ]
    assert learner.describe([("red", 0.25)]) == "red 25.0 %"
    assert learner.draw(images[0], found) is None


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="classification needs two classes or more, and flowers has 1"):
        Classifier(Options.of(OPTIONS), ["only"])


def test_the_loss_is_a_mean_over_images_whatever_the_batch(colours: Path, begin: Callable[..., Fit]) -> None:
    """A last batch that is not full weighed as much as a full one."""
    trained = load(begin(colours, batch=5).run().folder)
    learner = trained.learner
    files = [(file, name) for name in learner.classes for file in sorted((colours / "val" / name).iterdir())]
    assert len(files) % 5
    with torch.no_grad():
        logits = learner.network(normalized(torch.stack([plain(16)(read(file)) for file, _ in files])))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([learner.classes.index(n) for _, n in files]))
    assert validate(trained, workers=0)["val_loss"] == pytest.approx(float(expected), rel=1e-5)
