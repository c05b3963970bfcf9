"""Keys of texts, beside softmax(QK)V of each text alone, from eager weights and without any padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attngraft._core.errors import DataError, OptionError
from attngraft._core.progress import Silent
from attngraft.retrieve import Index, Item, Keys
from attngraft.retrieve.prompts import PAPER
from attngraft.retrieve.text import TextEncoder, _pooled
from tests.retrieve import families

TEXTS = ["tide", "moon sea sun ship port rope knot anchor", "storm wind sail", "mast", "sand wave chart coast cliff"]
ITEMS = [Item(f"d{n}", text=text) for n, text in enumerate(TEXTS)]


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def encoder(family: str = "llama", **options: Any) -> TextEncoder:
    side = options.pop("side", "left")
    return TextEncoder(families.network(family), tokenizer=families.tokenizer(side), **options)


def made(made_by: TextEncoder, items: list[Item] = ITEMS, *, queries: bool = False) -> Keys:
    parts = list(made_by.keys(items, queries=queries))
    ids = [name for part in parts for name in part.ids]
    assert sorted(ids) == sorted(item.id for item in items)
    whole = Keys(tuple(ids), np.concatenate([p.heads for p in parts]), np.concatenate([p.standard for p in parts]))
    return whole.take([ids.index(item.id) for item in items])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_of_a_long_text_is_in_the_range_of_its_tokens(dtype: torch.dtype) -> None:
    """The sum of 8192 tokens of 10 is 81920, and float16 ends at 65504."""
    x, mask = torch.full((2, 8192, 3), 10.0, dtype=dtype), torch.ones(2, 8192, dtype=torch.long)
    x[1, 4000:], mask[1, 4000:] = 7.0, 0
    pooled = _pooled(x, mask, "mean")
    assert pooled.dtype == dtype
    assert pooled.tolist() == [[10.0] * 3] * 2


@pytest.mark.parametrize("pooling", ["last", "mean", "first"])
@pytest.mark.parametrize("family", families.CONFIGS)
def test_keys_are_softmax_qk_v_of_each_text_alone(family: str, pooling: str) -> None:
    pool = {"last": lambda x: x[-1], "mean": lambda x: x.mean(0), "first": lambda x: x[0]}[pooling]
    for batch, side in ((1, "right"), (3, "left"), (8, "left")):
        reader = encoder(family, pooling=pooling, batch=batch, side=side)
        found = made(reader)
        for row, text in enumerate(TEXTS):
            ids = torch.tensor([families.tokenizer()(text)["input_ids"]])
            heads, hidden = families.eager(reader.network, family, input_ids=ids)
            np.testing.assert_allclose(found.heads[row], pool(heads[0]), atol=3e-6, rtol=1e-4)
            np.testing.assert_allclose(found.standard[row], pool(hidden[0]), atol=2e-5, rtol=1e-4)
    assert (reader.heads, reader.dim, reader.width) == (*found.heads.shape[1:], found.standard.shape[1])


def test_several_layers_are_heads_side_by_side() -> None:
    both = made(encoder(layers=[-1, 0]))
    assert both.heads.shape == (5, 12, 8)
    np.testing.assert_array_equal(both.heads[:, :6], made(encoder()).heads)
    np.testing.assert_array_equal(both.heads[:, 6:], made(encoder(layers=0)).heads)


def test_a_pair_of_encoder_and_decoder_is_read_by_its_encoder() -> None:
    import transformers as hf

    torch.manual_seed(0)
    config = hf.T5Config(d_model=48, d_kv=8, num_heads=6, num_layers=2, d_ff=40, vocab_size=40)
    reader = TextEncoder(hf.AutoModel.from_config(config).eval(), tokenizer=families.tokenizer(), pooling="mean")
    assert made(reader).heads.shape == (5, 6, 8)


def test_prompts_stand_around_queries_and_documents_as_said() -> None:
    reader = encoder(prompt="tide : {text} ?", document="{text} .")
    asked = made(reader, [Item("q", text="moon sea")], queries=True)
    plain = made(encoder(), [Item("q", text="tide : moon sea ?")])
    np.testing.assert_array_equal(asked.heads, plain.heads)
    stored, plain = made(reader, [Item("q", text="moon sea")]), made(encoder(), [Item("q", text="moon sea .")])
    np.testing.assert_array_equal(stored.heads, plain.heads)


def test_the_papers_preset_is_literal() -> None:
    reader = encoder(preset="paper")
    described = reader.describe()
    assert described["prompt"] == PAPER
    assert PAPER.startswith("Instruct: Given a story, ")
    assert PAPER.endswith(".\n\nQuery: {text}")
    assert (described["document"], described["pooling"], described["layers"]) == ("{text}", "last", [2])
    assert encoder(preset="paper", prompt="{text}").prompt == "{text}"


def test_long_texts_lose_their_end_and_prompts_nothing() -> None:
    reader, said = encoder(prompt="tide : {text} ? .", max_tokens=9), Said()
    long = [Item("q", text="moon sea sun ship port rope knot anchor"), Item("r", text="moon sea sun")]
    found = {
        name: row
        for part in reader.keys(long, queries=True, progress=said)
        for name, row in zip(part.ids, part.heads, strict=True)
    }
    cut = made(encoder(), [Item("q", text="tide : moon sea sun ? .")]).heads[0]
    np.testing.assert_allclose(found["q"], cut, atol=1e-6)
    np.testing.assert_allclose(found["r"], cut, atol=1e-6)
    assert said.lines == ["1 of 2 texts were cut to 9 tokens"]
    assert encoder().max_tokens == 32
    assert encoder("xlm-r").max_tokens == 32  # of 34 positions it leaves out two
    made(encoder("xlm-r"), [Item("q", text=" ".join(TEXTS * 9))])


def test_a_prompt_that_leaves_no_room_is_refused_before_anything_is_encoded() -> None:
    with pytest.raises(OptionError, match="the prompt alone has 6 tokens of at most 6; shorten it, or leave out the p"):
        encoder(prompt="tide : {text} ? .", max_tokens=6)
    with pytest.raises(OptionError, match="the prompt alone has 6 tokens of at most 6"):
        encoder(document="tide : {text} ? .", max_tokens=6)
    with pytest.raises(OptionError, match="the prompt alone has 25 tokens of at most 16"):
        encoder(preset="paper", max_tokens=16)


def test_a_long_text_is_cut_without_a_warning_of_errors_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr("transformers.tokenization_utils_base.logger.warning", lambda text, *_: logged.append(text))
    reader = encoder()
    reader.tokenizer.model_max_length = 32
    made(reader, [Item("q", text=" ".join(TEXTS * 9))])
    assert logged == []


def test_a_fingerprint_sees_weights_and_every_option() -> None:
    others = [
        encoder(layers=0), encoder(pooling="mean"), encoder(prompt="x {text}"), encoder(document="{text}."),
        encoder(max_tokens=9), encoder("qwen2"),
    ]  # fmt: skip
    moved = encoder()
    with torch.no_grad():
        moved.network.embed_tokens.weight[0, 0] += 1
    prints = {one.fingerprint for one in [encoder(), moved, *others]}
    assert len(prints) == 8
    assert encoder(batch=2, side="right").fingerprint in prints


def saved(tmp_path: Path, family: str = "llama") -> Path:
    folder = tmp_path / family
    families.network(family).save_pretrained(folder)
    families.tokenizer().save_pretrained(folder)
    return folder


def test_a_model_of_a_folder_and_an_index_that_names_it(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    docs = [{"_id": f"d{n}", "text": text} for n, text in enumerate(TEXTS)]
    built = Index.build(docs, model=folder, path=tmp_path / "my.index", preset=None, pooling="mean")
    opened = Index.open(tmp_path / "my.index")
    hit = opened.search("storm wind sail", 2)[0]
    assert hit.id == "d2"
    assert {one.rank for one in hit.by_head} == {0}
    assert opened.search("moon", 3) == built.search("moon", 3)
    assert opened.search("moon. storm wind!", 2, parts="sentences")
    folder.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="llama does not exist; give the folder of a text model"):
        Index.open(tmp_path / "my.index").search("moon")
    assert Index.open(tmp_path / "my.index", model=tmp_path / "moved").search("moon", 3) == built.search("moon", 3)
    other = saved(tmp_path, "qwen2")
    with pytest.raises(OptionError, match=r"my.index was built with other weights than .*qwen2; keys of both"):
        Index.open(tmp_path / "my.index", model=other).search("moon")
    with pytest.raises(OptionError, match=r"built with pooling='mean' and not 'last'"):
        Index.build(docs, model=tmp_path / "moved", path=tmp_path / "my.index", preset=None)


def test_sentences() -> None:
    text = 'The tide turns. "Does it?" Yes! 潮水来了。月亮。\n\nA last line'
    cut = encoder().parts(Item("q", text=text), "sentences")
    assert [one.text for one in cut] == ["The tide turns.", '"Does it?', "Yes!", "潮水来了。", "月亮。", "A last line"]
    assert [one.text for one in encoder().parts(Item("q", text="one"), "sentences")] == ["one"]


def test_what_cannot_work_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for ask, error, said in [
        (lambda: TextEncoder(families.network("llama")), OptionError, "needs tokenizer= beside a loaded model"),
        (lambda: encoder(layers=3), OptionError, r"the model has layers 0 to 2 \(or -1 to -3\), got layers=3"),
        (lambda: encoder(layers=[0, -3]), OptionError, "needs each layer once"),
        (lambda: encoder(pooling="max"), OptionError, "pooling to be one of 'last', 'mean', 'first'"),
        (lambda: encoder(prompt="no place"), OptionError, r"needs prompt with one \{text\} in it, got 'no place'"),
        (lambda: encoder(max_tokens=33), OptionError, "the model reads 32 tokens at most, got max_tokens=33"),
        (lambda: encoder(batch=0), OptionError, "batch to be a positive integer"),
        (lambda: encoder().parts(Item("q", text="x"), "crops"), OptionError, "parts to be one of 'sentences'"),
        (lambda: made(encoder(), [Item("q", path=Path("a.png"))]), DataError, "q has no text"),
        (lambda: TextEncoder(tmp_path / "none"), DataError, "none does not exist"),
        (lambda: TextEncoder(tmp_path / "bare"), DataError, "bare is no text model that can be loaded"),
        (lambda: Index.build(["x"], model=saved(tmp_path), layer=0), OptionError, "no option 'layer'; did you"),
    ]:  # fmt: skip
        with pytest.raises(error, match=said) as raised:
            ask()
        assert "\n" not in str(raised.value)


def test_keys_that_are_not_finite_name_the_text() -> None:
    reader = encoder()
    with torch.no_grad():
        reader.network.embed_tokens.weight[families.tokenizer()("mast")["input_ids"][1]] = torch.nan
    with pytest.raises(DataError, match="the keys of d3 are not finite"):
        made(reader)


def test_a_text_without_words_has_keys_too() -> None:
    assert made(encoder(), [Item("q", text="")]).heads.shape == (1, 6, 8)
