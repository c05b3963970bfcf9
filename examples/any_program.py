# %% [markdown]
# # A study of a program that knows nothing of attngraft
#
# The program below finds the one square in an image and says which of two colours it has. It trains a small network of
# torchvision's layers, with or without squeeze-and-excitation, and writes its detections in COCO's results format:
#
#     $ python any_program.py truth truth.json
#     $ attngraft study data=truth.json base=plain arms=squeeze "command=python any_program.py {arm} {seed} {folder}"

# %%
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation, box_convert

SIDE, STEPS, VALIDATION = 32, 60, 40


# %% The data: coloured squares of 8 to 16 pixels on noise.
def scenes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images ``(B, 3, 32, 32)``, boxes ``(B, 4)`` as x, y, width and height in pixels, and classes ``(B,)``."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=draw) * 0.4
    sides = torch.randint(8, 17, (count,), generator=draw)
    corners = (torch.rand(count, 2, generator=draw) * (SIDE - sides[:, None])).long()
    classes = torch.randint(0, 2, (count,), generator=draw)
    for image, (x, y), side, kind in zip(images, corners.tolist(), sides.tolist(), classes.tolist(), strict=True):
        image[kind, y : y + side, x : x + side] = 1
    return images, torch.cat([corners, sides[:, None].expand(-1, 2)], 1).float(), classes


def network(arm: str) -> nn.Module:
    """Return a network from images to four box coordinates and two class scores."""
    layers = [Conv2dNormActivation(3, 16, stride=2), Conv2dNormActivation(16, 32, stride=2)]
    gate = [SqueezeExcitation(32, 8)] if arm == "squeeze" else []
    head = [nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 64), nn.ReLU(), nn.Linear(64, 6)]
    return nn.Sequential(*layers, *gate, *head)


def train(arm: str, seed: int, folder: Path) -> None:
    """Train one network and write ``predictions.json``."""
    torch.manual_seed(seed)
    model, images = network(arm), scenes(VALIDATION, seed=-1)[0]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(STEPS):
        batch, boxes, classes = scenes(32, seed=STEPS * seed + step)
        found = model(batch)
        loss = (
            nn.functional.l1_loss(found[:, :4], boxes / SIDE) + nn.functional.cross_entropy(found[:, 4:], classes) / 4
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(images)
    scores, kinds = found[:, 4:].softmax(1).max(1)
    rows = zip((found[:, :4] * SIDE).tolist(), scores.tolist(), kinds.tolist(), strict=True)
    results = [{"image_id": i, "bbox": b, "score": s, "category_id": k} for i, (b, s, k) in enumerate(rows, 1)]
    (folder / "predictions.json").write_text(json.dumps(results))


def truth(file: Path) -> None:
    """Write the ground truth of the validation images in COCO's format."""
    _, boxes, classes = scenes(VALIDATION, seed=-1)
    areas = box_convert(boxes, "xywh", "xyxy")[:, 2:].sub(boxes[:, :2]).prod(1).tolist()
    rows = enumerate(zip(boxes.tolist(), classes.tolist(), areas, strict=True), 1)
    objects = [{"id": i, "image_id": i, "bbox": b, "category_id": k, "area": a, "iscrowd": 0} for i, (b, k, a) in rows]
    images = [{"id": o["id"], "width": SIDE, "height": SIDE, "file_name": f"{o['id']}.png"} for o in objects]
    names = [{"id": 0, "name": "red"}, {"id": 1, "name": "green"}]
    file.write_text(json.dumps({"images": images, "annotations": objects, "categories": names}))


# %%
if __name__ == "__main__":
    if sys.argv[1] == "truth":
        truth(Path(sys.argv[2]))
    else:
        train(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
