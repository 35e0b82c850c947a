"""Sends contents from the plugin server to the audit worker, and keeps that process alive.

No caller waits: a bounded queue takes what is handed over, and one thread sends it. Over the bound a content is
replaced by a short message, so that the record says why it has none. What was just sent is kept for a moment: a worker
that was killed had it in memory only, and the next one gets it again.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.messages import Content, LeftOut, Settings, encode, pack, unpacker
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

__all__ = ["Courier", "WorkerMetrics"]

_log: Final = logging.getLogger("tenantgate.audit")

_PAUSES_S: Final = (0.0, 0.1, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # before a worker that died again is replaced
_STABLE_S: Final = 5.0
_MOST_LEFT_OUT: Final = 20_000  # messages that a content was left out
_END_S: Final = 10.0
_BATCH: Final = 1 << 18  # bytes sent in one go
_AGAIN_S: Final = 5.0  # how long what was sent is kept: longer than a line waits for it
_HANG_S: Final = 30  # a worker that takes nothing, or sends no metrics, for so long is replaced

_taken: Final = metrics.counter(
    "tenantgate_audit_content_total", "Requests whose content was taken for the worker."
)
_shed: Final = metrics.counter(
    "tenantgate_audit_content_shed_total",
    "Requests whose content was left out before the worker, by reason.",
    ("reason",),
)
_starts: Final = metrics.counter("tenantgate_audit_worker_starts_total", "How often the worker was started.")
_queued: Final = metrics.gauge("tenantgate_audit_queue_bytes", "Content that waits to go to the worker.")


class Courier:
    """Sender to the worker of one pipeline, which it starts and replaces; thread-safe."""

    def __init__(
        self, config: PipelineConfig, plain: Mapping[str, Any], *, command: Sequence[str] = ()
    ) -> None:
        """`plain` is the configuration as it came, for the worker to read; `command` starts it."""
        self.config, self._plain = config, plain
        self._command = tuple(command) or (sys.executable, "-m", "tenantgate.audit.worker")
        self._bound = config.queue_megabytes << 20
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._bytes = self._left_out = 0
        self._sent: deque[tuple[float, bytes]] = deque()
        self._sent_bytes = 0
        self._policies: dict[str, bytes] = {}
        self._unsent_policies: deque[bytes] = deque()
        self._failures = 0
        self._heard = 0.0  # when the worker last sent metrics
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = BackgroundThread(
            "audit-courier", self._step, log=_log, failed="audit courier failed", interrupt=self._interrupt
        )
        self._thread.start()

    def policy(self, name: str, route_id: str, values: Mapping[str, Any]) -> None:
        """The settings called `name` hold for a route."""
        packed = encode(Settings(name, route_id, values))
        with self._changed:
            if self._policies.get(route_id) != packed:
                self._policies[route_id] = packed
                self._unsent_policies.append(packed)
                self._changed.notify()

    def content(self, policy: str, identifier: str, raw: RawContent) -> None:
        """The content of a request."""
        size = 300 + len(raw.body or b"") + len(raw.reply or b"") + sum(map(len, raw.headers.values()))
        with self._changed:
            if self._bytes + size > self._bound:
                _shed.inc(reason="queue_full")
                self._leave_out(policy, identifier)
                return
        packed = encode(Content(policy, identifier, raw))
        _taken.inc()
        with self._changed:
            self._put(packed)

    def stop(self) -> None:
        """Let the worker end; waits for it."""
        self._thread.stop(_END_S)

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, while there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _leave_out(self, policy: str, identifier: str) -> None:
        if self._left_out < _MOST_LEFT_OUT:
            self._left_out += 1
            self._put(encode(LeftOut(policy, identifier)))

    def _put(self, packed: bytes) -> None:
        self._queue.append(packed)
        self._count(len(packed))
        self._changed.notify()

    # -- the thread ---------------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        with self._changed:
            self._changed.notify()

    def _step(self) -> float:
        started = time.monotonic()
        try:
            self._serve_one()
        finally:
            self._failures = 0 if time.monotonic() - started > _STABLE_S else self._failures + 1
        return _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]

    def _serve_one(self) -> None:
        """From the start of a worker to its end."""
        mine, theirs = socket.socketpair()
        with mine:
            with theirs:
                process = self._process = subprocess.Popen(
                    [*self._command, "--channel", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            _starts.inc()
            gone = threading.Event()
            reader = threading.Thread(target=self._read, args=(mine, gone), name="audit-metrics", daemon=True)
            reader.start()
            try:
                self._feed(mine, gone)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    process.kill()  # it takes nothing any more
            with contextlib.suppress(OSError):
                mine.shutdown(socket.SHUT_RDWR)  # so that it ends, if it has not, and the reader too
            reader.join()
        try:
            status = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if not self._thread.stopping:
            logs.event(_log, logging.ERROR, "audit worker ended, starting another", status=status)

    def _feed(self, line: socket.socket, gone: threading.Event) -> None:
        """Send what is there, until the worker is gone or all is sent and this is over."""
        hello = pack(self._plain)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _HANG_S, 0))
        line.sendall(len(hello).to_bytes(4, "big") + hello)
        with self._changed:
            self._unsent_policies = deque(self._policies.values())
            again = [packed for _, packed in self._sent]
            self._sent.clear()
            self._sent_bytes = 0
            self._queue.extendleft(reversed(again))
            self._count(sum(map(len, again)))
            self._heard = time.monotonic()
        while True:
            with self._changed:
                while not self._changed.wait_for(
                    lambda: self._thread.stopping or self._queue or self._unsent_policies or gone.is_set(),
                    _HANG_S / 4,
                ):
                    if time.monotonic() - self._heard > _HANG_S:
                        raise BlockingIOError
                if gone.is_set() or (self._thread.stopping and not self._queue):
                    return
                policies, batch, size = list(self._unsent_policies), [], 0
                self._unsent_policies.clear()
                while self._queue and size < _BATCH:
                    batch.append(self._queue.popleft())
                    size += len(batch[-1])
                self._count(-size)
            try:
                line.sendall(b"".join((*policies, *batch)))
            except OSError:
                with self._changed:  # the next worker gets it
                    self._queue.extendleft(reversed(batch))
                    self._count(size)
                raise
            self._keep(batch)

    def _keep(self, batch: list[bytes]) -> None:
        """For the next worker, should this one be killed."""
        now = time.monotonic()
        self._sent.extend((now, packed) for packed in batch)
        self._sent_bytes += sum(map(len, batch))
        while self._sent and (self._sent[0][0] < now - _AGAIN_S or self._sent_bytes > self._bound // 4):
            self._sent_bytes -= len(self._sent.popleft()[1])

    def _count(self, size: int) -> None:
        self._bytes += size
        if not self._queue:
            self._left_out = 0
        _queued.set(self._bytes)

    def _read(self, line: socket.socket, gone: threading.Event) -> None:
        """The worker's metrics, until its end of the line is gone."""
        shown = WorkerMetrics()
        metrics_of = unpacker()
        try:
            while data := line.recv(1 << 16):
                metrics_of.feed(data)
                self._heard = time.monotonic()
                for text in metrics_of:
                    shown.update(text)
        except (OSError, ValueError):
            pass
        with self._changed:
            gone.set()
            self._changed.notify()  # `_feed` may be waiting for something to send


