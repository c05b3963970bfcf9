# %% [markdown]
# # Retrieve images by attention heads
#
# Each head keeps a key of its own for an image, finds its own nearest images, and votes (Multi-Head RAG). The model
# here is not trained, so only the way is shown; give your own `best.pt`, or a text model and a `docs.jsonl`.

# %%
import attngraft
from attngraft import retrieve
from attngraft.data import factors

data = factors("factors", rule="shape", train=4, val=24)
attngraft.YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3").save("model.pt")

# %%
images = data.parent / "images/val"
index = retrieve.Index.build(images, model="model.pt", path="images.index", imgsz=96)

# %% [markdown]
# A hit says how it was found: which heads voted for it, and at which of their ranks.

# %%
query = sorted(images.glob("*"))[0]
hits = index.search(query, n=5)
for hit in hits:
    print(hit.id, f"{hit.votes:.2g}", "heads:", [(vote.head, vote.rank) for vote in hit.by_head])
assert hits[0].id == query.name  # an image is nearest to itself for every head

# %% [markdown]
# The index is a folder: opened again, added to, filtered, and searched from the command line too.

# %%
again = retrieve.Index.open("images.index")
print(len(again.search(query, n=5)), "hits from", "images.index")
