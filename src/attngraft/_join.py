"""Joins attngraft to Ultralytics as soon as both are loaded, in whichever order, and loads neither by itself."""

from __future__ import annotations

from types import ModuleType

import wrapt


@wrapt.when_imported("ultralytics.nn.tasks")
def _join(tasks: ModuleType) -> None:
    from attngraft.yolo._compat import install

    install(tasks)
