"""How well an index finds what queries ask for, beside its controls and rows that need no model."""

from attngraft.retrieve.evaluation.beir import Benchmark, read_benchmark
from attngraft.retrieve.evaluation.evaluate import Evaluation, evaluate, evaluate_keys
from attngraft.retrieve.evaluation.results import Results, schema
from attngraft.retrieve.evaluation.rows import METHODS, Subject

__all__ = [
    "METHODS",
    "Benchmark",
    "Evaluation",
    "Results",
    "Subject",
    "evaluate",
    "evaluate_keys",
    "read_benchmark",
    "schema",
]
