"""Which learner a task has."""

from __future__ import annotations

from attngraft.fit.tasks.classify import Classifier
from attngraft.fit.tasks.detect import Detector, Segmenter
from attngraft.fit.tasks.learner import Learner
from attngraft.fit.tasks.superres import SuperResolution
from attngraft.models._registry import Task

LEARNERS: dict[Task, type[Learner]] = {
    "classify": Classifier,
    "detect": Detector,
    "segment": Segmenter,
    "superres": SuperResolution,
}
