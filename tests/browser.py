"""A real Chromium, driven through its own pipe in real time: no driver, no port, no other package."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and answers on 4."""
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
SECONDS = 120.0


class Browser:
    """One page of a browser, as a context manager.

    Attributes:
        complaints: What the page wrote to its console, and the errors that nothing caught.

    Args:
        folder: Where the browser may keep its profile.
        size: Width and height of the window; below 600 it is a phone with a touch screen.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 900)) -> None:
        self.folder = folder
        self.size = size
        self.complaints: list[str] = []
        self._number = 0
        self._rest = b""
        self._session: dict[str, str] = {}

    def __enter__(self) -> Browser:
        assert CHROMIUM is not None
        (theirs_in, self._to), (self._from, theirs_out) = os.pipe(), os.pipe()
        asked = [sys.executable, "-c", START, str(theirs_in), str(theirs_out), CHROMIUM]
        self._process = subprocess.Popen(
            [*asked, f"--user-data-dir={self.folder / 'browser'}", *QUIET],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")
        width, height = self.size
        phone = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._send("Browser.close", {}, {})
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its answer."""
        number = self._send(method, parameters, self._session)
        deadline = time.monotonic() + SECONDS
        while True:
            message = self._read(deadline)
            if message.get("method") in COMPLAINTS:
                self.complaints.append(json.dumps(message["params"]))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                answer: dict[str, Any] = message["result"]
                return answer

    def run(self, script: str) -> Any:
        """Return what a script on the page gives, once its promise is kept."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, address: str, until: str) -> None:
        """Go to an address and wait for a condition on the page."""
        self.ask("Page.navigate", url=address)
        self.wait(until)

    def wait(self, until: str) -> None:
        """Wait for a condition on the page."""
        deadline = time.monotonic() + SECONDS
        while not self.run(f"Boolean({until})"):
            assert time.monotonic() < deadline, f"never came to {until}, but to {self.run('location.href')}"
            time.sleep(0.05)

    def _send(self, method: str, parameters: dict[str, Any], session: dict[str, str]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            with selectors.DefaultSelector() as waiting:  # select() takes no file beyond the 1024th of a process
                waiting.register(self._from, selectors.EVENT_READ)
                ready = waiting.select(max(0.0, deadline - time.monotonic()))
            more = os.read(self._from, 1 << 20) if ready else b""
            assert more, "the browser gave no answer"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found
