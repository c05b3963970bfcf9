"""What may stand where the cursor is: commands, keys, values, mechanisms after ``+`` and places after ``@``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from attngraft.cli import declared, retrieve_keys, share
from attngraft.yolo import keys

if TYPE_CHECKING:
    Item = CompletionItem[str]
else:
    Item = CompletionItem  # which only newer releases of click take apart

PLACES = tuple(f"{letter}{level}" for letter in "PN" for level in range(2, 7))
GRAFT_OPTIONS = {"init": ("paper",), "mode": ("replace",)}
RUNTIMES = ("eager", "compiled", "onnxruntime", "openvino", "tensorrt")
DEVICES = ("cpu", "0", "mps")
RUN_KEYS = {
    "parallel": "Runs at once.", "engine": "What carries the runs out.", "address": "The Ray cluster.",
    "gpus": "GPUs a run takes on Ray.", "anyway": "Whether to continue where the baseline learned nothing.",
}  # fmt: skip
SEARCH_KEYS = {
    "mechanisms": "Mechanisms to screen.", "places": "Places to screen them at.", "winners": "How many are studied.",
    "keep": "One candidate in so many advances.", "held_out": "Seeds of the study itself.",
}  # fmt: skip
MODEL_SUFFIXES, DATA_SUFFIXES = (".pt", ".yaml", ".yml"), (".yaml", ".yml", ".json")


def complete(command: str, incomplete: str, given: Sequence[str], verbs: Iterable[str] = ()) -> list[Item]:
    """Return the words that go on where the cursor is.

    Args:
        command: A key of `COMMANDS`.
        incomplete: What stands before the cursor.
        given: The words before it.
        verbs: Verbs that may stand first.
    """
    wanted = COMMANDS[command]
    key, equals, text = incomplete.partition("=")
    if equals and re.fullmatch(r"[\w.]+", key):
        choose = wanted.values.get(key) or VALUES.get(key)
        return [_prefixed(f"{key}=", item) for item in (choose(text) if choose else wanted.choices(key, text))]
    found = [Item(verb) for verb in verbs if not given and verb.startswith(incomplete)]
    if wanted.first and (not given or wanted.repeated):
        found += wanted.first(incomplete)
    said = {word.partition("=")[0] for word in given if "=" in word} - {"model"}
    unsaid = {key: about for key, about in wanted.keys().items() if key not in said}
    return found + [Item(f"{key}=", help=about[:70]) for key, about in unsaid.items() if key.startswith(incomplete)]


def listed(*words: str) -> Callable[[str], list[Item]]:
    """Complete from a list."""
    return lambda text: [Item(word) for word in words if word.startswith(text)]


def many(choose: Callable[[str], list[Item]]) -> Callable[[str], list[Item]]:
    """Complete the last of several values with commas between them."""

    def choose_last(text: str) -> list[Item]:
        before, comma, last = text.rpartition(",")
        return [_prefixed(before + comma, item) for item in choose(last)]

    return choose_last


def files(*suffixes: str) -> Callable[[str], list[Item]]:
    """Complete a path of a folder, or of a file with one of these suffixes."""

    def choose(text: str) -> list[Item]:
        before, slash, name = text.rpartition("/")
        folder = Path(before + slash).expanduser()
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            return []
        fitting = [e for e in entries if e.name.startswith(name) and (name.startswith(".") or e.name[0] != ".")]
        return [
            Item(f"{before}{slash}{entry.name}{'/' if entry.is_dir() else ''}", type="path")
            for entry in fitting
            if entry.is_dir() or entry.suffix in suffixes
        ]

    return choose


def mechanisms(text: str) -> list[Item]:
    """Complete the name of a mechanism."""
    return [Item(name, help=about) for name, about in declared.mechanisms().items() if name.startswith(text.lower())]


def graft(text: str) -> list[Item]:
    """Complete ``MECHANISM(options)@PLACE,PLACE``.

    Example:
        >>> [item.value for item in graft("mhsa@P5,N")]
        ['mhsa@P5,N2', 'mhsa@P5,N3', 'mhsa@P5,N4', 'mhsa@P5,N5', 'mhsa@P5,N6']
        >>> [item.value for item in graft("eca(k")]
        ['eca(kernel_size=']
    """
    name, at, places = text.partition("@")
    if at:
        return [_prefixed(f"{name}@", item) for item in many(_place)(places)]
    name, bracket, options = text.partition("(")
    if not bracket:
        return [Item(item.value, type="open", help=item.help) for item in [*mechanisms(name), *listed("bot")(name)]]
    before, comma, option = options.rpartition(",")
    known = {**dict.fromkeys(declared.options(name), ()), **GRAFT_OPTIONS}
    key, equals, value = option.partition("=")
    ends = (
        [f"{key}={choice}" for choice in known.get(key, ()) if choice.startswith(value)]
        if equals
        else [f"{key}=" for key in known if key.startswith(option)]
    )
    return [Item(f"{name}({before}{comma}{end}") for end in ends]


def recipe(text: str) -> list[Item]:
    """Complete ``BASE+GRAFT+GRAFT``.

    Example:
        >>> [item.value for item in recipe("yolo11n+mhs")]
        ['yolo11n+mhsa']
        >>> [item.value for item in recipe("yolo11n+se@P3+")][:2]
        ['yolo11n+se@P3+aifi', 'yolo11n+se@P3+area_attention']
    """
    before, plus, last = text.rpartition("+")
    if plus:
        return [_prefixed(before + plus, item) for item in graft(last)]
    return [Item(name, type="open") for name in base_names() if name.startswith(text)] + files(*MODEL_SUFFIXES)(text)


def arm(text: str) -> list[Item]:
    """Complete the last arm of a study: a graft on its base, or a whole recipe; after places, a comma goes on."""
    last = re.split(r",(?!\s*[PN]\d*(?:[,+]|$))(?![^(]*\))", text)[-1]
    before = text[: len(text) - len(last)]
    choose = recipe if "+" in last else graft
    return [_prefixed(before, item) for item in choose(last)]


def base_names() -> list[str]:
    """Return the bases that have a name: those of Ultralytics, and our own."""
    own = [file.name for file in (Path(keys.__file__).parent / "cfg").glob("*.yaml")]
    return sorted([*keys.base_names(), *own])


def models(text: str) -> list[Item]:
    """Complete the name of one of the papers' networks."""
    from attngraft.models import names

    return listed(*names())(text)


