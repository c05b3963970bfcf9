"""What an attention mixed, what a detection rests on, and whether a map is true; PyTorch only, no detector.

Three questions, kept apart:

1. **What was mixed?** `record` a forward pass; ``tape.attentions[name].rows(cells)`` are the true weights
   ``(B, h, Q, N)`` with which chosen cells gathered the values of all cells; ``tape.gates[name].values()`` is what a
   gate multiplied.
2. **What does a detection rest on?** `odam` at any layer, for the class or for a side of the box;
   ``RecordedAttention.weighted(score, cells)`` is the gradient-weighted attention beside the raw weights.
3. **What does the graft do at all?** `strength`, and `without` with `compare`.

Whether a map is true: `scorecard` beside maps that know nothing, its parts in `scores`, `randomisation_check`, and
`drise` as the slow oracle. What heads do over a data set: `atlas`.

Example:
    >>> import torch
    >>> from attngraft import maps
    >>> from attngraft.attention import MHSA
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), MHSA(16)).eval()
    >>> with maps.record(model) as tape:
    ...     _ = model(torch.randn(1, 3, 14, 10))
    >>> rows = tape.attentions["1"].rows([17])  # what the middle cell of 7 x 5 gathered, per head
    >>> rows.shape, round(float(rows.sum()), 4)
    (torch.Size([1, 4, 1, 35]), 4.0)
"""

from attngraft.maps import scores
from attngraft.maps.blackbox import drise
from attngraft.maps.detections import (
    Box,
    Change,
    Detection,
    cell_at,
    cells_in,
    compare,
    coverage,
    intersection_over_union,
)
from attngraft.maps.grafted import Strength, grafts, strength, without
from attngraft.maps.heads import Atlas, Head, atlas
from attngraft.maps.recording import RecordedAttention, RecordedGate, Tape, mixture_gradients, record
from attngraft.maps.relevance import SIDES, Predict, Predictions, Target, activations, odam, smooth
from attngraft.maps.sanity import Randomised, randomisation_check, spearman
from attngraft.maps.scores import Verdict, judge, scorecard
from attngraft.maps.subject import Prepared, Subject

__all__ = [
    "SIDES",
    "Atlas",
    "Box",
    "Change",
    "Detection",
    "Head",
    "Predict",
    "Predictions",
    "Prepared",
    "Randomised",
    "RecordedAttention",
    "RecordedGate",
    "Strength",
    "Subject",
    "Tape",
    "Target",
    "Verdict",
    "activations",
    "atlas",
    "cell_at",
    "cells_in",
    "compare",
    "coverage",
    "drise",
    "grafts",
    "intersection_over_union",
    "judge",
    "mixture_gradients",
    "odam",
    "randomisation_check",
    "record",
    "scorecard",
    "scores",
    "smooth",
    "spearman",
    "strength",
    "without",
]
