"""What a module costs: parameters, FLOPs, peak memory and time, side by side, with the versions they were taken on."""

from attngraft.measure import latency, memory
from attngraft.measure.counting import flops, parameters, weight_bytes
from attngraft.measure.environment import Environment, environment
from attngraft.measure.latency import Timing
from attngraft.measure.measurement import Measurement, Report, measure, schema

__all__ = [
    "Environment",
    "Measurement",
    "Report",
    "Timing",
    "environment",
    "flops",
    "latency",
    "measure",
    "memory",
    "parameters",
    "schema",
    "weight_bytes",
]
