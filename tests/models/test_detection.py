"""Detectors over the models' stages: what they are made of, and that they learn."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from attngraft.models import create, fasterrcnn, load_shared, maskrcnn, names
from attngraft.models.detection import FeaturePyramid

TINY = {"num_classes": 2, "min_size": 64, "max_size": 64, "channels": 16, "body_options": {"width": 8}}


def scene() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    masks = torch.zeros(1, 48, 64, dtype=torch.uint8)
    masks[0, 10:40, 8:40] = 1
    target = {"boxes": torch.tensor([[8.0, 10.0, 40.0, 40.0]]), "labels": torch.tensor([2]), "masks": masks}
    return [torch.rand(3, 48, 64)], [target]


def test_the_table_names_them() -> None:
    assert {"fasterrcnn_botnet50", "fasterrcnn_resnet50", "fasterrcnn_botnet200"} < set(names("detect"))
    assert {"maskrcnn_botnet50", "maskrcnn_resnet50", "maskrcnn_botnet152"} < set(names("segment"))


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50", "maskrcnn_botnet50"])
def test_every_parameter_learns_and_detections_have_the_pictures_size(name: str) -> None:
    detector = create(name, **TINY)
    pictures, targets = scene()
    losses = detector.train()(pictures, targets)
    sum(losses.values()).backward()
    unreached = {n for n, p in detector.named_parameters() if p.grad is None}
    assert unreached == set()
    with torch.no_grad():
        (found,) = detector.eval()(pictures)
    assert found["boxes"].shape[1] == 4
    if "masks" in found:
        assert found["masks"].shape[2:] == (48, 64)


def test_it_is_torchvisions_mask_rcnn() -> None:
    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=64, max_size=64
    ).eval()
    ours = maskrcnn("resnet50", num_classes=3, min_size=64, max_size=64, norm="frozen").eval()
    shared = load_shared(ours, theirs.state_dict())
    assert (shared.missing, shared.left) == ((), ())
    pictures, _ = scene()
    with torch.no_grad():
        for a, b in zip(theirs(pictures), ours(pictures), strict=True):
            assert a.keys() == b.keys()
            for key in a:
                torch.testing.assert_close(a[key], b[key])


def test_the_papers_recipe_is_the_default() -> None:
    with torch.device("meta"):
        detector = maskrcnn("botnet50")
    attention = [m for m in detector.modules() if type(m).__name__ == "MHSA"]
    assert [a.size for a in attention] == [(64, 64), (32, 32), (32, 32)]
    assert (detector.transform.min_size, detector.transform.max_size) == ((1024,), 1024)
    assert any(isinstance(m, nn.BatchNorm2d) for m in detector.modules())


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("frozen", torchvision.ops.FrozenBatchNorm2d), ("sync", nn.SyncBatchNorm), ("batch", nn.BatchNorm2d)],
)
def test_norms_of_the_backbone(norm: str, kind: type) -> None:
    detector = fasterrcnn("resnet50", norm=norm, **TINY)
    found = {type(m) for m in detector.backbone.modules() if "BatchNorm" in type(m).__name__}
    assert found == {kind}


def test_any_classifier_of_the_table_can_carry_a_pyramid() -> None:
    levels = FeaturePyramid(create("botnet_s1_50", width=8, num_classes=0), 16)(torch.rand(1, 3, 64, 64))
    assert [tuple(level.shape[2:]) for level in levels.values()] == [(16, 16), (8, 8), (4, 4), (4, 4), (2, 2)]


def test_what_has_no_stages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gives the maps of its stages, not Identity"):
        FeaturePyramid(nn.Identity())
    with pytest.raises(ValueError, match="norm to be one of"):
        fasterrcnn("resnet50", norm="layer")


@pytest.mark.parametrize("size", [(7, 900), (900, 7), (49, 49 * 64), (1, 1)])
def test_a_picture_of_any_proportions_is_taken(size: tuple[int, int]) -> None:
    detector = create("maskrcnn_resnet50", **TINY, box_score_thresh=0.0)
    height, width = size
    box = torch.tensor([[0.0, 0.0, width, height]])
    target = {"boxes": box, "labels": torch.tensor([1]), "masks": torch.ones(1, *size, dtype=torch.uint8)}
    images, (fitted,) = detector.transform.train()([torch.rand(3, *size)], [target])
    fitted_size = images.image_sizes[0]
    assert min(fitted_size) >= 1
    assert max(fitted_size) in (63, 64)
    assert fitted["boxes"].tolist() == [[0, 0, fitted_size[1], fitted_size[0]]]
    assert fitted["masks"].shape == (1, *fitted_size)
    assert bool(fitted["masks"].all())
    assert all(loss.isfinite() for loss in detector.train()([torch.rand(3, *size)], [target]).values())
    with torch.no_grad():
        (found,) = detector.eval()([torch.rand(3, *size)])
    assert found["masks"].shape[2:] == size
    assert (found["boxes"] <= torch.tensor([width, height] * 2) + 1e-3).all()
    detector.transform.eval()
    (back,) = detector.transform.postprocess([{"boxes": fitted["boxes"]}], [fitted_size], [size])
    torch.testing.assert_close(back["boxes"], box)
