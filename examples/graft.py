# %% [markdown]
# # Graft a mechanism into a YOLO
#
# A recipe names a base, a mechanism and a place. The graft starts as the identity: the grafted model gives the base's
# numbers until training changes it.

# %%
import torch

import attngraft

base = attngraft.YOLO("yolo11n.yaml")
base.save("base.pt")  # stands for yolo11n.pt, or any checkpoint of yours
grafted = attngraft.YOLO("base.pt+mhsa(heads=4)@P5")

# %% [markdown]
# Every tensor of the base is there under its own name, with its own values; what is new belongs to the graft.

# %%
base = attngraft.YOLO("base.pt")
before, after = base.model.state_dict(), grafted.model.state_dict()
new = sorted(after.keys() - before.keys())
print(f"{len(before)} tensors kept, {len(new)} added, such as {new[0]}")
assert all(torch.equal(after[name], value) for name, value in before.items())

# %% [markdown]
# And the numbers are the same, bit for bit.

# %%
image = torch.rand(1, 3, 320, 320)
base.model.eval(), grafted.model.eval()
with torch.no_grad():
    assert torch.equal(base.model(image)[0], grafted.model(image)[0])

# %% [markdown]
# A recipe is data: parse it, look at it, print it.

# %%
recipe = attngraft.Recipe.parse("yolo11n+ema(groups=16)@P3,P4+se@N5")
print(recipe)
print(attngraft.names()[:8], "...")
print(attngraft.info("mhsa").formula)
