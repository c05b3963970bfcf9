"""Joins attngraft to Ultralytics and to timm as soon as both are loaded, in whichever order, and loads none of them."""

from __future__ import annotations

from types import ModuleType

import wrapt


@wrapt.when_imported("ultralytics.nn.tasks")
def _join(tasks: ModuleType) -> None:
    from attngraft.yolo._compat import install

    install(tasks)


@wrapt.when_imported("ultralytics.engine.trainer")  # here, as it may be the first, and is half loaded at the tasks
def _join_trainer(engine: ModuleType) -> None:
    from attngraft.yolo.freezing import install

    install(engine)


@wrapt.when_imported("timm")
def _join_timm(_: ModuleType) -> None:
    from attngraft.models._timm import enter_all

    enter_all()
