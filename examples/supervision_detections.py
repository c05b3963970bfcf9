# %% [markdown]
# # Detections of a grafted model in supervision
#
# The results are Ultralytics', so [supervision](https://supervision.roboflow.com) takes them:
# `pip install supervision`.

# %%
import numpy as np
import supervision

import attngraft

model = attngraft.YOLO("attngraft-micro.yaml+ema@P3")  # your best.pt
image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
result = model.predict(image, imgsz=96, conf=0.000001, verbose=False, device="cpu")[0]

# %%
detections = supervision.Detections.from_ultralytics(result)
print(len(detections), "detections")
drawn = supervision.BoxAnnotator().annotate(image.copy(), detections)
print(drawn.shape)
