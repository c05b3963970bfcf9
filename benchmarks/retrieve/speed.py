"""Time a search by heads beside one vector, faiss, LanceDB and one SQL query a head, and weigh the index.

    python benchmarks/retrieve/speed.py           # some minutes of one core; writes speed-DEVICE.json and .md
    python benchmarks/retrieve/speed.py --quick   # seconds, nothing written

Keys are random, with a mean and lengths of their own in every head. Every contender finds the same items, but for the
inverted-file index (IVF), whose overlap with them is given. A ratio is taken inside an interleaved round and compares
with `attngraft, arrays`; a machine that is busy makes milliseconds longer and leaves ratios. The paper's procedure runs
on PostgreSQL with pgvector, which is not here: DuckDB stands in, which scans a column once a head as pgvector does
without an index, and faster.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from _timing import commit

from attngraft.measure import Timing, latency
from attngraft.measure.environment import environment
from attngraft.retrieve import Item, Keys, TextEncoder, vote
from attngraft.retrieve.rank import Neighbours
from attngraft.retrieve.spaces import HeadSpaces, unit
from attngraft.retrieve.stores.arrays import ArrayStore
from attngraft.retrieve.stores.lance import LanceStore

SCHEMA = "attngraft.retrieval-speed/1"
N, HEADS, DIM = 20, 12, 32
SIZES = (1250, 20_000, 50_000)
Search = Callable[[], list[set[str]]]


def drawn(items: int, seed: int, prefix: str) -> Keys:
    """Return random keys; the standard key is as wide as all heads."""
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(0).normal(size=(1, HEADS, DIM))
    heads = (random.normal(size=(items, HEADS, DIM)) + centre).astype(np.float32)
    heads *= np.linspace(0.5, 3, HEADS, dtype=np.float32)[None, :, None]
    return Keys(tuple(f"{prefix}{i}" for i in range(items)), heads, heads.reshape(items, -1).copy())


def found(store: Any, query: Keys, **options: Any) -> Search:
    """Return a search of ours by all heads, with the vote."""
    importance = store.spaces().importance()
    return lambda: [{hit.id for hit in vote(store.nearest(query, N, **options), importance, n=N)[0]}]


def faiss_flat(stored: Keys, query: Keys) -> Search | None:
    """Return the same with one exact index of faiss a head."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    indexes = []
    for head in range(HEADS):
        indexes.append(faiss.IndexFlatIP(DIM))
        indexes[-1].add(np.ascontiguousarray(unit(stored.heads[:, head])))
    importance = HeadSpaces.of(stored.heads).importance()

    def search() -> list[set[str]]:
        units = unit(query.heads)
        hits = [index.search(np.ascontiguousarray(units[:, head]), N) for head, index in enumerate(indexes)]
        similarity, rows = (np.stack([hit[part] for hit in hits], axis=1) for part in (0, 1))
        return [{hit.id for hit in vote(Neighbours(stored.ids, rows, similarity), importance, n=N)[0]}]

    return search


def sql_a_head(stored: Keys, query: Keys) -> Search | None:
    """Return the same with one SQL query a head, each a scan of the table, and the votes in a dictionary."""
    try:
        import duckdb
        import pyarrow
    except ImportError:
        return None
    columns = {"id": pyarrow.array(stored.ids)}
    for head in range(HEADS):
        flat = pyarrow.array(np.ascontiguousarray(stored.heads[:, head]).reshape(-1))
        columns[f"h{head}"] = pyarrow.FixedSizeListArray.from_arrays(flat, DIM)
    table = pyarrow.table(columns)
    database = duckdb.connect(config={"threads": 1})
    database.register("keys", table)
    database.execute("CREATE TABLE items AS SELECT * FROM keys")
    importance = HeadSpaces.of(stored.heads).importance()

    def search() -> list[set[str]]:
        votes: dict[str, float] = {}
        for head in range(HEADS):
            asked = f"SELECT id FROM items ORDER BY array_cosine_distance(h{head}, ?::FLOAT[{DIM}]) LIMIT {N}"
            for rank, (name,) in enumerate(database.execute(asked, [query.heads[0, head].tolist()]).fetchall()):
                votes[name] = votes.get(name, 0.0) + importance[head] * 2.0**-rank
        return [set(sorted(votes, key=lambda name: -votes[name])[:N])]

    return search


