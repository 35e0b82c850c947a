"""Sends contents from a plugin server to the node's audit worker, and keeps that process alive.

No caller waits: a bounded queue takes what is handed over, and one thread sends it. Over the bound a content is
replaced by a short message, so that the record says why it has none. What was just sent is kept for a moment: a worker
that was killed had it in memory only, and the next one gets it again.

Each plugin server of the node has a courier; the first that finds no worker starts one (`tenantgate.audit.meeting`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.meeting import connect, lock, peer
from tenantgate.audit.messages import Content, LeftOut, Pipeline, Settings, encode, unpacker
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

__all__ = ["Courier", "WorkerMetrics"]

_log: Final = logging.getLogger("tenantgate.audit")

_PAUSES_S: Final = (0.0, 0.1, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # before a worker that died again is replaced
_STABLE_S: Final = 5.0
_REST_S: Final = 0.05  # after a batch, so that the next one holds more than one content
_LOOK_S: Final = 0.05  # between two looks for a worker that starts or ends
_MOST_SETTINGS: Final = 10_000
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
_starts: Final = metrics.counter(
    "tenantgate_audit_worker_starts_total", "How often this process started the node's worker."
)
_queued: Final = metrics.gauge("tenantgate_audit_queue_bytes", "Content that waits to go to the worker.")

_children: Final[list[subprocess.Popen[bytes]]] = []  # also those that have outlived their courier


class Courier:
    """Sender to the worker of one pipeline; thread-safe."""

    def __init__(
        self, config: PipelineConfig, plain: Mapping[str, Any], *, command: Sequence[str] = ()
    ) -> None:
        """`plain` is the configuration as it came, for the worker to read; `command` starts it."""
        self.config = config
        self._folder = Path(config.state_dir)
        self._hello = encode(Pipeline(plain, time.time()))
        self._command = tuple(command) or (sys.executable, "-m", "tenantgate.audit.worker")
        self._bound = config.queue_megabytes << 20
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._bytes = self._left_out = 0
        self._sent: deque[tuple[float, bytes]] = deque()
        self._sent_bytes = 0
        self._policies: dict[tuple[str, str], bytes] = {}
        self._unsent_policies: deque[bytes] = deque()
        self._failures = 0
        self._waits_since = 0.0  # for a lock that another process has
        self._watchdog = os.getppid()
        self._writes_output = any(sink.type == "stdout" for sink in config.sinks)
        self._heard = 0.0  # when the worker last sent anything
        self._process: subprocess.Popen[bytes] | None = None  # that this courier started
        self.worker_pid: int | None = None
        self._thread = BackgroundThread(
            "audit-courier", self._step, log=_log, failed="audit courier failed", interrupt=self._interrupt
        )
        self._thread.start()

    def policy(self, name: str, route_id: str, values: Mapping[str, Any]) -> None:
        """The settings called `name` hold for a route; without one they are only known by name."""
        packed, key = encode(Settings(name, route_id, values)), (route_id, "" if route_id else name)
        with self._changed:
            if self._policies.get(key) != packed:
                self._policies[key] = packed
                if len(self._policies) > _MOST_SETTINGS:
                    del self._policies[next(iter(self._policies))]
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
        """Leave the worker; waits until it has all, and if it has no other server, until it has ended."""
        self._thread.stop(_END_S)

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
            if not self._serve_one():
                return _LOOK_S
        except BaseException:
            self._failures += 1
            raise
        self._failures = 0 if time.monotonic() - started > _STABLE_S else self._failures + 1
        return _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]

    def _serve_one(self) -> bool:
        """From the connection to a worker to its end; False if one starts or ends just now."""
        line = self._worker_line()
        if line is None:
            return not self._waits_since
        with line:
            self.worker_pid = peer(line)[0] or None
            gone = threading.Event()
            reader = threading.Thread(target=self._read, args=(line, gone), name="audit-metrics", daemon=True)
            reader.start()
            try:
                self._feed(line, gone)
            except OSError as error:
                if isinstance(error, BlockingIOError) and self.worker_pid is not None:
                    with contextlib.suppress(OSError):
                        os.kill(self.worker_pid, signal.SIGKILL)  # it takes nothing any more
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_WR)
            reader.join(_END_S)  # until it has taken all
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            reader.join()
            self.worker_pid = None
        status = self._status()
        if not self._thread.stopping:
            logs.event(_log, logging.ERROR, "audit worker ended", status=status)
        return True

    def _worker_line(self) -> socket.socket | None:
        """A connection to the worker, which is started if there is none; None if that isn't possible yet."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (line := connect(self._folder)) is not None:
            self._waits_since = 0.0
        elif self._writes_output and os.getppid() != self._watchdog:
            pass  # Kong doesn't read our output any more: a server that has a watchdog starts the next worker
        elif (held := lock(self._folder)) is not None:
            self._waits_since = 0.0
            line = self._started_worker(held)
        elif not self._waits_since:
            self._waits_since = time.monotonic()
        elif time.monotonic() - self._waits_since > _HANG_S:
            self._waits_since = time.monotonic()
            logs.event(_log, logging.ERROR, "a process that takes no content has the lock of the audit log")
        return line

    def _started_worker(self, held: int) -> socket.socket | None:
        """A connection to a worker that is started and gets the lock; None if it ends before it listens."""
        options = ["--starter", str(os.getpid()), "--watchdog", str(self._watchdog)]
        options += ["--dir", str(self._folder), "--lock", str(held)]
        try:
            process = self._process = subprocess.Popen(
                [*self._command, *options], pass_fds=[held], stdin=subprocess.DEVNULL
            )
        finally:
            os.close(held)
        _children[:] = [process, *(child for child in _children if child.poll() is None)]
        _starts.inc()
        started = time.monotonic()
        while (line := connect(self._folder)) is None and process.poll() is None:
            if time.monotonic() - started > _HANG_S:
                process.kill()
            time.sleep(_LOOK_S)
        return line

    def _status(self) -> int | None:
        """The worker's exit status, if it was started here."""
        if self._process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_LOOK_S)
        return None

    def _feed(self, line: socket.socket, gone: threading.Event) -> None:
        """Send what is there, until the worker is gone or all is sent and this is over."""
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _HANG_S, 0))
        line.sendall(self._hello)
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
            if not self._queue:
                self._thread.pause(_REST_S)

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
                for received in metrics_of:
                    if isinstance(received, dict):
                        shown.update(received["counted"], counted=True)
                    else:
                        shown.update(received)
        except (OSError, ValueError, LookupError):
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
        self._lines: frozenset[str] = frozenset()

    def update(self, exposition: str, *, counted: bool = False) -> None:
        """Take over the numbers in a text that `metrics.exposition` has written.

        `counted`: another process of the node has counted these; what comes grows from there.
        """
        help_of: dict[str, str] = {}
        kind_of: dict[str, str] = {}
        lines = exposition.splitlines()
        before: frozenset[str] = frozenset() if counted else self._lines
        self._lines = frozenset() if counted else frozenset(lines)
        for line in lines:
            if line in before and not line.startswith("# "):
                continue  # most stay as they are
            if line.startswith("# "):
                _, what, name, rest = line.split(" ", 3)
                (help_of if what == "HELP" else kind_of)[name] = rest
                continue
            match = self._SAMPLE.fullmatch(line)
            if match is None or kind_of.get(match[1]) not in ("counter", "gauge"):
                continue
            name, labels = match[1], dict(self._LABEL.findall(match[2] or ""))
            if counted:
                self._seen[name, tuple(labels.items())] = float(match[3])
            else:
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
