"""What users may call a mechanism, and what records call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraft._core.errors import OptionError, PlaceError, RecipeError, UnknownNameError
from attngraft._core.registry import mechanism, unregister
from attngraft.probe.instrument import Instrument
from attngraft.probe.names import canonical, require_buildable

SOURCE = """
from torch import nn
class ProbeTestMixer(nn.Module):
    def __init__(self, channels, groups=1):
        super().__init__()
    def forward(self, x):
        return x
"""


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("mhsa", "mhsa"),
        ("MHSA", "mhsa"),
        (" ema ", "ema"),
        ("mhsa(position=none,heads=2)", "mhsa(heads=2,position=none)"),
        ("CoordAtt", "coord_attention"),
        ("None", "none"),
        ("mhsa(init=identity)", "mhsa(init=identity)"),
        ("mhsa(heads=2, init = paper)", "mhsa(heads=2)"),
        ("mhsa（init＝identity）", "mhsa(init=identity)"),
        ("shsa(zero_init=true)", "shsa(zero_init=true)"),
        ("mhsa(mode=replace)", "mhsa(mode=replace)"),
    ],
)
def test_names_of_the_registry(given: str, name: str) -> None:
    found, source = canonical(given)
    assert (found.replace("'none'", "none"), source) == (name, "")
    assert canonical(found) == (found, "")


def test_a_class_in_a_file_gets_a_name(tmp_path: Path) -> None:
    file = tmp_path / "probe_test_file.py"
    file.write_text(SOURCE)
    try:
        name, source = canonical(f"{file}:ProbeTestMixer(groups=2)")
        assert name == "probe_test_mixer(groups=2)"
        assert source == f"{file}:ProbeTestMixer"
        assert mechanism("probe_test_mixer").role == "mixer"
        assert canonical(f"{file}:ProbeTestMixer")[0] == "probe_test_mixer"
    finally:
        unregister("probe_test_mixer")
    with pytest.raises(UnknownNameError, match="no module class in probe_test_file.py is called 'Mixer'"):
        canonical(f"{file}:Mixer")
    with pytest.raises(OptionError, match="names a file and no class"):
        canonical(str(file))


def test_what_is_no_mechanism_is_said() -> None:
    with pytest.raises(RecipeError, match="no mechanism is called 'mhssa'"):
        canonical("mhssa")
    with pytest.raises(RecipeError, match="mhsa has no option 'headz'"):
        canonical("mhsa(headz=2)")
    with pytest.raises(OptionError, match="none is the detector without a mechanism and has no options"):
        canonical("none(heads=2)")
    for nothing in ("", "  ", "(heads=2)"):
        with pytest.raises(OptionError, match="probe needs the name of a mechanism, such as mhsa"):
            canonical(nothing)
    for placed in ("mhsa@P3", "mhsa+ema", "mhsa(heads=2)@P3,P4"):
        with pytest.raises(OptionError, match="probe takes mechanisms without a place, one a word"):
            canonical(placed)
    with pytest.raises(RecipeError, match="expected one mechanism"):
        canonical("3d")


def test_what_cannot_be_built_is_said_before_any_run() -> None:
    require_buildable(["none", "mhsa(heads=2)", "mhsa(init=identity)"], Instrument())
    with pytest.raises(OptionError, match="channels=64 and heads=7; heads could be 4 or 8"):
        require_buildable(["mhsa", "mhsa(heads=7)"], Instrument())
    with pytest.raises(PlaceError, match="bot@P3 replaces the 3x3 convolutions of bottlenecks, and there are none"):
        require_buildable(["bot"], Instrument())


def test_a_class_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    file = tmp_path / "probe_test_broken.py"
    file.write_text(SOURCE.replace("ProbeTestMixer", "ProbeTestBroken").replace("super()", "1 / 0; super()"))
    try:
        name, _ = canonical(f"{file}:ProbeTestBroken")
        with pytest.raises(OptionError, match="probe_test_broken cannot be built .*: ZeroDivisionError: division by"):
            require_buildable([name], Instrument())
    finally:
        unregister("probe_test_broken")
