# %% [markdown]
# # Did it help?
#
# A study trains the arms and the baseline in pairs over several seeds and says what that shows. This one is far too
# small to show anything, and says so; on your data leave the seeds to the default.

# %%
from attngraft import Study
from attngraft.data import beacons

data = beacons("beacons", rule="global", train=16, val=8)
study = Study(
    data=data,
    base="attngraft-micro.yaml",
    arms=["mhsa(init=paper)@P3"],
    controls=["stock"],
    seeds=2,
    train={"epochs": 1, "imgsz": 96, "batch": 8, "workers": 0, "device": "cpu"},
    folder="study",
)
failed = study.run(parallel=1, anyway=True)  # one epoch teaches nothing, at which a study would stop
assert not failed

# %%
results = study.results
for arm in results.table():
    print(arm)
print(results.arm("mhsa(init=paper)@P3").verdict.outcome)

# %% [markdown]
# The report is one page that opens without a network.

# %%
print(study.report())
