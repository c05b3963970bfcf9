"""What detectors cost side by side: parameters, FLOPs, memory and time, on each runtime that is there."""

from attngraft._core.callables import call_package
from attngraft.bench.backends import BACKENDS
from attngraft.bench.benchmark import bench
from attngraft.bench.comparison import Bench, Settings, schema
from attngraft.bench.figure import draw

__all__ = ["BACKENDS", "Bench", "Settings", "bench", "draw", "schema"]

call_package(__name__, bench)