class WorkerMetrics:
    """Shows the counters and gauges of one worker among this process' own."""

    _SAMPLE: Final = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
    _LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self) -> None:
        self._seen: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def update(self, exposition: str) -> None:
        """Take over the numbers in a text that `metrics.exposition` has written."""
        help_of: dict[str, str] = {}
        kind_of: dict[str, str] = {}
        for line in exposition.splitlines():
            if line.startswith("# "):
                _, what, name, rest = line.split(" ", 3)
                (help_of if what == "HELP" else kind_of)[name] = rest
                continue
            match = self._SAMPLE.fullmatch(line)
            if match is None or kind_of.get(match[1]) not in ("counter", "gauge"):
                continue
            name, labels = match[1], dict(self._LABEL.findall(match[2] or ""))
            self._show(kind_of[name], name, help_of.get(name, ""), labels, float(match[3]))

    def _show(self, kind: str, name: str, about: str, labels: dict[str, str], value: float) -> None:
        key = (name, tuple(labels.items()))
        if kind == "gauge":
            metrics.gauge(name, about, tuple(labels)).set(value, **labels)
        else:
            # A worker that starts again counts from 0; here the sum of all goes on.
            grown = value - self._seen.get(key, 0.0)
            metrics.counter(name, about, tuple(labels)).inc(grown, **labels)
        self._seen[key] = value
