"""Keys of texts: what each attention head of a transformers model put together, read before the heads are mixed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attngraft._core.checks import one_of, positive
from attngraft._core.errors import DataError, OptionError, first_line
from attngraft._core.extras import extra_package
from attngraft._core.progress import SILENT, Progress
from attngraft.retrieve import keys as key_file
from attngraft.retrieve.items import Item
from attngraft.retrieve.keys import Json, Keys, Kind
from attngraft.retrieve.projections import find_projections, reading
from attngraft.retrieve.prompts import PAPER, PLACE, require_room, require_template, tokens

POOLINGS = ("last", "mean", "first")
PRECISIONS = ("float32", "bfloat16", "float16", "auto")
WINDOW = 16
"""Batches whose texts are sorted by length, so that little is padded."""
SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])|\n{2,}")


class TextEncoder:
    """Make keys of texts with a language model or a text encoder of transformers.

    Args:
        model: A folder, a hub id, or a loaded model.
        tokenizer: Its tokenizer, where the model is loaded already.
        layers: Which attentions' heads are used, counted from 0, or from the end as -1.
        pooling: Which tokens a key is of: "last", "mean" of all, or "first". A model trained to embed is used with
            the pooling it was trained with.
        prompt: Around a query, with ``{text}`` where it stands.
        document: The same around a document.
        max_tokens: Most tokens of a text with its prompt; None takes what the model can read.
        batch: Texts at once.
        precision: Of the weights: "float32", "bfloat16", "float16" or "auto", the file's own.
        gguf_file: Name of a GGUF file in the folder; transformers computes with its weights in ``precision``.
        device: Where it runs; None takes a GPU if there is one.
        preset: ``"paper"`` puts the paper's instruction around queries where no prompt is given.

    Raises:
        OptionError: If the model has no heads to be told apart, or an option cannot work.
        DataError: If it cannot be loaded.
        MissingExtraError: If transformers is not installed.
    """

    kind: Kind = "text"

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        layers: int | Sequence[int] = -1,
        pooling: str = "last",
        prompt: str | None = None,
        document: str = PLACE,
        max_tokens: int | None = None,
        batch: int = 16,
        precision: str = "float32",
        gguf_file: str | None = None,
        device: str | None = None,
        preset: str | None = None,
    ) -> None:
        extra_package("transformers", "retrieve")
        positive("TextEncoder", batch=batch)
        one_of("TextEncoder", "pooling", pooling, POOLINGS)
        one_of("TextEncoder", "precision", precision, PRECISIONS)
        fallback = PAPER if preset == "paper" else PLACE
        self.prompt = require_template("prompt", fallback if prompt is None else prompt)
        self.document = require_template("document", document)
        self.pooling, self.batch, self.precision, self.gguf_file = pooling, batch, precision, gguf_file
        if isinstance(model, (str, Path)):
            self.name = str(model)
            network, self.tokenizer = _loaded(self.name, precision, gguf_file)
            network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        elif tokenizer is None:
            raise OptionError("TextEncoder needs tokenizer= beside a loaded model; or give the model's folder")
        else:
            self.name, network, self.tokenizer = (
                str(model.config._name_or_path or type(model).__name__),
                model,
                tokenizer,
            )
        is_pair = getattr(network.config, "is_encoder_decoder", False)
        self.network = (network.get_encoder() if is_pair else network).eval()
        self.max_tokens = _limit(self.network, self.tokenizer, max_tokens)
        for template in (self.document, self.prompt):  # before hours of documents that no query could be asked of
            require_room(self.tokenizer, template, self.max_tokens)
        found = find_projections(self.network, self._try_out)
        self.layers = _chosen(len(found), layers)
        chosen = [found[layer] for layer in self.layers]
        if len({one.dim for one in chosen}) > 1:
            said = ", ".join(f"{layer}: {one.dim}" for layer, one in zip(self.layers, chosen, strict=True))
            raise OptionError(f"heads of several layers need keys of one width, got {said}; choose one layer")
        self._projections = [one.name for one in chosen]
        self._heads_of = [one.heads for one in chosen]
        self.heads, self.dim = sum(self._heads_of), chosen[0].dim
        self.width = int(self._try_out().shape[-1])

    @cached_property
    def fingerprint(self) -> str:
        """Return what tells these keys from others: weights, tokenizer, layers, pooling, prompts, length."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))
        options = {**self._changing_keys(), "tokenizer": hashlib.sha256(words.encode()).hexdigest()}
        return key_file.fingerprint(self.network.state_dict(), options)

    def describe(self) -> dict[str, Json]:
        """Return what it takes to build this encoder again, as JSON."""
        loading: dict[str, Json] = {"precision": self.precision, "gguf_file": self.gguf_file}
        return {"kind": self.kind, "model": self.name, **loading, **self._changing_keys()}

    def parts(self, query: Item, how: str) -> list[Item]:
        """Cut a query into its sentences.

        Args:
            query: The query.
            how: ``"sentences"``.

        Raises:
            OptionError: If there are no such parts.
        """
        one_of("TextEncoder", "parts", how, ("sentences",))
        cut = [one.strip() for one in SENTENCE.split(query.text or "")]
        return [Item(f"{query.id}#{number}", text=one) for number, one in enumerate(filter(None, cut), 1)] or [query]

    def keys(self, items: Sequence[Item], *, queries: bool = False, progress: Progress = SILENT) -> Iterator[Keys]:
        """Yield the keys of texts in batches; texts of a length come together.

        Args:
            items: The texts.
            queries: Whether they are queries, which have a prompt of their own.
            progress: Whom to tell what is being done, and how many texts were cut.
        """
        cut = 0
        for start in range(0, len(items), WINDOW * self.batch):
            some = items[start : start + WINDOW * self.batch]
            read = [self._tokens(item, self.prompt if queries else self.document) for item in some]
            cut += sum(was_cut for _, was_cut in read)
            order = sorted(range(len(some)), key=lambda at: -len(read[at][0]))
            for first in range(0, len(order), self.batch):
                rows = order[first : first + self.batch]
                heads, standard = self._encoded([read[row][0] for row in rows])
                yield Keys(tuple(some[row].id for row in rows), heads, standard)
        if cut:
            progress.line(f"{cut} of {len(items)} texts were cut to {self.max_tokens} tokens")

    def _changing_keys(self) -> dict[str, Json]:
        """Return the options that change a key."""
        return {
            "layers": self.layers, "pooling": self.pooling, "prompt": self.prompt, "document": self.document,
            "max_tokens": self.max_tokens,
        }  # fmt: skip

    def _tokens(self, item: Item, template: str) -> tuple[list[int], bool]:
        if item.text is None:
            raise DataError(f"{item.id} has no text; a text model reads texts")
        found, cut = tokens(self.tokenizer, template, item.text, self.max_tokens)
        return found or [_padding(self.tokenizer)], cut

    def _encoded(self, texts: Sequence[list[int]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Run a batch; return keys of heads ``(B, heads, dim)`` and standard keys ``(B, width)``."""
        ids, mask = _padded(texts, _padding(self.tokenizer))
        ids, mask = ids.to(self.network.device), mask.to(self.network.device)
        taken: dict[int, Tensor] = {}

        def take(number: int, mixed: Tensor) -> None:
            taken[number] = _pooled(mixed, mask, self.pooling).view(len(mixed), self._heads_of[number], self.dim)

        with torch.inference_mode(), reading(self.network, self._projections, take):
            standard = _pooled(self._run(ids, mask), mask, self.pooling)
        heads = torch.cat([taken[number] for number in range(len(self._projections))], 1)
        return heads.float().cpu().numpy(), standard.float().cpu().numpy()

    def _run(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states, behind the final norm, ``(B, N, width)``."""
        return self.network(input_ids=ids, attention_mask=mask)[0]

    @torch.inference_mode()
    def _try_out(self) -> Tensor:
        """Run it on a few tokens."""
        most = min(int(self.network.config.vocab_size), 100, 5 + self.max_tokens)
        ids = torch.arange(1, min(7, most)).to(self.network.device)[None]
        return self._run(ids, torch.ones_like(ids))


def _loaded(name: str, precision: str, gguf_file: str | None) -> tuple[Any, Any]:
    """Load a model and its tokenizer; code that lies beside the weights is never run.

    Raises:
        DataError: If they cannot be loaded.
        MissingExtraError: If a package for GGUF files is not installed.
    """
    import transformers

    local = Path(name).expanduser()
    is_here = os.path.exists(local)  # Path.exists raises for what is longer than a name can be
    if not is_here and (local.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1):
        raise DataError(f"{name} does not exist; give the folder of a text model, or a hub id such as ORG/NAME")
    if gguf_file is not None:
        for package in ("gguf", "accelerate"):
            extra_package(package, "retrieve-gguf")
    place, more = str(local) if is_here else name, {} if gguf_file is None else {"gguf_file": gguf_file}
    dtype = precision if precision == "auto" else getattr(torch, precision)
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False, **more)
            network = transformers.AutoModel.from_pretrained(place, trust_remote_code=False, dtype=dtype, **more)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise DataError(f"{name} is no text model that can be loaded ({first_line(error)})") from error
    network.config.use_cache = False
    return network, tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """Load without the bars of transformers; whoever calls shows progress."""
    from transformers.utils import logging as of_transformers

    logging: Any = of_transformers
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _limit(network: Any, tokenizer: Any, asked: int | None) -> int:
    """Return the most tokens of a text.

    Raises:
        OptionError: If more are asked for than the model can read.
    """
    most = int(min(getattr(network.config, "max_position_embeddings", 1 << 20) or 1 << 20, tokenizer.model_max_length))
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            most = min(most, module.num_embeddings - module.padding_idx - 1)  # RoBERTa counts from behind the padding
    if asked is None:
        return most
    positive("TextEncoder", max_tokens=asked)
    if asked > most:
        raise OptionError(f"the model reads {most} tokens at most, got max_tokens={asked}; lower it")
    return asked


def _chosen(there: int, layers: int | Sequence[int]) -> list[int]:
    """Return the numbers of layers, counted from 0.

    Raises:
        OptionError: If one is not there, or is named twice.
    """
    asked = [layers] if isinstance(layers, int) else list(layers)
    for layer in asked:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -there <= layer < there:
            raise OptionError(f"the model has layers 0 to {there - 1} (or -1 to {-there}), got layers={layer!r}")
    found = [layer % there for layer in asked]
    if not found or len(set(found)) < len(found):
        raise OptionError(f"layers= needs each layer once, got {asked}")
    return found


def _padding(tokenizer: Any) -> int:
    found = next((one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None), 0)
    return int(found)


def _padded(texts: Sequence[list[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Return tokens and mask, ``(B, N)``, padded on the right: the left would move positions of some models."""
    most = max(map(len, texts))
    ids = torch.tensor([one + [padding] * (most - len(one)) for one in texts])
    mask = torch.tensor([[1] * len(one) + [0] * (most - len(one)) for one in texts])
    return ids, mask


def _pooled(x: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool over tokens: ``(B, N, C)`` to ``(B, C)``."""
    if pooling == "first":
        return x[:, 0]
    lengths = mask.sum(1)
    if pooling == "last":
        return x[torch.arange(len(x), device=x.device), lengths - 1]
    wide = torch.promote_types(x.dtype, torch.float32)  # a sum over thousands of tokens is beyond float16
    return ((x * mask[..., None].to(x.dtype)).sum(1, dtype=wide) / lengths[:, None]).to(x.dtype)
