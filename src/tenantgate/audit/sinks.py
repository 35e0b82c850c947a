"""Sinks: JSON lines to standard output or a file, batches over HTTP, spans, logs and metrics over OTLP/HTTP.

A sink gets a batch again until it takes it; each record's ``id`` lets the receiver drop doubles, and over HTTP the
batch's ``Idempotency-Key``.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gzip
import http.client
import json
import os
import ssl
import stat
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import urlsplit

from tenantgate import __version__
from tenantgate.audit.core.delivery import batch_key
from tenantgate.audit.core.otlp import View, is_request, log_record, spans
from tenantgate.audit.core.otlp import metrics as otlp_metrics
from tenantgate.audit.core.ports import Queued, Sink, SinkError
from tenantgate.http_limits import within

if TYPE_CHECKING:
    from tenantgate.audit.config import SinkConfig

__all__ = ["FileSink", "HttpSink", "LangfuseSink", "OtlpSink", "RefusedError", "StdoutSink", "make"]

_ANSWER: Final = 1 << 16  # bytes of an answer that are read
_LOOK_BACK: Final = 32 << 20  # bytes of a file in which the last batch may be
_REFUSED: Final = frozenset({400, 413, 422})  # about what was sent; all else is the operator's to mend


class RefusedError(SinkError):
    """The receiver said no; `after_s` is how long it wants to be left alone.

    Attributes:
        poison: the batch itself is the reason, so a part of it may pass.
    """

    def __init__(
        self, message: str, *, retry: bool, after_s: float | None = None, poison: bool = False
    ) -> None:
        super().__init__(message, retry=retry)
        self.after_s, self.poison = after_s, poison


def make(config: SinkConfig, folder: Path = Path()) -> Sink:
    """The sink of a configuration; `folder` is where relative paths begin."""
    made = _make(config, folder)
    return TenantsSink(made, config.tenants) if config.tenants else made


def _make(config: SinkConfig, folder: Path) -> Sink:
    if config.type == "stdout":
        return StdoutSink(config.name)
    if config.type == "file":
        return FileSink(config.name, folder / (config.path or ""))
    if config.format != "records":
        from tenantgate.audit.usage_sink import UsageSink

        return UsageSink(config)
    return {"otlp": OtlpSink, "langfuse": LangfuseSink}.get(config.type, HttpSink)(config)


class TenantsSink:
    """A sink that gets the records of some tenants only."""

    def __init__(self, sink: Sink, tenants: Collection[str]) -> None:
        self.name, self._sink, self._tenants = sink.name, sink, frozenset(tenants)
        self.freezes = getattr(sink, "freezes", False)

    def send(self, batch: Sequence[Queued]) -> None:
        """Deliver those of the batch that are theirs; the others are done with."""
        theirs = [queued for queued in batch if str(queued.tenant) in self._tenants]
        if theirs:
            self._sink.send(theirs)


class StdoutSink:
    """JSON lines to the process's standard output."""

    def __init__(self, name: str, out: BinaryIO | None = None) -> None:
        self.name, self._out = name, out or sys.stdout.buffer

    def send(self, batch: Sequence[Queued]) -> None:
        """Write and flush."""
        try:
            self._out.write(b"".join(q.record + b"\n" for q in batch))
            self._out.flush()
        except (OSError, ValueError) as error:
            raise SinkError(f"stdout: {type(error).__name__}", retry=True) from None


class FileSink:
    """JSON lines at the end of a file, which may be moved away at any time (logrotate).

    After a start and after an error the file's end is looked at first: half a line is cut off, and records that are
    there already are left out. So a kill between writing and the spool's note of it doubles nothing, unless the file
    was moved in between.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path, self._certain = name, path, False

    def send(self, batch: Sequence[Queued]) -> None:
        """Append, and make it last."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}", retry=True) from None
        certain, self._certain = self._certain, False
        try:
            try:
                regular = stat.S_ISREG(os.fstat(fd).st_mode)
                records = {q.record for q in batch}
                there = _repair(self._path, fd, records) if regular and not certain else frozenset()
                data = b"".join(q.record + b"\n" for q in batch if q.record not in there)
                size = os.fstat(fd).st_size
            except OSError as error:
                raise SinkError(f"{self._path}: {error.strerror}", retry=True) from None
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                if regular:  # a pipe or a terminal can't
                    os.fsync(fd)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, size)  # no half record for the next one to be glued to
                raise SinkError(f"{self._path}: {error.strerror}", retry=True) from None
            self._certain = True
        finally:
            os.close(fd)


def _repair(path: Path, fd: int, records: Collection[bytes]) -> Collection[bytes]:
    """Cut half a line off the end of a file; which of the records it has, as far back as a batch may reach."""
    found: set[bytes] = set()
    with path.open("rb") as file:
        if not os.path.sameopenfile(file.fileno(), fd):
            return found  # moved away just now: there is another
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _LOOK_BACK)
        file.seek(start)
        line = file.readline() if start else b"\n"
        for line in file:
            if line[:-1] in records:
                found.add(line[:-1])
    if size > start and not line.endswith(b"\n"):
        os.ftruncate(fd, size - len(line))
    return found


