"""``attngraft look --serve``: the page from a server on this machine, which computes the row of any cell asked."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import torch
from torch import Tensor

from attngraft import maps
from attngraft._core.errors import AttngraftError, OptionError
from attngraft._core.local_server import LocalHandler, local_server
from attngraft.look.asking import Question
from attngraft.look.drawn import lay, pack
from attngraft.look.mixing import array
from attngraft.look.page import page
from attngraft.look.result import Look

FULL = 80
"""Cells along a side of a map whose rows are served: a map of stride 8 at 640 pixels is whole."""


class Rows:
    """Rows of single cells; the image that was asked last is kept recorded.

    Args:
        question: The model and the images.
        look: What was seen of them.
    """

    def __init__(self, question: Question, look: Look) -> None:
        self._question, self._look = question, look
        self._lock = threading.Lock()
        self._image = -1
        self._tape: maps.Tape
        self._scores: list[Tensor] = []

    def of(self, image: int, layer: int, cell: int, detection: int | None = None) -> dict[str, Any]:
        """Return the rows of a cell, one a head, as the page reads them.

        Args:
            image: Number of the image, from 0.
            layer: Number of the attention.
            cell: The flat cell of its map.
            detection: Number of the detection by whose score they are weighted; None for the raw weights.

        Raises:
            OptionError: If there is no such image, attention or detection.
            MapError: If there is no such cell, or the score does not depend on the attention.
        """
        with self._lock:
            if not 0 <= image < len(self._look.images):
                raise OptionError(f"there are {len(self._look.images)} images, counted from 0; got image={image}")
            if image != self._image:
                self._record(image)
            attentions = list(self._tape.attentions.values())
            if not 0 <= layer < len(attentions):
                raise OptionError(f"there are {len(attentions)} attentions, counted from 0; got layer={layer}")
            attention = attentions[layer]
            if detection is None:
                rows = attention.rows([cell])
            elif 0 <= detection < len(self._scores):
                rows = attention.weighted(self._scores[detection], [cell])
            else:
                raise OptionError(
                    f"there are {len(self._scores)} detections, counted from 0; got detection={detection}"
                )
            laid, drawn = lay(array(rows[0, :, 0]), attention.key_grids, FULL)
        return {"rows": pack(laid, torch.zeros(len(laid), dtype=torch.long).numpy()), "drawn": drawn}

    def _record(self, image: int) -> None:
        watched, detections = self._question.watched, self._look.images[image].detections
        tensor = watched.prepare(self._question.pixels[image][1], self._question.settings.imgsz).tensor
        with torch.enable_grad(), watched.only(detections), maps.record(watched.network) as tape:
            predictions = watched.predict(tensor.clone().requires_grad_())
        self._tape, self._scores = tape, [d.target().of(predictions) for d in detections]
        self._image = image


class _Handler(LocalHandler):
    """Serves one page and the rows that it asks for, and nothing else, below a path that only its user knows."""

    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    )
    token: ClassVar[str]
    content: ClassVar[bytes]
    rows: ClassVar[Rows]

    def answer(self) -> None:
        asked = urlsplit(self.path)
        _, token, *rest = asked.path.split("/")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            self.send_error(HTTPStatus.NOT_FOUND)
        elif rest == [""]:
            self.send("text/html; charset=utf-8", self.content)
        elif rest == ["rows"]:
            self._answer_rows(asked.query)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer_rows(self, query: str) -> None:
        given = parse_qs(query)
        try:
            numbers = {name: int(values[0]) for name, values in given.items()}
            found = self.rows.of(**numbers)
        except (AttngraftError, TypeError, ValueError) as error:
            self.send("text/plain; charset=utf-8", f"{error}\n".encode(), HTTPStatus.BAD_REQUEST)
            return
        self.send("application/json", json.dumps(found).encode())


def server(question: Question, look: Look, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """Return a server of a look's page, and the page's address; ``serve_forever`` starts it.

    Args:
        question: The model and the images.
        look: What was seen of them.
        port: Where on 127.0.0.1; 0 takes a free one.

    Raises:
        OptionError: If the port cannot be used.
    """
    token = secrets.token_urlsafe(32)
    content = page(look, live=True).encode()
    handler = type("Handler", (_Handler,), {"token": token, "content": content, "rows": Rows(question, look)})
    serving = local_server(handler, port)
    return serving, f"http://127.0.0.1:{serving.server_port}/{token}/"


def serve(serving: ThreadingHTTPServer, say: Callable[[str], object] = print) -> None:
    """Serve until Ctrl-C.

    Args:
        serving: The server; it is closed at the end.
        say: Takes the sentence at the end.
    """
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        say("ended")
    finally:
        serving.server_close()
