"""Generated images on which a question can be answered only by seeing far, each with a control of the same pixels."""

from attngraft.data.probes.questions import PROBES, Probe, probe_named

__all__ = ["PROBES", "Probe", "probe_named"]
