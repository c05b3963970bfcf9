# %% [markdown]
# # Judge runs that you have
#
# You trained already, with any program. A table of one number a run is enough for a verdict; `attngraft study judge`
# takes run folders of Ultralytics and predictions in COCO's format as well.

# %%
import subprocess
from pathlib import Path

import numpy as np

rng = np.random.default_rng(0)
lines = ["arm,seed,AP"]
for seed in range(10):
    luck = rng.normal(0, 0.2)  # what both runs of a seed have in common
    lines.append(f"yolo11n,{seed},{39.0 + luck + rng.normal(0, 0.2):.2f}")
    lines.append(f"mhsa,{seed},{39.8 + luck + rng.normal(0, 0.2):.2f}")
Path("runs.csv").write_text("\n".join(lines))

# %%
done = subprocess.run(
    ["attngraft", "study", "judge", "runs.csv", "baseline=yolo11n", "sesoi=0.5", "output=judged"],
    check=True,
    capture_output=True,
    text=True,
)
print(done.stdout)
