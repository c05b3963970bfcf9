"""Which learner a task has."""

from __future__ import annotations

from attngraft.fit.classify import Classifier
from attngraft.fit.detect import Detector, Segmenter
from attngraft.fit.learner import Learner
from attngraft.fit.superres import Enlarger
from attngraft.models._registry import Task

LEARNERS: dict[Task, type[Learner]] = {
    "classify": Classifier,
    "detect": Detector,
    "segment": Segmenter,
    "superres": Enlarger,
}
