"""Whether an attention helped: one evaluator, a paired bootstrap over seeds and images, and verdicts."""

from attngraft.study.bootstrap import METRICS, Resampled, average_precision, resample, resample_breakdown, two_level
from attngraft.study.error_types import ErrorTypes, error_types
from attngraft.study.evaluator import Evaluation, evaluate, summarize
from attngraft.study.matches import Matches
from attngraft.study.sequential import Looks
from attngraft.study.statistics import Estimate, estimate, power, seeds_for
from attngraft.study.verdict import Criterion, Verdict, breakdown, compare, judge

__all__ = [
    "METRICS",
    "Criterion",
    "ErrorTypes",
    "Estimate",
    "Evaluation",
    "Looks",
    "Matches",
    "Resampled",
    "Verdict",
    "average_precision",
    "breakdown",
    "compare",
    "error_types",
    "estimate",
    "evaluate",
    "judge",
    "power",
    "resample",
    "resample_breakdown",
    "seeds_for",
    "summarize",
    "two_level",
]
