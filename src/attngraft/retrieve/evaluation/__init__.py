"""How well an index finds what queries ask for, beside its controls and rows that need no model."""

from attngraft.retrieve.evaluation.beir import Benchmark, read_benchmark
from attngraft.retrieve.evaluation.results import Results, schema

__all__ = ["Benchmark", "Results", "read_benchmark", "schema"]
