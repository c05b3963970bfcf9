"""The built-in generated data sets; needs neither torch nor Ultralytics."""

from attngraft.data.folder import beacons, factors

__all__ = ["beacons", "factors"]