def _place(text: str) -> list[Item]:
    return [Item(place) for place in PLACES if place.startswith(text.upper())]


def _prefixed(prefix: str, item: Item) -> Item:
    return Item(prefix + item.value, type=item.type, help=item.help)


def _ultralytics() -> dict[str, str]:
    return {option.key: option.about for group in keys.option_groups().values() for option in group}


def _plan() -> dict[str, str]:
    return _fields("attngraft.study.plan", "Plan") | RUN_KEYS | {"output": "Folder of the study."} | _ultralytics()


def _fields(module: str, name: str) -> dict[str, str]:
    return {field.name: field.about for field in declared.fields(module, name)}


class Command:
    """What the words of a command may be.

    Args:
        own: Its keys and what they mean, or a function that gives them.
        first: What a word may be that is no ``key=value``.
        repeated: Whether several of its words may be that.
        declared_by: The file and class whose fields list values.
        values: How values of keys are completed, before `VALUES`.
    """

    def __init__(
        self,
        own: Mapping[str, str] | Callable[[], Mapping[str, str]] | Iterable[str] = (),
        *,
        first: Callable[[str], list[Item]] | None = None,
        repeated: bool = False,
        declared_by: tuple[str, str] | None = None,
        values: Mapping[str, Callable[[str], list[Item]]] | None = None,
    ) -> None:
        self._own, self.first, self.repeated, self._declared_by = own, first, repeated, declared_by
        self.values = values or {}

    def keys(self) -> Mapping[str, str]:
        """Return its keys and what they mean."""
        own = self._own() if callable(self._own) else self._own
        return own if isinstance(own, Mapping) else dict.fromkeys(own, "")

    def choices(self, key: str, text: str) -> list[Item]:
        """Return the values that a key's type or description lists."""
        of_class = declared.fields(*self._declared_by) if self._declared_by else ()
        for field in of_class:
            if field.name == key:
                return listed(*field.choices)(text)
        options = (option for group in keys.option_groups().values() for option in group)
        return listed(*next((option.choices for option in options if option.key == key), ()))(text)


