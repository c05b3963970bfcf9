"""Every task of the table of models has its learner."""

from __future__ import annotations

from typing import get_args

from attngraft.fit.tasks.learner import Learner
from attngraft.fit.tasks.tasks import LEARNERS
from attngraft.models._registry import Task


def test_every_task_has_a_learner_of_its_own() -> None:
    assert tuple(LEARNERS) == get_args(Task)
    assert len(set(LEARNERS.values())) == len(get_args(Task))
    for learner in LEARNERS.values():
        assert issubclass(learner, Learner)
        assert learner.monitor
        assert not getattr(learner, "__abstractmethods__", None)
