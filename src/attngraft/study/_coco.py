"""The names of `attngraft.coco` that a study's users import from `attngraft.study`."""

from attngraft.coco.average_precision import METRICS, average_precision
from attngraft.coco.error_types import ErrorTypes
from attngraft.coco.evaluate import Evaluation, evaluate, summarize
from attngraft.coco.matches import Matches

__all__ = ["METRICS", "ErrorTypes", "Evaluation", "Matches", "average_precision", "evaluate", "summarize"]
