"""``attngraft study monitor``: one small page on this machine that follows a study while it is carried out.

The page asks for ``state.json`` every few seconds; both come from Python's own server, on 127.0.0.1 alone. Nothing is
written, trained or judged: verdicts are those of ``results.json``, which a study keeps up to date after every look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from attngraft._core.errors import DataError
from attngraft._core.local_server import LocalHandler, local_server
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.results import Results
from attngraft.study.layout import RESULTS
from attngraft.study.reporting.words import headline
from attngraft.study.running import status
from attngraft.study.running.records import Run, Store
from attngraft.study.running.run import curve

PAGE = Path(__file__).with_name("monitor.html")
CURVE_KEYS = ("metrics/mAP50-95(M)", "metrics/mAP50-95(B)", "metric")
"""Columns of ``results.csv`` that are drawn, the first that is there: masks before boxes, then a program's own."""


def state(folder: Path) -> dict[str, Any]:
    """Return what the page draws, from a study's files.

    Args:
        folder: The study's folder.

    Returns:
        Plain values: ``study``, ``metric``, ``sesoi``, ``status`` (as in ``status.json``; empty before the first run),
        ``curves`` in points by arm and seed, ``answers`` and ``baseline``.
    """
    frozen, store = FrozenPlan.read(folder), Store(folder)
    told = status.read(folder)
    return {
        "study": folder.resolve().name,
        "metric": frozen.plan.metric,
        "sesoi": frozen.plan.sesoi,
        "status": told,
        "curves": {arm.name: _curves(store, frozen, arm.name, told) for arm in frozen.arms},
        "answers": _answers(folder),
        "baseline": frozen.arms[0].name,
    }


def _curves(store: Store, frozen: FrozenPlan, name: str, told: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the points after each epoch, by seed, of the runs that have begun."""
    arm = frozen.arm(name)
    seeds = [row["seed"] for row in told.get("runs", []) if row["arm"] == name and row["state"] != "waiting"]
    rows = {seed: curve(store.training(Run(arm, seed))) for seed in seeds}
    found = {str(seed): _points(kept) for seed, kept in rows.items()}
    return {seed: points for seed, points in found.items() if points}


def _points(rows: list[dict[str, float]]) -> list[float]:
    key = next((key for key in CURVE_KEYS if rows and key in rows[0]), None)
    return [] if key is None else [round(100 * row[key], 3) for row in rows]


def _answers(folder: Path) -> list[str]:
    """Return the last verdicts in words; none before there are any."""
    try:
        return list(headline(Results.load(folder / RESULTS)))
    except (OSError, DataError):
        return []


class _Handler(LocalHandler):
    """Serves the page and its state, to a browser on this machine."""

    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
    )
    folder: ClassVar[Path]

    def answer(self) -> None:
        """Answer a request."""
        if self.path == "/":
            self.send("text/html; charset=utf-8", PAGE.read_bytes())
        elif self.path == "/state.json":
            self.send("application/json", json.dumps(state(self.folder)).encode())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of a study's page; ``serve_forever`` starts it.

    Args:
        folder: The study's folder.
        port: Where on 127.0.0.1; 0 takes a free one, which ``server_port`` tells.

    Raises:
        PlanError: If the folder holds no study.
        OptionError: If the port is taken.
    """
    FrozenPlan.read(folder)
    handler = type("Handler", (_Handler,), {"folder": folder})
    return local_server(handler, port)
