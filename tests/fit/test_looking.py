"""The networks of fit under maps: what is found is what their own prediction finds, and maps have gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attngraft import maps
from attngraft._core.errors import CheckpointError, MapError
from attngraft.fit.looking import WatchedClassifier, WatchedDetector, WatchedEnlarger, watched
from attngraft.fit.map_layers import last_map, stages
from attngraft.fit.options import Options
from attngraft.fit.tasks.tasks import LEARNERS
from attngraft.fit.trained import Trained
from attngraft.models import create


def untrained(model: str, classes: tuple[str, ...] = ("red", "green"), **options: Any) -> Trained:
    """A network with random weights that says different things in different places."""
    torch.manual_seed(0)
    given = {"model": model, "data": "none", "preset": "small", "accelerator": "cpu", "imgsz": 64, **options}
    chosen = Options.of(given)
    learner = LEARNERS[chosen.task](chosen, classes).eval()
    return Trained(learner, chosen, classes, Path("best.ckpt"))


def image(height: int = 90, width: int = 131) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def pixels(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize("model", ["botnet50", "dilateformer_tiny", "mobilenetv3_small", "tiny_classifier"])
def test_a_classifier_says_what_it_predicts(model: str) -> None:
    trained = untrained(model, ("a", "b", "c"))
    subject = watched(trained)
    assert isinstance(subject, WatchedClassifier)
    expected = trained.learner.predict([pixels(image())])[0]
    found = subject.find(subject.prepare(image()).tensor, confidence=0.0)[0]
    assert [subject.names[d.label] for d in found] == [name for name, _ in expected]
    assert [d.score for d in found] == pytest.approx([p for _, p in expected], abs=1e-5)
    assert found[0].box == (0, 0, 64, 64)


def test_a_classifier_shows_its_middle() -> None:
    subject = watched(untrained("tiny_classifier", imgsz=70))
    prepared = subject.prepare(image(80, 120))  # whose short side keeps its 80 pixels, as 80 * .875 = 70
    torch.testing.assert_close(prepared.tensor[0] * 255, pixels(image(80, 120))[:, 5:75, 25:95].float())
    assert prepared.back((0, 0, 70, 70)) == (25, 5, 95, 75)
    with pytest.raises(MapError, match="takes one side, as in imgsz=64"):
        subject.prepare(image(), (64, 32))


@pytest.mark.parametrize(
    ("model", "options"),
    [("tiny_detector", {}), ("tiny_segmenter", {}), ("fasterrcnn_botnet50", {"model.body_options": {"width": 8}})],
)
@pytest.mark.parametrize("size", [(90, 131), (131, 40)])
def test_a_detector_finds_what_it_predicts(model: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    trained = untrained(model, **options)
    network: Any = trained.learner.network
    network.roi_heads.score_thresh = 0.2  # an untrained one is sure of nothing
    subject = watched(trained)
    assert isinstance(subject, WatchedDetector)
    (expected,) = trained.learner.predict([pixels(image(*size))])
    prepared = subject.prepare(image(*size))
    found = subject.find(prepared.tensor, confidence=0.0)[0]
    assert len(found) == len(expected["labels"]) > 2
    assert [d.label + 1 for d in found] == expected["labels"].tolist()
    torch.testing.assert_close(torch.tensor([d.score for d in found]), expected["scores"], atol=1e-4, rtol=0)
    back = torch.tensor([prepared.back(d.box) for d in found])
    torch.testing.assert_close(back, expected["boxes"], atol=0.05, rtol=0)


def test_a_detector_computes_only_what_is_asked() -> None:
    trained = untrained("tiny_detector")
    subject: Any = watched(trained)
    subject.network.roi_heads.score_thresh = 0.0
    tensor = subject.prepare(image()).tensor
    found = subject.find(tensor, confidence=0.0)[0][:2]
    with torch.no_grad(), subject.only(found):
        part = subject.predict(tensor)
    with torch.no_grad():
        whole = subject.predict(tensor)
    with subject.only(found):
        heat = maps.odam(subject.network, subject.predict, tensor, [d.target("left") for d in found], subject.layers)
    assert part.scores.shape == whole.scores.shape
    for detection in found:
        assert float(detection.target().of(part)) == pytest.approx(detection.score, abs=1e-6)
        assert float(detection.target("left").of(part)) == pytest.approx(detection.box[0], abs=1e-4)
    assert int(part.scores.any(2).sum()) == len({d.candidate for d in found})
    again = maps.odam(subject.network, subject.predict, tensor, [d.target("left") for d in found], subject.layers)
    for layer in subject.layers:
        torch.testing.assert_close(heat[layer], again[layer])
    with pytest.raises(MapError, match="prepare the image with this model first"):
        subject.predict(torch.rand(1, 3, 32, 32))


def test_images_of_a_batch_may_have_fewer_proposals() -> None:
    subject: Any = watched(untrained("tiny_detector"))
    tensor = subject.prepare(image()).tensor
    both = subject.predict(torch.cat([tensor, torch.zeros_like(tensor)]))
    alone = subject.predict(tensor)
    count = alone.scores.shape[1]
    torch.testing.assert_close(both.scores[:1, :count], alone.scores)
    assert both.boxes.shape == (*both.scores.shape, 4)


def test_an_enlarger_shows_its_middle_in_whole_windows() -> None:
    small = {"channels": 12, "depths": [1], "heads": 2, "window": 8, "squeeze": 4, "compress": 3}
    subject = watched(untrained("hat_s", (), scale=2, imgsz=20, **{f"model.{k}": v for k, v in small.items()}))
    assert isinstance(subject, WatchedEnlarger)
    prepared = subject.prepare(image())
    assert prepared.tensor.shape == (1, 3, 24, 24)
    torch.testing.assert_close(prepared.tensor[0, :, :20, :20] * 255, pixels(image())[:, 35:55, 55:75].float())
    assert prepared.back((0, 0)) == (55, 35)
    with maps.record(subject.network) as tape:
        assert subject.predict(prepared.tensor).scores.shape == (1, 0, 0)
    assert {a.grid for a in tape.attentions.values()} == {(24, 24)}
    assert tape.gates
    assert subject.find(prepared.tensor) == [[]]
    assert subject.layers == subject.layers_before(list(tape.attentions)) == []


def test_the_layers_are_those_that_are_read() -> None:
    for name, expected in {"botnet50": "layer4", "dilateformer_tiny": "norm", "mobilenetv3_small": "last"}.items():
        network = create(name, num_classes=2).eval()
        assert last_map(network) == expected
        assert len(stages(network)) == 4
    subject = watched(untrained("fasterrcnn_botnet50"))
    assert subject.layers_before(["backbone.body.layer4.0.conv2"]) == ["backbone.body.layer3"]
    assert subject.layers[0] == "backbone.body.layer4"
    assert subject.layers[-1] == "backbone.fpn.layer_blocks.3"


def test_a_checkpoint_of_a_run(begin: Callable[..., Any], colours: Path, tmp_path: Path) -> None:
    begin(colours, "mobilenetv3_small", out=tmp_path / "run", imgsz=32, **{"model.gate": "mlca"}).run()
    subject = watched(tmp_path / "run")
    assert list(subject.names.values()) == ["blue", "green", "red"]
    assert subject.title == "mobilenetv3_small (best.ckpt)"
    tensor = subject.prepare(image()).tensor
    with maps.record(subject.network) as tape:
        (found,) = subject.find(tensor, confidence=0.0)
    assert len(tape.gates) == 9
    heat = maps.odam(subject.network, subject.predict, tensor, [found[0].target()], subject.layers)
    assert set(heat) == {"last"}
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt does not exist"):
        watched("nowhere.ckpt")
