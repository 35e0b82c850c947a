"""``/metrics``, ``/healthz`` and ``/readyz`` over HTTP, on a socket of their own."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Final

from tenantgate.kong.gathering import Gathering, Status
from tenantgate.kong.server import Server
from tenantgate.telemetry import metrics, needs

__all__ = ["serve"]

_TIMEOUT_S: Final = 2.0
_REQUEST_MAX: Final = 8192
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS: Final = "application/openmetrics-text"


def serve(
    listener: socket.socket,
    server: Server,
    about: dict[str, str | int],
    gathering: Gathering | None = None,
    index: int = 0,
) -> None:
    """Answer HTTP on `listener` from a thread of its own, for all processes that `gathering` knows.

    ``/healthz`` is 200 while the process runs, with `about` and the process id; ``/readyz`` is 200 if one process
    takes events and none misses what it needs (`tenantgate.telemetry.needs`), else 503; ``/metrics`` adds up, in
    OpenMetrics for those that ask for it, as Prometheus does.
    """

    def status() -> Status:
        ready, why = server.ready()
        lacks = needs.missing()
        return {
            "status": "alive",
            "pid": os.getpid(),
            "ready": ready,
            "reason": why,
            "missing": lacks,
            **about,
        }

    def figures() -> Status:
        server.update_gauges()
        return {**status(), "index": index, "metrics": metrics.snapshot()}

    def everyone() -> list[Status]:
        return [status()] if gathering is None else gathering.all(index, figures())

    def healthz(_accept: str) -> tuple[int, str, str]:
        told = status()
        if gathering is not None:
            told["processes"] = [
                {name: one[name] for name in ("pid", "ready", "reason", "missing", "restarts")}
                for one in sorted(everyone(), key=lambda one: int(one["index"]))
            ]
        return 200, "application/json", json.dumps(told)

    def readyz(_accept: str) -> tuple[int, str, str]:
        # What another process knows to be missing this one misses, too, though perhaps nobody has asked it yet.
        found = everyone()
        missing = sorted({what for one in found for what in one["missing"]})
        ready = not missing and any(one["ready"] for one in found)
        why = "ready" if ready else ", ".join(missing) or str(found[0]["reason"])
        return 200 if ready else 503, "application/json", json.dumps({"ready": ready, "reason": why})

    def exposition(accept: str) -> tuple[int, str, str]:
        server.update_gauges()
        openmetrics = _OPENMETRICS in accept
        if gathering is None:
            found = metrics.exposition(openmetrics=openmetrics)
        else:
            found = metrics.text(gathering.together(everyone()), openmetrics=openmetrics)
        return 200, f"{_OPENMETRICS}; version=1.0.0; charset=utf-8" if openmetrics else _TEXT, found

    if gathering is not None:
        gathering.answer(index, figures)
    pages = {"/healthz": healthz, "/readyz": readyz, "/metrics": exposition}
    threading.Thread(target=_loop, args=(listener, pages), name="health", daemon=True).start()


Page = Callable[[str], tuple[int, str, str]]


def _loop(listener: socket.socket, pages: dict[str, Page]) -> None:
    listener.setblocking(True)
    while True:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        with conn:
            try:
                conn.settimeout(_TIMEOUT_S)
                conn.sendall(_respond(conn, pages))
            except OSError:
                continue


def _respond(conn: socket.socket, pages: dict[str, Page]) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _REQUEST_MAX:
        data = conn.recv(_REQUEST_MAX)
        if not data:
            break
        head += data
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    path = words[1].partition("?")[0] if len(words) > 1 else ""
    page = pages.get(path)
    if words[0] not in {"GET", "HEAD"}:
        status, kind, text = 405, "text/plain", "GET only\n"
    elif page is None:
        status, kind, text = 404, "text/plain", f"one of {', '.join(pages)}\n"
    else:
        status, kind, text = page(_accept(head))
    body = text.encode()
    reason = {200: "OK", 503: "Service Unavailable", 404: "Not Found", 405: "Method Not Allowed"}[status]
    header = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{header}Connection: close\r\n\r\n".encode() + (b"" if words[0] == "HEAD" else body)


def _accept(head: bytes) -> str:
    """The header ``Accept`` of a request, in lower case."""
    for line in head.decode("latin-1").lower().split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name == "accept":
            return value
    return ""
