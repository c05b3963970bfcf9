# %% [markdown]
# # The way of the posts: a row in a model YAML
#
# After `import attngraft`, the rows that posts write build as they stand, with the arguments of the widely copied class
# or with none, and nothing of Ultralytics is edited.

# %%
from pathlib import Path

import ultralytics
import yaml

import attngraft

stock = Path(ultralytics.__file__).parent / "cfg/models/11/yolo11.yaml"
rows = yaml.safe_load(stock.read_text())
rows["nc"] = 3
rows["backbone"].append([-1, 1, "MHSA", [14, 14, 4]])  # the copied signature: width, height, heads
for head in rows["head"]:  # a row that is inserted moves every index behind it
    sources = head[0] if isinstance(head[0], list) else [head[0]]
    moved = [source + 1 if source > 10 else source for source in sources]
    head[0] = moved if isinstance(head[0], list) else moved[0]
    if head[0] == [-1, 10]:
        head[0] = [-1, 11]
Path("yolo11-mine.yaml").write_text(yaml.safe_dump(rows))

# %%
model = attngraft.YOLO("yolo11n-mine.yaml")
attention = next(module for module in model.model.modules() if type(module).__name__ == "MHSA")
print(attention)

# %% [markdown]
# The same, without counting indices and with every pretrained weight in its place:

# %%
print(attngraft.YOLO("yolo11n.yaml+mhsa@P5").model.yaml.get("grafts", "a graft at P5"))
