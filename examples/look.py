# %% [markdown]
# # What did the attention mix, and what does a detection rest on?
#
# Untrained models have nothing to show; give your own `best.pt` and an image of yours.

# %%
import numpy as np

import attngraft
from attngraft.data import beacons

data = beacons("beacons", rule="global", train=32, val=8)
model = attngraft.YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3")
model.train(data=data, epochs=2, imgsz=96, batch=8, workers=0, plots=False, device="cpu")

# %%
image = next((data.parent / "images/val").glob("*"))
seen = attngraft.look(model.trainer.best, image, imgsz=96, confidence=0.0005)
first = seen.images[0]
print([attention.name for attention in first.attentions])

# %% [markdown]
# Arrays first: the weights with which each head gathered the values of all cells, for each detection.

# %%
rows = first.attentions[0].rows
print(rows.shape)
assert np.allclose(rows.sum(-1), 1, atol=1e-3)

# %%
print(seen.save("look.html"))
