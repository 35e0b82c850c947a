"""A provider that a test scripts down to the bytes of its connection."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["ANSWER", "Asked", "RawProvider", "reply", "stream"]

ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    line: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes = field(repr=False)


Script = Callable[[socket.socket, Asked], object]
"""What it does upon a request; the connection goes on unless this gives False."""


def reply(status: int = 200, body: bytes | None = None, **headers: str) -> Script:
    """Answers so; ``X_Name`` is the header ``X-Name``."""
    text = json.dumps(ANSWER).encode() if body is None else body
    headers = {"Content_Type": "application/json", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n{lines}\r\n"
    return lambda connection, _asked: connection.sendall(head.encode() + text)


def stream(*texts: str, between: Callable[[], object] = lambda: None) -> Script:
    """Streams these texts, and calls `between` after the first one."""

    def run(connection: socket.socket, _asked: Asked) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        for number, text in enumerate(texts):
            chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
            event = f"data: {json.dumps(chunk)}\n\n".encode()
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
            if number == 0:
                between()
        connection.sendall(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    return run


class RawProvider:
    """Listens on a port of loopback until it is closed."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def target(self, name: str, **more: Any) -> dict[str, Any]:
        """A target of a decision, in OpenAI's format, with this id and a credential of its own."""
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        auth = {"header_name": "Authorization", "header_value": f"key-of-{name}", "bearer": True}
        made = {"provider": "openai", "name": "m1", "options": {"upstream_url": url}, "auth": auth}
        return {"id": name, "max_request_body_size": 4 << 20, **made, **more}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline().decode("latin-1").strip():
                headers = {}
                while text := lines.readline().decode("latin-1").strip():
                    name, _, value = text.partition(":")
                    headers[name.lower()] = value.strip()
                asked = Asked(line, headers, lines.read(int(headers.get("content-length", 0))))
                self.asked.append(asked)
                try:
                    if self.script(connection, asked) is False:
                        return
                except OSError:
                    return
