"""What users may call a mechanism, and what records call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraft._core.errors import OptionError, RecipeError, UnknownNameError
from attngraft._core.registry import mechanism, unregister
from attngraft.probe.names import canonical

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
