"""The map that mixes heads, found by what it reads: beside softmax(QK)V from eager weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from attngraft._core.errors import OptionError
from attngraft.retrieve.projections import find_projections, reading
from tests.retrieve import families

NAMES = {
    "modernbert": "layers.{}.attn.Wo", "gpt2": "h.{}.attn.c_proj", "bert": "encoder.layer.{}.attention.output.dense",
    "xlm-r": "encoder.layer.{}.attention.output.dense",
}  # fmt: skip


@pytest.mark.parametrize("family", families.CONFIGS)
def test_the_projection_of_every_layer_is_found_and_reads_softmax_qk_v(family: str) -> None:
    model, ids = families.network(family), torch.tensor([[5, 9, 7, 4, 11, 6, 8], [6, 6, 12, 20, 5, 4, 9]])
    before = model.config._attn_implementation

    @torch.no_grad()
    def run() -> Any:
        return model(input_ids=ids)

    found = find_projections(model, run)
    pattern = NAMES.get(family, "layers.{}.self_attn.o_proj")
    assert [one.name for one in found] == [pattern.format(layer) for layer in range(3)]
    assert model.config._attn_implementation == before
    assert not any(module._forward_pre_hooks for module in model.modules())
    taken: list[Tensor] = []
    with reading(model, [found[-1].name], lambda number, x: taken.append(x)):
        run()
    wanted, _ = families.eager(model, family, input_ids=ids)
    assert (found[-1].heads, found[-1].dim) == tuple(wanted.shape[2:])
    torch.testing.assert_close(taken[0].double(), wanted.flatten(2), atol=2e-6, rtol=1e-5)


def test_a_model_of_images() -> None:
    config = hf.ViTConfig(
        hidden_size=48, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6, image_size=32
    )
    model, images = hf.AutoModel.from_config(config).eval(), torch.randn(2, 3, 32, 32)
    found = find_projections(model, lambda: model(pixel_values=images))
    taken: list[Tensor] = []
    with reading(model, [found[-1].name], lambda number, x: taken.append(x)), torch.no_grad():
        model(pixel_values=images)
    wanted, _ = families.eager(model, "vit", pixel_values=images)
    assert (len(found), found[-1].heads, found[-1].dim) == (3, 6, 8)
    torch.testing.assert_close(taken[0].double(), wanted.flatten(2), atol=2e-6, rtol=1e-5)


def test_a_module_that_layers_share_stands_once() -> None:
    model = hf.AutoModel.from_config(hf.AlbertConfig(**families.BASE, embedding_size=16)).eval()
    found = find_projections(model, lambda: model(input_ids=torch.arange(3, 8)[None]))
    assert [(one.heads, one.dim) for one in found] == [(6, 8)]


def test_half_precision_is_compared_with_more_room() -> None:
    model = families.network("llama").to(torch.bfloat16)
    assert len(find_projections(model, lambda: model(input_ids=torch.arange(3, 9)[None]))) == 3


def test_models_without_heads_of_their_own_are_refused() -> None:
    latent = hf.DeepseekV3Config(
        **{**families.BASE, "num_key_value_heads": 6}, kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=4,
        qk_nope_head_dim=8, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
        moe_intermediate_size=16, first_k_dense_replace=3,
    )  # fmt: skip
    for config, said in [
        (latent, r"DeepseekV3Model makes the values of all heads from one small vector .*MLA"),
        (
            hf.MambaConfig(hidden_size=48, num_hidden_layers=1, vocab_size=40),
            "MambaModel has no attention that .* Mamba",
        ),
        (hf.BloomConfig(hidden_size=48, n_layer=1, n_head=6, vocab_size=40), "BloomModel has no attention that"),
    ]:
        model = hf.AutoModel.from_config(config).eval()
        with pytest.raises(OptionError, match=said):
            find_projections(model, lambda model=model: model(input_ids=torch.arange(3, 8)[None]))


def test_a_layer_that_changes_what_heads_give_before_they_meet_is_refused() -> None:
    """Such as an output gate; its projection does not read softmax(QK)V, though it has the name."""
    model = families.network("llama")
    for layer in model.layers:
        layer.self_attn.o_proj = nn.Sequential(nn.Hardtanh(-0.01, 0.01), layer.self_attn.o_proj)
    with pytest.raises(OptionError, match=r"no linear map of LlamaModel reads what .* \(3 attentions ran\)"):
        find_projections(model, lambda: model(input_ids=torch.arange(3, 9)[None]))
