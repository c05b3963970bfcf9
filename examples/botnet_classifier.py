# %% [markdown]
# # A classifier with attention, and BoTNet as a backbone
#
# The papers' own networks train with Lightning, from a folder with one folder a class. MobileNetV3 is the smallest of
# them; `botnet50` takes its place as it stands.

# %%
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attngraft import Fit, models
from attngraft.fit import load, predict

rng = np.random.default_rng(0)
for split, count in (("train", 8), ("val", 4)):
    for name, colour in (("red", (220, 40, 40)), ("green", (40, 220, 40))):
        folder = Path("colours", split, name)
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(rng.normal(colour, 30, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")

# %%
result = Fit("mobilenetv3_small", "colours", epochs=1, imgsz=64, batch=8, workers=0, accelerator="cpu").run()
trained = load(result.folder)
print(predict(trained, "colours/val/red/0.png"))

# %% [markdown]
# Each of them gives its maps at four strides, and is a backbone of any YOLO: `model=yolo11n-botnet50.yaml`.

# %%
net = models.create("botnet50", num_classes=10).eval()
with torch.no_grad():
    print([tuple(stage.shape) for stage in net.forward_features(torch.rand(1, 3, 96, 160))])
