# %% [markdown]
# # Train, validate, predict
#
# `attngraft.YOLO` is Ultralytics' object: every option and every method that you know is there. The data are generated
# and tiny, and so is the base, so that this runs anywhere in half a minute; put your own in their place.

# %%
import attngraft
from attngraft.data import beacons

data = beacons("beacons", rule="global", train=32, val=8)
small = {"imgsz": 96, "batch": 8, "workers": 0, "plots": False, "device": "cpu"}

# %%
model = attngraft.YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3")
model.train(data=data, epochs=1, **small)

# %% [markdown]
# The checkpoint knows its grafts. It opens here, and with the `yolo` command in a process that never saw attngraft.

# %%
best = model.trainer.best
again = attngraft.YOLO(best)
print(again.val(data=data, **small).box.map)
print(len(again.predict(data.parent / "images/val", imgsz=96, verbose=False, device="cpu")), "images")
