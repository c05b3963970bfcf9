"""The page from a server on this machine: exact rows of any cell, to nobody else, until Ctrl-C."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attngraft import maps
from attngraft._core.errors import OptionError
from attngraft.look.asking import Question
from attngraft.look.serving import Rows, server
from tests.browser import needs_browser
from tests.look.test_page import dom_of
from tests.maps.beacons import ATTENTION, scenes, tensors, watched


@pytest.fixture(scope="module")
def question() -> Question:
    return Question.of(watched("global"), [scene.image for scene in scenes(2)], imgsz=96)


@pytest.fixture(scope="module")
def address(question: Question) -> Iterator[str]:
    serving, address = server(question, question.look())
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield address
    serving.shutdown()
    thread.join()
    serving.server_close()


def got(address: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        content: bytes = answer.read()
    return content


def unpacked(packed: dict[str, Any]) -> np.ndarray:
    raw = base64.b64decode(packed["png"].partition(",")[2])
    levels = np.asarray(Image.open(io.BytesIO(raw)), float)
    shares = (levels - 128) / 127 if packed["signed"] else levels / 255
    return shares * np.array(packed["scale"])[:, None]


def test_rows_of_any_cell_are_those_of_maps(address: str, question: Question) -> None:
    detector = watched("global")
    tensor = tensors(2)[1:]
    with maps.record(detector.network) as tape:
        predictions = detector.predict(tensor.requires_grad_())
    found = detector.find(tensor)[0]
    answer = json.loads(got(f"{address}rows?image=1&layer=0&cell=77"))
    assert answer["drawn"] == [12, 12]
    rows = tape[ATTENTION].rows([77])[0, :, 0].numpy()
    np.testing.assert_allclose(unpacked(answer["rows"]), rows, atol=rows.max() / 500)
    answer = json.loads(got(f"{address}rows?image=1&layer=0&cell=77&detection=0"))
    rows = tape[ATTENTION].weighted(found[0].target().of(predictions), [77])[0, :, 0].numpy()
    np.testing.assert_allclose(unpacked(answer["rows"]), rows, atol=abs(rows).max() / 250)


def test_nobody_else_is_answered_and_nothing_else_is_served(address: str) -> None:
    origin, token = re.match(r"(http://127\.0\.0\.1:\d+)/(.{40,})/$", address).groups()  # type: ignore[union-attr]
    assert b"connect-src 'self'" in got(address)
    port = origin.rpartition(":")[2]
    assert got(address, Host=f"localhost:{port}")
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example:80"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            got(address, Host=host)
    for path in (
        "/",
        "/look.html",
        f"/{token[:-1]}/",
        f"/{token}",
        f"/{token}/../../etc/passwd",
        f"/{token}/words.json",
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            got(origin + path)
    bad = ("image=9&layer=0&cell=0", "image=0&layer=0&cell=999", "image=0&layer=0&cell=x", "image=0&layer=7&cell=0")
    for query in ("", "image=0", *bad, "image=0&layer=0&cell=0&detection=99", "a=1&image=0&layer=0&cell=0"):
        with pytest.raises(urllib.error.HTTPError, match="400"):
            got(f"{address}rows?{query}")


def test_a_port_that_is_taken_gets_a_sentence(question: Question, address: str) -> None:
    look = question.look()
    with pytest.raises(OptionError, match="cannot be used"):
        server(question, look, int(address.split(":")[2].partition("/")[0]))
    with pytest.raises(OptionError, match="cannot be used"):
        server(question, look, 99999)


@needs_browser
def test_the_pointer_asks_the_server_in_a_browser(address: str, question: Question, tmp_path: Path) -> None:
    page = f"{address}#lang=en&cell=0.5,0.99&view=weighted&detection=2"
    dom = dom_of(page, tmp_path, "body[data-ready]")
    assert "row 7, column 12 of 12 x 12. All heads share one scale." in dom
    assert "Rows of every cell are computed as you ask." in dom
    answer = Rows(question, question.look()).of(0, 0, 6 * 12 + 11, 1)
    strongest = unpacked(answer["rows"])[0]
    value = float(re.search(r"head 0: strongest (-?[\d.e-]+)", dom)[1])  # type: ignore[index]
    assert value == pytest.approx(strongest[abs(strongest).argmax()], rel=0.02)


def test_the_command_ends_with_ctrl_c(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(scenes(1)[0].image).save(file)
    words = ["look", "attngraft-micro.yaml+mhsa@P3", str(file), "imgsz=96", "--serve"]
    command = [sys.executable, "-m", "attngraft", *words]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heeding) as process:
        late = threading.Timer(120, process.kill)
        late.daemon = True
        late.start()
        assert process.stdout is not None
        line = next(line for line in process.stdout if "http://" in line)
        assert b"<title>" in got(line.split()[1])
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "ended\n"
        assert process.wait(60) == 0
        late.cancel()
    assert not list(tmp_path.glob("*.html"))