class HttpSink:
    """A POST with ``{"records": […]}`` for each batch."""

    freezes = True

    def __init__(self, config: SinkConfig) -> None:
        self.name = config.name
        self._config = config
        self._url = urlsplit(config.url or "")
        self._connection: http.client.HTTPConnection | None = None

    def send(self, batch: Sequence[Queued]) -> None:
        """Deliver the batch."""
        self._deliver(self._body(batch), batch_key(batch))

    def _body(self, batch: Sequence[Queued]) -> bytes:
        return b'{"records":[' + b",".join(q.record for q in batch) + b"]}"

    def _deliver(self, body: bytes, key: str, more: Mapping[str, str] | None = None) -> bytes:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"tenantgate/{__version__}",
            "Idempotency-Key": key,
            **self._config.headers,
            **(more or {}),
        }
        if self._config.gzip:
            body, headers["Content-Encoding"] = gzip.compress(body, 6, mtime=0), "gzip"
        try:
            status, answer, after = self._post(body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._close()
            raise SinkError(f"{self.name}: {type(error).__name__}", retry=True) from None
        if 200 <= status < 300:
            return answer
        self._close()
        again = status not in _REFUSED
        raise RefusedError(
            f"{self.name}: HTTP {status}", retry=again, after_s=_seconds(after), poison=not again
        )

    def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str | None]:
        fresh = self._connection is None
        try:
            return self._exchange(self._connection or self._connect(), body, headers)
        except (ConnectionError, http.client.RemoteDisconnected):
            if fresh:
                raise
            self._close()  # the receiver has closed it since the last batch
            return self._exchange(self._connect(), body, headers)

    def _exchange(
        self, connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes, str | None]:
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        with within(connection, self._config.timeout_ms / 1000):
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            answer = response.read(_ANSWER)
        if response.will_close or not response.isclosed():
            self._close()
        return response.status, answer, response.headers.get("Retry-After")

    def _connect(self) -> http.client.HTTPConnection:
        timeout, host, port = self._config.timeout_ms / 1000, self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            if not self._config.ssl_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class OtlpSink(HttpSink):
    """Spans, log records or metrics in OTLP's JSON; `url` is the whole address (``…/v1/traces``)."""

    def __init__(self, config: SinkConfig) -> None:
        super().__init__(config)
        self._view = View(
            config.conventions, usage=config.usage, content=config.content is None or config.content
        )
        self._signal = config.signal

    def _body(self, batch: Sequence[Queued]) -> bytes:
        return json.dumps(self._tree(batch), separators=(",", ":")).encode("ascii")

    def _tree(self, batch: Sequence[Queued]) -> dict[str, Any]:
        records = [json.loads(q.record) for q in batch]
        if self._signal == "traces":
            found = [span for record in records for span in spans(record, self._view)]
        elif self._signal == "logs":
            found = [log_record(record, self._view) for record in records]
        else:
            found = otlp_metrics(records, self._view)
        outer, inner, items = _TREES[self._signal]
        resource = [
            {"key": "service.name", "value": {"stringValue": "tenantgate"}},
            {"key": "service.version", "value": {"stringValue": __version__}},
        ]
        scope = {"name": "tenantgate.audit", "version": __version__}
        return {outer: [{"resource": {"attributes": resource}, inner: [{"scope": scope, items: found}]}]}

    def send(self, batch: Sequence[Queued]) -> None:
        """Deliver the batch; what a collector says that it rejected is not sent again, as OTLP demands."""
        answer = self._deliver(self._body(batch), batch_key(batch))
        rejected = _rejected(answer)
        if rejected:
            raise RefusedError(f"{self.name}: {rejected} {self._signal} rejected", retry=False)


_TREES: Final = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}
"""Names of OTLP's JSON. Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp"""


class LangfuseSink(OtlpSink):
    """Spans to a project of Langfuse, without prompts and replies unless `content` says so; requests only.

    A project that was out of reach for a day misses what is older: its credentials are its owner's affair, and what
    waits for it would fill the spool.
    Source: https://langfuse.com/integrations/native/opentelemetry
    """

    def __init__(self, config: SinkConfig, clock: Callable[[], float] = time.time) -> None:
        super().__init__(config)
        self._view = View(config.conventions, usage=config.usage, content=config.content is True)
        self._url = urlsplit((config.url or "").rstrip("/").removesuffix(_LANGFUSE_PATH) + _LANGFUSE_PATH)
        pair = f"{config.public_key}:{config.secret_key}".encode()
        self._more = {
            "Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}",
            "x-langfuse-ingestion-version": "4",
        }
        self._clock = clock

    def send(self, batch: Sequence[Queued]) -> None:
        """Deliver what of the batch is a request, and not too old."""
        oldest = self._clock() - _OLD_S
        fresh = [queued for queued in batch if _wanted(json.loads(queued.record), oldest)]
        if fresh:
            super().send(fresh)

    def _deliver(self, body: bytes, key: str, more: Mapping[str, str] | None = None) -> bytes:
        return super()._deliver(body, key, {**self._more, **(more or {})})


_LANGFUSE_PATH: Final = "/api/public/otel/v1/traces"
_OLD_S: Final = 86_400.0


def _wanted(record: Mapping[str, Any], oldest: float) -> bool:
    return is_request(record) and datetime.fromisoformat(record["time"]).timestamp() >= oldest


_REJECTED: Final = ("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints")


def _rejected(answer: bytes) -> int:
    try:
        found: Any = json.loads(answer or b"{}")
        partial = found.get("partialSuccess") or {}
        return sum(int(partial.get(name) or 0) for name in _REJECTED)
    except (ValueError, AttributeError, TypeError):
        return 0


def _seconds(after: str | None) -> float | None:
    """``Retry-After`` in seconds (RFC 9110, section 10.2.3)."""
    if not after:
        return None
    if after.strip().isdecimal():
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except ValueError:
        return None
