"""Delivery of spooled records to the sinks: a thread for each, with batches and pauses of its own, at least once."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantgate.audit.core.delivery import LONGEST_PAUSE_S, pause_s
from tenantgate.audit.core.ports import SinkError
from tenantgate.audit.frozen import FrozenBatch
from tenantgate.audit.journal_files import private
from tenantgate.errors import EdgeError
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.audit.config import SinkConfig
    from tenantgate.audit.core.ports import Queued, Sink, Spool

__all__ = ["Batching", "Delivery"]

_log: Final = logging.getLogger("tenantgate.audit")
_LOOK_S: Final = 2.0  # between two looks at the spool, where it announces nothing
_REFUSED_BYTES: Final = 64 << 20  # of refused records, and as much again of older ones

_delivered: Final = metrics.counter(
    "tenantgate_audit_delivered_total", "Records by sink, and what became of them.", ("sink", "outcome")
)
_failures: Final = metrics.counter("tenantgate_audit_sink_failures_total", "Failed deliveries.", ("sink",))
_backlog: Final = metrics.gauge("tenantgate_audit_backlog", "Records that wait for a sink.", ("sink",))


@dataclass(frozen=True, slots=True)
class Batching:
    """Number of records that a sink takes at once, and seconds that a record waits for others."""

    size: int = 100
    flush_s: float = 0.5

    @classmethod
    def of(cls, config: SinkConfig) -> Batching:
        """The batching of a configured sink."""
        return cls(config.batch_size, config.flush_ms / 1000)


class Delivery:
    """Delivers until it is stopped. What no sink ever takes goes to `refused`, a file for each sink.

    In `frozen` is the batch that a sink with the attribute ``freezes`` is getting, a file for each.
    """

    def __init__(
        self,
        spool: Spool,
        sinks: Sequence[Sink],
        batching: Sequence[Batching] = (),
        *,
        refused: Path | None = None,
        frozen: Path | None = None,
    ) -> None:
        self._spool, self._refused = spool, refused
        self._lanes = [
            _Lane(self, sink, batching[i] if i < len(batching) else Batching(), frozen)
            for i, sink in enumerate(sinks)
        ]

    def start(self) -> None:
        """Begin."""
        listen = getattr(self._spool, "listen", None)
        for lane in self._lanes:
            if listen is not None:
                listen(lane.wake.set)
            lane.thread.start()

    def stop(self, flush_s: float) -> None:
        """Try for `flush_s` to deliver what is there, then end."""
        deadline = time.monotonic() + flush_s
        for lane in self._lanes:
            lane.ends_at = deadline
            lane.stopping.set()
            lane.wake.set()
        for lane in self._lanes:
            lane.thread.join(max(0.0, deadline - time.monotonic()) + 0.5)
            lane.given_up = lane.thread.is_alive()

    @property
    def spool(self) -> Spool:
        """The source of the records."""
        return self._spool

    def keep_refused(self, sink: str, batch: Sequence[Queued]) -> None:
        """Put aside what a sink will never take, for the operator to look at.

        Raises:
            EdgeError: it can't be put aside either, as on a full disk; the sink must wait.
        """
        if self._refused is not None:
            try:
                self._put_aside(self._refused / f"refused.{sink}.jsonl", batch)
            except OSError as error:
                raise EdgeError(f"refused records: {error.strerror}") from None
        _delivered.inc(len(batch), sink=sink, outcome="refused")

    @staticmethod
    def _put_aside(path: Path, batch: Sequence[Queued]) -> None:
        with os.fdopen(private(path, append=True), "ab") as out:
            out.write(b"".join(q.record + b"\n" for q in batch))
            full = out.tell() > _REFUSED_BYTES
        if full:
            path.replace(f"{path}.1")


class _Lane:
    """One sink's thread."""

    def __init__(self, delivery: Delivery, sink: Sink, batching: Batching, frozen: Path | None) -> None:
        self._delivery, self._sink, self._batching = delivery, sink, batching
        self.wake, self.stopping = threading.Event(), threading.Event()
        self.ends_at = 0.0
        self.given_up = False  # another delivery reads from here now; what the sink has it gets again
        self._failed = 0
        freezes = frozen is not None and getattr(sink, "freezes", False)
        self._frozen = FrozenBatch(frozen / f"batch.{sink.name}") if frozen is not None and freezes else None
        # A batch that failed, or that an earlier process may have sent: it comes again as it was, under the same key.
        self._held: Sequence[Queued] = self._frozen.load() if self._frozen is not None else ()
        self._done: Sequence[Queued] = ()  # a batch that the sink has and the spool doesn't know of yet
        self._most = batching.size  # less after a batch was refused, then more again
        self.thread = threading.Thread(target=self._run, name=f"audit-{sink.name}", daemon=True)

    def _run(self) -> None:
        while not self._over():
            try:
                self._once()
            except Exception as error:  # noqa: BLE001 - the thread must live as long as the process
                self._trouble(error)

    def _over(self) -> bool:
        return self.stopping.is_set() and time.monotonic() >= self.ends_at

    def _once(self) -> None:
        spool, name = self._delivery.spool, self._sink.name
        self.wake.clear()
        self._settle()
        batch = self._held or spool.read(name, self._most)
        if not batch:
            self._failed = 0
            _backlog.set(0, sink=name)
            if self.stopping.is_set():
                self.ends_at = 0.0
                return
            self.wake.wait(_LOOK_S)
            return
        if not self._held and len(batch) < self._most and not self.stopping.wait(self._batching.flush_s):
            batch = spool.read(name, self._most)  # others may have come meanwhile
        self._held = batch
        if self._frozen is not None and not self.given_up:
            self._frozen.save(batch)
        if not self._deliver(batch):
            # One of them is the reason, or their size: the first half gets its own chance, then the others.
            self._most = len(batch) // 2
            self._held = batch[: self._most]
            return
        self._held, self._done = (), batch
        self._most = min(self._batching.size, self._most * 2)
        self._settle()
        self._failed = 0
        _backlog.set(spool.backlog(name), sink=name)

    def _settle(self) -> None:
        """Acknowledge what the sink has; where that fails it is done later, and nothing is sent again meanwhile."""
        if self._done and not self.given_up:
            self._delivery.spool.ack(self._sink.name, self._done)
            self._done = ()
            if self._frozen is not None:
                self._frozen.clear()

    def _deliver(self, batch: Sequence[Queued]) -> bool:
        """Whether the batch is done with; False if it has to be made smaller."""
        try:
            self._sink.send(batch)
        except SinkError as error:
            if error.retry:
                raise
            if len(batch) > 1 and getattr(error, "poison", False):
                return False
            logs.event(
                _log, logging.ERROR, "a sink refuses records", sink=self._sink.name, records=len(batch)
            )
            self._delivery.keep_refused(self._sink.name, batch)
            return True
        _delivered.inc(len(batch), sink=self._sink.name, outcome="delivered")
        return True

    def _trouble(self, error: Exception) -> None:
        self._failed += 1
        _failures.inc(sink=self._sink.name)
        if self._failed == 1:
            details = {"error": str(error)} if isinstance(error, EdgeError) else logs.describe(error)
            logs.event(
                _log, logging.WARNING, "a sink fails, its records wait", sink=self._sink.name, **details
            )
        pause = pause_s(
            self._failed,
            random.random(),
            asked_s=getattr(error, "after_s", None),
            # The spool is our own, and may lose what waits in it: it is asked again soon.
            longest_s=LONGEST_PAUSE_S if isinstance(error, SinkError) else _LOOK_S,
        )
        if not self.stopping.wait(pause):
            return
        time.sleep(min(pause, max(0.0, self.ends_at - time.monotonic())))