VALUES: Mapping[str, Callable[[str], list[Item]]] = {
    "model": recipe, "base": recipe, "arms": arm, "mechanisms": many(mechanisms), "places": many(_place),
    "data": files(*DATA_SUFFIXES), "source": files(".jpg", ".jpeg", ".png", ".mp4", ".txt"), "device": listed(*DEVICES),
    "backends": many(listed(*RUNTIMES)), "engine": listed("local", "ray"), "train": listed("True", "False"),
    "scores": listed("True", "False"),
    "controls": many(listed("stock", "noop", "conv")),
    "metric": listed("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "F1@0.25"),
    "output": files(), "weights": files(".pt", ".pth", ".ckpt", ".safetensors"), "cfg": files(".yaml"),
}  # fmt: skip
"""How the values of keys are completed that mean the same in all commands."""

PLAN, FIT = ("attngraft.study.plan", "Plan"), ("attngraft.fit.options", "Options")
CHECKPOINTS = {"model": files(".ckpt")}
RULES = listed("decay", "equal", "rrf", "max")
COMMANDS: Mapping[str, Command] = {
    **{verb: Command(lambda: _ultralytics() | {"output": "Folder to fill."}) for verb in ("train", "val", "predict")},
    "track": Command(lambda: _ultralytics() | {"output": "Folder to fill."}),
    "tune": Command(lambda: _ultralytics() | {"output": "Folder to fill.", "iterations": "How many trials."}),
    "export": Command(lambda: _ultralytics() | {"output": "File to write.", "images": "How many to compare on."}),
    "doctor": Command(("model", "imgsz", "batch", "data", "channels"), first=mechanisms),
    "bench": Command(
        ("model", "imgsz", "batch", "backends", "train", "rounds", "device", "output"), first=recipe, repeated=True
    ),
    "look": Command(
        ("model", "source", "base", "imgsz", "confidence", "limit", "layers", "scores", "image", "detection", "output",
         "frame", "port", "language"),
        first=files(".pt", ".ckpt", ".jpg", ".jpeg", ".png", ".mp4"), repeated=True,
    ),
    "probe": Command(
        ("probes", "seeds", "controls", "parallel", "epochs", "images", "output"), first=mechanisms, repeated=True
    ),
    "graft": Command(first=recipe),
    "card": Command(share.CARD_KEYS, first=files(".pt"), values={"study": files()}),
    "diff": Command(share.DIFF_KEYS, first=files(".pt"), values={"base": files(".pt")}),
    "apply": Command(share.APPLY_KEYS, first=files(".safetensors"), values={"base": files(".pt")}),
    "show": Command(first=mechanisms),
    "study run": Command(_plan, first=files(".yaml", ".yml"), declared_by=PLAN),
    "study search": Command(lambda: SEARCH_KEYS | _plan(), declared_by=PLAN),
    "study resume": Command(RUN_KEYS, first=files()),
    "study extend": Command({"max_seeds": "Most seeds of each arm, all before included."}, first=files()),
    "study relocate": Command(("data", "base"), first=files(), values={"data": files(".yaml"), "base": files(".pt")}),
    "study folder": Command(first=files()),
    "study judge": Command(
        ("truth", "data", "split", "baseline", "metric", "sesoi", "alpha", "unpaired", "scale", "task", "output"),
        first=files(".csv"),
    ),
    "study combine": Command(("arm", "output"), first=files(), repeated=True),
    "fit run": Command(lambda: _fields(*FIT) | {"output": "Folder to fill.", "resume": "Folder of a run to resume."},
                       declared_by=FIT, values={"model": models, "resume": files(".ckpt")}),
    "fit val": Command(("model", "data", "split", "batch", "workers"), values=CHECKPOINTS),
    "fit predict": Command(
        ("model", "source", "output", "confidence", "batch", "tile", "overlap", "images", "accelerator"),
        values=CHECKPOINTS,
    ),
    "retrieve index": Command(
        retrieve_keys.INDEX_KEYS, first=files(".jsonl", ".txt", ".yaml"),
        values={"model": files(".pt"), "preset": listed("paper", "none"), "rule": RULES,
                "store": listed("arrays", "lance"), "dtype": listed("float32", "float16"),
                "pooling": listed("last", "mean", "first"),
                "precision": listed("float32", "bfloat16", "float16", "auto"), "center": listed("True", "False"),
                "standard": listed("True", "False"), "device": listed("cpu", "cuda")},
    ),
    "retrieve search": Command(
        retrieve_keys.SEARCH_KEYS, first=files(), repeated=True,
        values={"model": files(".pt"), "rule": RULES, "center": listed("True", "False"),
                "parts": listed("sentences", "crops", "objects", "tiles"), "output": files(".jsonl")},
    ),
    "retrieve eval": Command(
        retrieve_keys.EVAL_KEYS, first=files(), values={"beir": files(), "runs": files(".run"), "model": files(".pt")},
    ),
    "retrieve mine": Command(
        retrieve_keys.MINE_KEYS,
        values={"model": files(".pt"), "source": files(".txt", ".yaml"), "like": files(".yaml", ".txt"),
                "diverse": listed("True", "False"), "center": listed("True", "False"),
                "parts": listed("crops", "objects"), "split": listed("train", "val", "test"), "output": files()},
    ),
}  # fmt: skip
"""What the words of each command may be."""
