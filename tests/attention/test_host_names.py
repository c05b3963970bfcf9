"""No mechanism takes the name of a class that the host's model files already use."""

from __future__ import annotations

import pytest

import attngraft.attention as zoo


def test_no_class_hides_one_that_a_model_file_can_name() -> None:
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    shipped = {r.cls.__name__ for r in zoo.mechanisms().values() if r.cls.__module__.startswith("attngraft.")}
    assert "AIFI" in vars(tasks)
    assert "C2PSA" in vars(tasks)
    assert not shipped & vars(tasks).keys()
