"""What a mechanism can learn at all: one small detector, trained on generated images with a known answer."""

from attngraft._core.callables import call_package
from attngraft.probe.instrument import Instrument
from attngraft.probe.probing import everything, opened, probe
from attngraft.probe.tally import Tally, schema

__all__ = ["Instrument", "Tally", "everything", "opened", "probe", "schema"]

call_package(__name__, probe)
