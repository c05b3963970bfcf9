"""The table of mechanisms: what can enter it, how it is looked up, and what a record reads from the source."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from torch import nn

from attngraft._core import registry
from attngraft._core.errors import RegistrationError, UnknownNameError
from attngraft._core.registry import mechanism, mechanism_of, mechanisms, names, register, snake_case, unregister


@pytest.fixture(autouse=True)
def _table_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TABLE", {})


def make(name: str, module: str = "someone.zoo") -> type[nn.Module]:
    """Make a class of this name that can be a mechanism."""

    def __init__(self: nn.Module, channels: int, *, heads: int = 4) -> None:  # noqa: N807
        nn.Module.__init__(self)

    return type(name, (nn.Module,), {"__init__": __init__, "__module__": module, "__qualname__": name})


class TestRegister:
    def test_bare_takes_the_class_name_and_the_defaults(self) -> None:
        cls = make("TripletGate")
        assert register(cls) is cls
        record = mechanism("triplet_gate")
        assert (record.cls, record.role, record.family, record.row) == (cls, "mixer", "user", ())

    def test_with_fields_keeps_them(self) -> None:
        fields = {"role": "gate", "family": "channel gate", "year": 2020, "formula": "x", "cost": "C", "growth": "N"}
        cls = make("ECA")
        assert register(name="eca2", row=("heads",), **fields)(cls) is cls
        record = mechanism("eca2")
        assert {key: getattr(record, key) for key in fields} == fields
        assert record.row == ("heads",)

    def test_a_mechanism_is_found_by_the_names_under_which_it_circulates(self) -> None:
        first = make("ECA")
        register(aliases=("ECALayer", "SE"))(first)
        assert mechanism("ECALayer").cls is mechanism("ecalayer").cls is first
        second = make("SE")
        register(second)
        assert mechanism("SE").cls is mechanism("se").cls is second, "a name of one's own goes before"

    def test_an_unknown_field_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="papers"):
            register(papers="none")(make("ECA"))

    def test_a_name_can_be_taken_once(self) -> None:
        first = make("ECA", "first.zoo")
        register(first)
        with pytest.raises(
            RegistrationError, match=r"'eca' is taken by first\.zoo\.ECA; give second\.zoo\.ECA another name"
        ):
            register(make("ECA", "second.zoo"))
        assert mechanism("eca").cls is first

    def test_the_same_class_may_enter_again(self) -> None:
        """A reloaded module runs its decorators again."""
        register(make("ECA"))
        again = register(make("ECA"))
        assert mechanism("eca").cls is again
        assert names() == ["eca"]

    @pytest.mark.parametrize("name", ["Eca", "2eca", "eca-2", "eca gate", "éca", "eca\n", "_eca"])
    def test_a_name_must_be_snake_case(self, name: str) -> None:
        with pytest.raises(RegistrationError, match=r"lower-case letters, digits and _, got .* for someone\.zoo\.ECA"):
            register(name=name)(make("ECA"))
        assert not names()

    def test_channels_must_come_first(self) -> None:
        with pytest.raises(RegistrationError, match=r"Linear must take `channels` as its first argument"):
            register(nn.Linear)
        with pytest.raises(RegistrationError, match=r"Flatten must take `channels`"):
            register(nn.Flatten)

    def test_unregister_makes_the_name_free(self) -> None:
        register(make("ECA", "first.zoo"))
        unregister("ECA")
        assert register(make("ECA", "second.zoo")) is mechanism("eca").cls
        with pytest.raises(UnknownNameError, match="no mechanism is called 'se'"):
            unregister("se")


class TestLookup:
    @pytest.fixture(autouse=True)
    def _three(self) -> None:
        for name in ("MHSA", "EMA", "CoordAttention"):
            register(make(name))

    @pytest.mark.parametrize("name", ["coord_attention", "CoordAttention", "COORD_ATTENTION"])
    def test_finds_by_registry_name_and_class_name(self, name: str) -> None:
        assert mechanism(name).name == "coord_attention"

    def test_suggests_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match=r"no mechanism is called 'MSHA'; did you mean mhsa\?"):
            mechanism("MSHA")

    def test_lists_all_when_none_is_near(self) -> None:
        with pytest.raises(LookupError, match="there are: coord_attention, ema, mhsa"):
            mechanism("zzz")

    def test_names_are_sorted(self) -> None:
        assert names() == ["coord_attention", "ema", "mhsa"]

    def test_the_table_and_its_records_cannot_be_changed_from_outside(self) -> None:
        with pytest.raises(TypeError, match="does not support item"):
            mechanisms()["se"] = mechanism("ema")  # type: ignore[index]
        with pytest.raises(dataclasses.FrozenInstanceError, match="role"):
            mechanism("ema").role = "gate"  # type: ignore[misc]
        with pytest.raises(TypeError, match="does not support item"):
            mechanism("ema").options["heads"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("ECA", "eca"),
        ("SimAM", "sim_am"),
        ("AreaAttention", "area_attention"),
        ("PSAAttention", "psa_attention"),
        ("C2PSAAttention", "c2psa_attention"),
        ("iRMB", "i_rmb"),
        ("plain", "plain"),
    ],
)
def test_snake_case(class_name: str, expected: str) -> None:
    assert snake_case(class_name) == expected


class TestRecord:
    @pytest.fixture
    def source(self) -> Iterator[ModuleType]:
        """Yield a module that classes can say they come from."""
        module = ModuleType("documented_zoo")
        sys.modules[module.__name__] = module
        yield module
        del sys.modules[module.__name__]

    def describe(self, source: ModuleType, doc: str | None) -> registry.Mechanism:
        source.__doc__ = doc
        register(make("Thing", source.__name__))
        return mechanism("thing")

    def test_reads_the_provenance(self, source: ModuleType) -> None:
        record = self.describe(
            source,
            """Thing: gate the cells.

            Paper: On Things, A and B, 2020,
                arXiv 2000.00001.
            Code: someone/thing, a.py (MIT), see http://example.org: read for parity only.
            Differs: Two deviations, and
                a second line.

            More prose that belongs to no key.
            """,
        )
        assert record.summary == "Thing: gate the cells."
        assert record.paper == "On Things, A and B, 2020, arXiv 2000.00001."
        assert record.code == "someone/thing, a.py (MIT), see http://example.org: read for parity only."
        assert record.differs == "Two deviations, and a second line."

    @pytest.mark.parametrize("doc", [None, "", "Thing: one line."])
    def test_keys_that_are_not_there_are_empty(self, source: ModuleType, doc: str | None) -> None:
        record = self.describe(source, doc)
        assert record.summary == (doc or "")
        assert record.paper == record.code == record.differs == ""

    def test_reads_the_options_and_what_they_mean(self) -> None:
        class Thing(nn.Module):
            """Do a thing.

            Args:
                channels: Number of channels C.
                heads: Number of heads;
                    a divisor of C.
                scale: Factor: applied last.

            Raises:
                OptionError: If heads: is wrong.
            """

            def __init__(self, channels: int, *, heads: int = 4, scale: float = 0.5, silent: bool = True) -> None:
                super().__init__()

        register(Thing)
        options = mechanism("thing").options
        assert {name: option.default for name, option in options.items()} == {"heads": 4, "scale": 0.5, "silent": True}
        assert options["heads"].about == "Number of heads; a divisor of C."
        assert options["scale"].about == "Factor: applied last."
        assert options["silent"].about == ""

    def test_open_ended_arguments_are_no_options(self) -> None:
        class Thing(nn.Module):
            def __init__(self, channels: int, *args: int, heads: int = 4, **rest: int) -> None:
                super().__init__()

        register(Thing)
        assert list(mechanism("thing").options) == ["heads"]


@pytest.mark.parametrize("name", ["fsa", "FSA"])
def test_what_cannot_be_had_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"'{name}'; FSA .* its filter has one parameter for each frequency"):
        mechanism(name)


def test_a_class_outside_of_the_table_has_no_record_whatever_its_name_is_like() -> None:
    """`mechanism` reads names as people write them; a class is looked up by what it is."""

    @register(aliases=("GateAtt",))
    class Gate(nn.Identity):
        def __init__(self, channels: int) -> None:
            super().__init__()

    for name in ("gate", "GateAtt"):
        assert mechanism(name).cls is Gate
        with pytest.raises(UnknownNameError, match=name):
            mechanism_of(type(name, (nn.Module,), {}))
    assert mechanism_of(type("Parametrized", (Gate,), {})) is mechanism("gate")
