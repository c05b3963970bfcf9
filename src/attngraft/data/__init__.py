"""The built-in generated data set, and images of what models find on it; needs neither torch nor Ultralytics."""

from attngraft.data.folder import beacons

__all__ = ["beacons"]