def one_size(items: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Time every contender on so many items."""
    stored, query = drawn(items, 1, "d"), drawn(1, 2, "q")
    fields = [{"split": "val" if i % 2 else "train"} for i in range(items)]
    arrays = ArrayStore(HEADS, DIM, HEADS * DIM)
    arrays.add(stored, fields)
    calls: dict[str, Search | None] = {
        "attngraft, arrays": found(arrays, query),
        "attngraft, arrays, centred": found(arrays, query, center=True),
        "attngraft, arrays, filtered": found(arrays, query, where="split = 'val'"),
        "one vector, arrays": lambda: [{hit.id for hit in vote(arrays.nearest(query, N, space="standard"), n=N)[0]}],
        "faiss, one flat index a head": faiss_flat(stored, query),
        "DuckDB, one SQL query a head": sql_a_head(stored, query),
    }
    stores: dict[str, Any] = {}
    for name in ("attngraft, LanceDB", "attngraft, LanceDB, IVF"):
        stores[name] = LanceStore(HEADS, DIM, HEADS * DIM, folder=folder / f"{items}{name[-3:]}")
        stores[name].add(stored, fields)
        calls[name] = found(stores[name], query)
    calls["attngraft, LanceDB, filtered"] = found(stores["attngraft, LanceDB"], query, where="split = 'val'")
    stores["attngraft, LanceDB, IVF"].index()
    there = {name: call for name, call in calls.items() if call is not None}
    whole, filtered = there["attngraft, arrays"]()[0], there["attngraft, arrays, filtered"]()[0]
    rows = []
    for timing in compare(there, seconds):
        expected = filtered if "filtered" in timing.name else whole
        same = "centred" not in timing.name and "vector" not in timing.name
        overlap = len(there[timing.name]()[0] & expected) / N if same else None
        rows.append({**asdict(timing), "overlap": overlap})
        assert overlap is None or "IVF" in timing.name or overlap == 1, (timing.name, overlap)
    return {"items": items, "heads": HEADS, "dim": DIM, "n": N, "rows": rows}


def compare(calls: Mapping[str, Callable[[], object]], seconds: float) -> list[Timing]:
    """Time calls in the interleaved rounds that fit into so many seconds, 5 at least."""
    start = time.perf_counter()
    for call in calls.values():
        call()
    rounds = int(seconds / (time.perf_counter() - start))
    return latency.compare(calls, rounds=min(60, max(5, rounds)), warmup=1)


def sizes_and_sums(items: int, folder: Path) -> dict[str, Any]:
    """Weigh indexes of half precision without a standard key, and time the importance of all heads."""
    stored = drawn(items, 1, "d")
    bare = Keys(stored.ids, stored.heads, np.zeros((items, 0), np.float32))
    weights = {}
    for name, kind in (("arrays", ArrayStore), ("LanceDB", LanceStore)):
        store = kind(HEADS, DIM, 0, dtype="float16", folder=folder / f"half-{name}")
        store.add(bare)
        held = sum(file.stat().st_size for file in (folder / f"half-{name}").rglob("*") if file.is_file())
        weights[name] = held / (items * HEADS * DIM * 2)
    timings = latency.compare({
        "importance, O(N)": lambda: HeadSpaces.of(stored.heads).importance(),
        "importance over all pairs": lambda: all_pairs(stored.heads[:2000]),
    }, rounds=5, warmup=1)  # fmt: skip
    return {
        "items": items,
        "bytes_over_bytes_of_the_keys": weights,
        "importance_ms": timings[0].p50_ms,
        "importance_over_all_pairs_of_2000_items_ms": timings[1].p50_ms,
    }


def encoding(seconds: float) -> dict[str, Any]:
    """Time the keys of texts beside the same model without the hook, tokens and pooling alike.

    The model has the sizes of all-MiniLM-L6-v2 and random weights, and reads 16 texts of 126 words.
    """
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(1000)} | {"[UNK]": 1000}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", model_max_length=512)
    network = transformers.AutoModel.from_config(config).eval()
    encoder = TextEncoder(network, tokenizer=tokenizer, pooling="mean", prompt="{text}", device="cpu")
    random = np.random.default_rng(0)
    items = [Item(str(n), " ".join(f"w{w}" for w in random.integers(1, 1000, 126))) for n in range(16)]

    @torch.inference_mode()
    def plain() -> np.ndarray[Any, Any]:
        ids = torch.tensor([tokenizer(item.text)["input_ids"] for item in items])
        return network(input_ids=ids, attention_mask=torch.ones_like(ids))[0].mean(1).numpy()

    (keys,) = encoder.keys(items)
    order = [int(name) for name in keys.ids]
    np.testing.assert_allclose(keys.standard, plain()[order], rtol=1e-3, atol=1e-4)
    timings = compare({"plain forward": plain, "keys": lambda: list(encoder.keys(items))}, seconds)
    return {"texts": 16, "tokens": 126, "keys_over_plain_forward": asdict(timings[1])}


def all_pairs(keys: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the importance as the paper writes it, from all pairs of keys; quadratic in their number."""
    units = unit(keys)
    far = [1 - float((units[:, head] @ units[:, head].T).mean()) for head in range(keys.shape[1])]
    return np.linalg.norm(keys, axis=2).mean(0) * np.array(far)


def table(record: dict[str, Any]) -> str:
    """Write the figures as Markdown."""
    device = record["environment"]["device"]
    lines = [
        f"# Search by {HEADS} heads x {DIM} on {device}, one thread",
        "",
        f"{record['environment']['date'][:10]}, commit {record['commit']}, on a machine with a load of "
        f"{record['load_before']} before; the script says how it is measured.",
    ]
    for case in record["cases"]:
        lines += [
            "",
            f"## {case['items']} items",
            "",
            "| | ms | times as long as attngraft, arrays | found alike |",
            "|---|--:|--:|--:|",
        ]
        for row in case["rows"]:
            alike = "" if row["overlap"] is None else f"{row['overlap']:.2f}"
            between = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
            lines.append(f"| {row['name']} | {row['p50_ms']:.2f} | {between} | {alike} |")
    of, made = record["index"], record["encoding"]["keys_over_plain_forward"]
    held = ", ".join(f"{name} {ratio:.3f}" for name, ratio in of["bytes_over_bytes_of_the_keys"].items())
    pairs = of["importance_over_all_pairs_of_2000_items_ms"]
    between = f"{made['ratio']:.3f} ({made['ratio_low']:.3f}-{made['ratio_high']:.3f})"
    lines += ["", f"Half precision, {of['items']} items: bytes of the index over bytes of the keys: {held}.", "",
              f"Importance of all heads: {of['importance_ms']:.0f} ms; of 2000 items over all pairs: {pairs:.0f} ms.",
              "", f"Keys of texts take {between} times as long as the model's plain forward pass.", ""]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Read the options, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=40, help="for each number of items")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes, seconds = ((1250,), 2.0) if options.quick else (SIZES, options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "commit": commit(),
            "environment": asdict(environment("cpu")),
            "load_before": round(os.getloadavg()[0], 1),
            "cases": [one_size(items, seconds, Path(folder)) for items in sizes],
            "index": sizes_and_sums(sizes[-1] if options.quick else 20_000, Path(folder)),
            "encoding": encoding(seconds),
        }
    print(table(record))
    if not options.quick:
        device = re.sub(r"[^a-z0-9]+", "-", record["environment"]["device"].lower()).strip("-")
        file = Path(__file__).with_name(f"speed-{device}.json")
        file.write_text(json.dumps(record, indent=1, default=dict) + "\n", encoding="utf-8")
        file.with_suffix(".md").write_text(table(record), encoding="utf-8")


if __name__ == "__main__":
    main()
