"""Recipes as data: read, printed, compared, hashed; errors point at the character."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attngraft import Recipe
from attngraft._core.errors import RecipeError
from attngraft.yolo.recipe import parse_grafts, print_grafts

SAME = [
    "yolo11n+mhsa@P5",
    "yolov8s-seg.pt+ema(groups=8)@P3,P4+se@N5",
    "runs/a+b/weights/best.pt+eca(kernel_size=3)@8.m.0.cv2",
    "my.yaml+mhsa(heads=8,position=none)@10",
    "yolo11n+se(reduction=4,mode=replace)@8.m.0.m.0.cv2",
    "yolo11n+se(init=paper)@P5",
    "yolo11n+bot(heads=2)@P5",
    "yolo11n+msda(dilations=[1,2])@P4",
    "rtdetr-l.yaml",
    "yolo11n+mhsa(mode=replace)@C2PSA",
    "yolo11n+ema@P2,N2,P4.bottlenecks,10.attention",
]


@pytest.mark.parametrize("text", SAME)
def test_what_is_printed_reads_back_equal(text: str) -> None:
    recipe = Recipe.parse(text)
    assert str(recipe) == text
    assert Recipe.parse(str(recipe)) == recipe
    assert Recipe.parse(str(recipe)).hash == recipe.hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("yolo11n+mhsa@P5", " yolo11n + MHSA @ P5 "),
        ("yolo11n+mhsa(heads=8,position=none)@P5", "yolo11n+mhsa( position='none', heads=8 )@P5"),
        ("yolo11n+se@P3,P4", "yolo11n+SE()@P3 , P4"),
        ("yolo11n+se@P5", "yolo11n+se(mode=after,init=identity)@P5"),
        ("yolo11n+se@P5,N3", "yolo11n+se@p5,n3"),
        ("yolo11n+se@P4.bottlenecks", "yolo11n+se@p4.bottlenecks"),
        ("yolo11n+coord_attention@P5", "yolo11n+CoordAtt@P5"),
        ("yolo11n+mhsa(heads=8)@P4,P5", "yolo11n＋mhsa（heads＝８）＠P4，P5"),
        ("yolo11n+se@P3,P4", "yolo11n＋ｓｅ＠P3、P4\u3000"),
    ],
)
def test_spelling_does_not_make_a_difference(one: str, other: str) -> None:
    assert Recipe.parse(one) == Recipe.parse(other)
    assert Recipe.parse(one).hash == Recipe.parse(other).hash


def test_other_recipes_have_other_hashes() -> None:
    assert len({Recipe.parse(text).hash for text in SAME}) == len(SAME)


def test_values_keep_their_types() -> None:
    (graft,) = parse_grafts("mhsa(heads=8,position=none,size=(7, 5),bias=true,scale=none)@P5")
    assert dict(graft.options) == {"heads": 8, "position": "none", "size": (7, 5), "bias": True, "scale": None}


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("No", False), ("on", True), ("OFF", False)])
def test_a_switch_is_also_told_in_the_words_of_yaml(word: str, value: bool) -> None:
    (graft,) = parse_grafts(f"mhsa(bias={word},position={word})@P5")
    assert dict(graft.options) == {"bias": value, "position": word}, "an option that takes words keeps them"
    assert parse_grafts(str(graft)) == (graft,)
    (graft,) = parse_grafts(f"mhsa(bias='{word}')@P5")
    assert dict(graft.options) == {"bias": word}
    assert parse_grafts(str(graft)) == (graft,)


def test_grafts_alone_read_back() -> None:
    text = "se(reduction=4)@P3,P4+eca@N5"
    assert print_grafts(parse_grafts(text)) == text


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("", "starts with a base", 0),
        ("+se@P5", "starts with a base", 0),
        ("yolo11n+msha@P5", "'msha'; did you mean .*mhsa", 8),
        ("yolo11n+se", "say where se goes", 10),
        ("yolo11n+se@", "a place such as P5", 11),
        ("yolo11n+se@5x", "not '5x'", 11),
        ("yolo11n+se(reducton=4)@P5", "no option 'reducton'; did you mean reduction", 11),
        ("yolo11n+se(reduction)@P5", "give reduction a value", 20),
        ("yolo11n+se(reduction=)@P5", "expected a value", 21),
        ("yolo11n+se(reduction=4,reduction=8)@P5", "given twice", 23),
        ("yolo11n+se(mode=before)@P5", "after or replace", 16),
        ("yolo11n+se(init=zero)@P5", "identity or paper", 16),
        ("yolo11n+bot(mode=replace)@P5", "bot replaces the 3x3 convolutions .* takes no mode", 8),
        ("yolo11n+bot(init=paper)@P5", "init is how .* and bot takes its place", 8),
        ("yolo11n+se(mode=replace,init=paper)@2", "init is how .* and mode=replace takes its place", 8),
        ("yolo11n+se(init=identity,mode=replace)@2", "init is how .* and mode=replace takes its place", 8),
        ("yolo11n+se(reduction=4@P5", "cannot read the value", 21),
        ("yolo11n+se@P5 eca@P4", "starts with '.'", 14),
        ("yolo11n+se(reduction=4) P5", "expected '@'", 24),
    ],
)
def test_an_error_points_at_the_character(text: str, message: str, at: int) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.parse(text)
    assert caught.value.position == at
    assert str(caught.value).splitlines()[-1].index("^") == at + 2


def test_a_forgotten_plugin_is_hinted_at() -> None:
    with pytest.raises(RecipeError, match="no mechanism is called 'mine'.*one of your own is given with --plugin FILE"):
        Recipe.parse("yolo11n+mine@P5")


def test_a_file_with_signs_of_recipes_in_its_name_is_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("yolo11n+mhsa@P5.pt", "模型（新）＋.pt"):
        Path(name).touch()
        assert Recipe.parse(name) == Recipe(name)
        assert Recipe.parse(f"{name}＋se＠P5").base == name
    assert Recipe.parse("yolo11n（a）.pt").base == "yolo11n(a).pt"


TEXT = st.text(
    st.sampled_from("yolo11n+mhsa@P5.,()[]{}=' \"\\\n-*/0129eExX_：＋＠（），＝é\u0660\x00\ud800"), max_size=40
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text("ab,'\"\\)( =none", max_size=6).map(repr),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXT | VALUE.map(lambda value: f"yolo11n+se(reduction={value})@P5") | TEXT.map(lambda t: f"n+mhsa({t})@P5"))
def test_whatever_is_typed_is_a_recipe_or_one_clear_error(text: str) -> None:
    try:
        recipe = Recipe.parse(text)
    except RecipeError:
        return
    assert Recipe.parse(str(recipe)) == recipe
    assert len(recipe.hash) == 12


def test_a_mechanism_that_cannot_be_had_is_refused_with_the_reason() -> None:
    with pytest.raises(RecipeError, match="no mechanism is called 'fsa'; FSA .* a map of one fixed size"):
        Recipe.parse("yolo11n+fsa@P3")
