"""The mirror's own HTTP: a webhook that only has it pull, ``/metrics`` and ``/healthz``."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from tenantgate.bounded import Bounded
from tenantgate.errors import EdgeError
from tenantgate.platform.core.signature import TOLERANCE_S, verified
from tenantgate.telemetry import metrics

__all__ = ["Listener", "Webhooks"]

_BODY: Final = 64 << 10
_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 16
_LOOK_S: Final = 0.05  # between two looks whether it is to be closed
_REMEMBERED: Final = 10_000
_ID_MAX: Final = 200
_TEXT: Final = "text/plain; charset=utf-8"

_webhooks: Final = metrics.counter(
    "tenantgate_platform_webhooks_total", "Messages to the mirror's webhook.", ("outcome",)
)


class Webhooks:
    """Decides about messages: one that is signed, new and of now has the mirror pull, and does nothing else.

    Args:
        secret: the key of the signatures; None: no message is taken.
        pull: called for each message that is taken; must return at once.
        now: Unix time in seconds.
    """

    def __init__(
        self, secret: bytes | None, pull: Callable[[], None], *, now: Callable[[], float] = time.time
    ) -> None:
        self._secret, self._pull, self._now = secret, pull, now
        # As long as a message's time is taken at all, twice over, since it may be of the future.
        self._seen: Bounded[str, bool] = Bounded(_REMEMBERED, age_s=2.0 * TOLERANCE_S)

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """The HTTP status of the answer to a message; `headers` with names in lower case."""
        if self._secret is None:
            return 404
        identifier = headers.get("webhook-id", "")
        right = len(identifier) <= _ID_MAX and verified(
            self._secret,
            identifier=identifier,
            timestamp=headers.get("webhook-timestamp", ""),
            signatures=headers.get("webhook-signature", ""),
            body=body,
            now=self._now(),
        )
        if not right:
            _webhooks.inc(outcome="refused")
            return 401
        if identifier in self._seen:
            _webhooks.inc(outcome="repeated")
            return 204  # a sender that has lost our answer may stop sending it
        self._seen.put(identifier, True, now=self._now())
        _webhooks.inc(outcome="taken")
        self._pull()
        return 204


class Listener:
    """Answers on `host` and `port`, any with 0, in threads of its own: sixteen requests at once, others are dropped.

    Raises:
        EdgeError: it can't listen there.
    """

    def __init__(
        self, host: str, port: int, *, webhooks: Webhooks, pages: Mapping[str, Callable[[], str]]
    ) -> None:
        handler = type("Handler", (_Handler,), {"webhooks": webhooks, "pages": pages})
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._server = type("Server", (_Server,), {"address_family": family})((host, port), handler)
        except OSError as error:
            raise EdgeError(f"gateway.platform.listen: {host}:{port}: {error.strerror}") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_S,), name="platform-listener", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _AT_ONCE

    def __init__(self, *args: Any) -> None:
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._room.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # The socket's own limit begins anew with each byte that comes; this one holds for the whole request.
        timer = threading.Timer(2 * _TIMEOUT_S, _cut, (request,))
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that breaks off is no event, and the traceback would quote its request."""


class _Handler(BaseHTTPRequestHandler):
    webhooks: Webhooks
    pages: Mapping[str, Callable[[], str]]
    timeout = _TIMEOUT_S
    server_version = "tenantgate"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self._answer(404)
            return
        text = page()
        self._answer(200, text, "application/json" if text.startswith("{") else _TEXT)

    def do_POST(self) -> None:
        if self.path.partition("?")[0] != "/webhook":
            self._answer(404)
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal():
            self._answer(411)
        elif len(length) > 9 or int(length) > _BODY:
            self._answer(413)
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._answer(self.webhooks.take({k.lower(): v for k, v in self.headers.items()}, body))

    def log_message(self, *args: Any) -> None:
        """Nothing is logged of single requests."""

    def _answer(self, status: int, text: str = "", kind: str = _TEXT) -> None:
        body = text.encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
