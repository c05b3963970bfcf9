"""Pages that a command serves to a browser on this machine, from Python's own server on 127.0.0.1."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from attngraft._core.errors import OptionError

HOSTS = ("127.0.0.1", "localhost")


class LocalHandler(BaseHTTPRequestHandler):
    """Answers a browser on this machine alone; derive from it and override `answer`.

    A request that names another host is refused: the page of a stranger may lead a name of its own to 127.0.0.1, and
    its scripts could then read what is answered.
    """

    timeout = 60
    """Seconds after which a connection that says nothing is closed."""
    policy: ClassVar[str] = "default-src 'none'"
    """The Content-Security-Policy of every answer."""

    def do_GET(self) -> None:
        """Answer a request."""
        if self.headers.get("Host", "").rpartition(":")[0] not in HOSTS:
            self.send_error(HTTPStatus.FORBIDDEN)
        else:
            self.answer()

    def answer(self) -> None:
        """Answer a request to `path`."""
        raise NotImplementedError

    def send(self, kind: str, content: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send an answer, which no cache keeps and no other site frames or is told of."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Security-Policy", f"{self.policy}; frame-ancestors 'none'")
        self.end_headers()
        try:
            self.wfile.write(content)
        except ConnectionError:
            self.close_connection = True  # the browser asked for something else meanwhile

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: a line for every request helps nobody."""


def local_server(handler: type[LocalHandler], port: int = 0) -> ThreadingHTTPServer:
    """Return a server on 127.0.0.1; ``serve_forever`` starts it.

    Args:
        handler: What answers.
        port: Where; 0 takes a free port, which ``server_port`` tells.

    Raises:
        OptionError: If the port cannot be used.
    """
    try:
        return ThreadingHTTPServer((HOSTS[0], port), handler)
    except (OSError, OverflowError, TypeError) as error:
        raise OptionError(
            f"port {port} of 127.0.0.1 cannot be used ({error}); leave port= out to take a free one"
        ) from error
