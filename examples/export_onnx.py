# %% [markdown]
# # Export, and run with ONNX Runtime
#
# The exported file is compared with the model before it is yours: a file that gives other numbers is refused.

# %%
import numpy as np
import onnxruntime

import attngraft

attngraft.YOLO("attngraft-micro.yaml+mhsa@P3").save("model.pt")  # stands for your best.pt
file = attngraft.YOLO("model.pt").export(format="onnx", imgsz=96, dynamic=True)
print(file)

# %% [markdown]
# A dynamic file takes any size that the strides of the model divide, for the attention has no fixed map.

# %%
session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
for height, width in ((96, 96), (64, 128)):
    image = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    print(height, width, session.run(None, {name: image})[0].shape)
