"""A client of a whole gateway, as a tenant's application is one: plain HTTP, OpenAI's shapes.

For the demo, the end-to-end tests and the benchmarks; applications use their OpenAI SDK.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.llm.stream import finished_chunks

__all__ = ["Client", "Reply"]

# No answer may take longer; Kong's own wait for a hung plugin server (2 s) fits in.
PATIENCE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: header names in lower case, the body whole, and how it arrived."""

    status: int
    headers: dict[str, str]
    body: bytes
    first_byte_s: float
    """Seconds from sending until the first byte of the body."""
    total_s: float

    @property
    def cache(self) -> str | None:
        """``X-Cache-Status``: Hit, Miss, Bypass or Refresh; None where no cache answered for."""
        return self.headers.get("x-cache-status")

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The assistant's words, from a plain reply or put together from a stream."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return str(self.json["choices"][0]["message"]["content"])
        parts = [e["choices"][0]["delta"].get("content") or "" for e in self.events if e["choices"]]
        return "".join(parts)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The stream's chunks without its end mark, which must be there."""
        chunks = finished_chunks(self.body.decode())
        if chunks is None:
            raise EOFError("the stream ended without data: [DONE]")
        return chunks


@dataclass(frozen=True, slots=True)
class Client:
    """One application: a tenant's key on one of its routes."""

    url: str
    key: str
    model: str

    def chat(self, prompt: str, *, stream: bool = False, **params: Any) -> Reply:
        """Ask one question (or send `messages`); other keywords go into the body."""
        headers = params.pop("headers", {})
        messages = params.pop("messages", None) or [{"role": "user", "content": prompt}]
        body = {"messages": messages, **params}
        if stream:
            body["stream"] = True
        return self.send(json.dumps(body).encode(), headers=headers)

    def send(self, body: bytes, *, headers: dict[str, str] | None = None, method: str = "POST") -> Reply:
        """Send raw bytes as the body and read the answer to its end."""
        start = time.perf_counter()
        with self.opened(body, headers=headers, method=method) as response:
            first = response.read1(65536)
            first_byte_s = time.perf_counter() - start
            whole = first + response.read()
            names = {k.lower(): v for k, v in response.getheaders()}
            return Reply(response.status, names, whole, first_byte_s, time.perf_counter() - start)

    @contextmanager
    def opened(
        self, body: bytes, *, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> Iterator[http.client.HTTPResponse]:
        """The response while it still arrives; leaving the block closes the connection."""
        at = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=PATIENCE_S)
        try:
            sent = {"Content-Type": "application/json", "apikey": self.key, **(headers or {})}
            connection.request(method, at.path + ("?" + at.query if at.query else ""), body, sent)
            yield connection.getresponse()
        finally:
            connection.close()
