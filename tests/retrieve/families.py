"""Tiny random text models of many families, and a tokenizer; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

HEADS = 6
WORDS = ["tide", "moon", "sea", "sun", "ship", "port", "rope", "knot", "anchor", "harbour", "pilot", "chart", "coast",
         "cliff", "sand", "wave", "storm", "wind", "sail", "mast"]  # fmt: skip
BASE: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": HEADS,
    "vocab_size": 40, "max_position_embeddings": 32,
}  # fmt: skip
GROUPED = {**BASE, "num_key_value_heads": 2}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaConfig(**GROUPED),
    "mistral": lambda: hf.MistralConfig(**GROUPED, head_dim=12, sliding_window=4),
    "qwen2": lambda: hf.Qwen2Config(**GROUPED),
    "qwen3": lambda: hf.Qwen3Config(**GROUPED, head_dim=10),
    "gemma3": lambda: hf.Gemma3TextConfig(**GROUPED, head_dim=12),
    "modernbert": lambda: hf.ModernBertConfig(**BASE, **ENDS),
    "gpt2": lambda: hf.GPT2Config(n_embd=48, n_layer=3, n_head=HEADS, n_positions=32, vocab_size=40),
    "bert": lambda: hf.BertConfig(**BASE),
    "xlm-r": lambda: hf.XLMRobertaConfig(**{**BASE, "max_position_embeddings": 34}, pad_token_id=1),
}
"""A configuration of each family of text models."""
VALUES = {
    "modernbert": ("layers.2.attn.Wqkv", 3),
    "gpt2": ("h.2.attn.c_attn", 3),
    "bert": ("encoder.layer.2.attention.self.value", 1),
    "xlm-r": ("encoder.layer.2.attention.self.value", 1),
    "vit": ("layers.2.attention.v_proj", 1),
}
"""Which module of the last layer gives the values, and how many parts it gives of which they are the last."""


def network(family: str) -> Any:
    """Return a random model of a family; its biases and norms are random too."""
    torch.manual_seed(0)
    model = hf.AutoModel.from_config(CONFIGS[family]()).eval()
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def tokenizer(side: str = "left") -> Any:
    """Return a tokenizer of whole words that claims to pad on the left, with a token before and behind."""
    words = {word: number for number, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS, *".:,?"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        padding_side=side,
    )  # fmt: skip


def eager(model: Any, family: str, **inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(QK)V of the last layer from eager weights, ``(B, N, h, d)``, and the last hidden states."""
    name, parts = VALUES.get(family, ("layers.2.self_attn.v_proj", 1))
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_hook(lambda module, args, output: seen.append(output))
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    hook.remove()
    model.set_attn_implementation(before)
    weights = output.attentions[-1].double()  # (B, h, N, N)
    values = seen[0].double().chunk(parts, -1)[-1]  # (B, N, kv * d)
    grouped = 2 if name.endswith("self_attn.v_proj") else HEADS
    values = values.unflatten(2, (grouped, -1)).transpose(1, 2).repeat_interleave(HEADS // grouped, 1)
    return (weights @ values).transpose(1, 2), output.last_hidden_state
