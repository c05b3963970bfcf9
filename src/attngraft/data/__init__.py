"""The built-in generated data sets; needs neither torch nor Ultralytics."""

from attngraft.data.folder import VERSION, beacons, factors, probe_data
from attngraft.data.probes import PROBES

__all__ = ["PROBES", "VERSION", "beacons", "factors", "probe_data"]
