"""The threads that run phases: a bounded number, with a bounded queue, and replaced when they get stuck.

The workers wait on the sockets themselves: who reads an event runs it. So in the common case a request never
changes threads, which would cost more than all the rest (about 50 µs each time). Only when every worker is
busy does somebody else read, and queue.

An event that only waits (for its turn, or long for Kong) steps aside: its thread doesn't count, and another may be
hired. So neither a tenant's long phases nor its clients who send their bodies byte by byte hold the others' threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tenantgate.kong.event import Event, Mailbox
from tenantgate.kong.pdk import Abandoned
from tenantgate.kong.waiting_lines import Lines
from tenantgate.telemetry import logs, metrics

__all__ = ["Pool"]

_log: Final = logging.getLogger("tenantgate.workers")

# A phase past its deadline mostly waits for something that ends soon by its own time-out.
STUCK_AFTER_S: Final = 1.0
_ASIDE: Final = 3  # for each worker: so many events may have stepped aside

_replaced: Final = metrics.counter(
    "tenantgate_replaced_threads_total", "Worker threads that did not come back in time and were replaced."
)


class _Worker(threading.Thread):
    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(name=f"phase-{number}", daemon=True)
        self._pool = pool
        self.event: Event | None = None
        self.retired = False
        self.interrupted_at = 0.0

    def run(self) -> None:
        mailbox = Mailbox()
        pool = self._pool
        try:
            while not self.retired:
                event = pool.next()
                if event is None:
                    continue
                self.event = event
                _execute(event, mailbox)
                self.event = None
                pool.finished(event)
                if pool.is_one_too_many(self):
                    return
        except Abandoned:
            pass  # a late interrupt of a retired worker
        finally:
            pool.gone(self)
            mailbox.close()


def _execute(event: Event, mailbox: Mailbox) -> None:
    failed = False
    try:
        event.run(mailbox)
    except Abandoned:
        failed = True
    except BaseException as error:  # noqa: BLE001 - whatever it is, Kong waits for an answer
        failed = True
        logs.event(_log, logging.WARNING, "phase raised", phase=event.phase, **logs.describe(error))
    event.finish(failed=failed)


class Pool:
    """`size` workers; `queue_size` events may wait for one, of log phases as many again.

    `read` waits for a call from Kong and gives the event that it began, if any. `kick` makes a `read` that
    waits return. `saturated` is called when the last idle worker takes an event. `usage` tells how much of the
    processor a key of `Event.turn` used lately: who used least is next.
    Log events may hold a quarter of the workers only, so that the request path always finds one.
    """

    def __init__(
        self,
        size: int,
        queue_size: int,
        *,
        read: Callable[[], Event | None],
        kick: Callable[[], None],
        saturated: Callable[[], None],
        usage: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self.size = size
        self._read, self._kick, self._saturated = read, kick, saturated
        self._lock = threading.Lock()
        self._idle = 0
        self._queue = Lines(queue_size, usage)
        self._log_quota = max(1, size // 4)
        self._log_running: set[Event] = set()
        self._log_waiting = Lines(queue_size, usage)
        self._aside: list[Event] = []  # the oldest first
        self._workers: set[_Worker] = set()
        self._stuck: set[_Worker] = set()
        self._hired = 0

    def start(self) -> None:
        """Start the workers; until then events wait."""
        for _ in range(self.size):
            self._hire()

    # -- events ------------------------------------------------------------------------------------------

    def next(self) -> Event | None:
        """For a worker: the next event that is its to run, from the queue or from Kong; None: ask again."""
        event, more = None, False
        with self._lock:
            if self._queue:
                event, more = self._queue.take(), bool(self._queue and self._idle)
            else:
                self._idle += 1
        if more:
            self._kick()  # several kicks may have woken one worker only
        if event is not None:
            return event
        try:
            event = self._read()
        finally:
            with self._lock:
                self._idle -= 1
                last = event is not None and not self._idle
        if last:
            self._saturated()
        return event

    def admit(self, event: Event, *, here: bool) -> tuple[Event | None, bool]:
        """Take in an event that was just read.

        Gives the event for which there is no room, if any, and whether to run this one at once.
        `here`: the reader is a worker, so it may run the event itself.
        """
        refused = None
        with self._lock:
            if event.phase == "log":
                if len(self._log_running) >= self._log_quota:
                    return self._log_waiting.put(event), False
                self._log_running.add(event)
            if here:
                return None, True
            refused = self._queue.put(event)
            if refused is not None:
                self._log_running.discard(refused)
            idle = self._idle
            short = not idle and self._short()
        if idle:
            self._kick()
        elif short:
            self._hire()
        return refused, False

    def finished(self, event: Event) -> None:
        """A worker is through with `event`, or given up: the next log event may run."""
        if event.phase != "log":
            return
        with self._lock:
            idle = self._next_log(event)
        if idle:
            self._kick()

    def _next_log(self, event: Event) -> bool:
        """Under the lock: whether to kick an idle worker for the next log event."""
        if event not in self._log_running:
            return False
        self._log_running.discard(event)
        if not self._log_waiting:
            return False
        following = self._log_waiting.take()
        self._log_running.add(following)
        self._queue.add(following)  # it has been let in already
        return bool(self._idle)

    def step_aside(self, event: Event, *, at_will: bool = False) -> bool:
        """The event's thread is going to wait: another may work instead.

        When too many have, the one whose tenant has most there is ended (`Event.evict`), of its events the latest. An
        event that would wait `at_will` must not when half as many have: False then.
        """
        evicted = None
        with self._lock:
            if at_will and len(self._aside) * 2 >= self.size * _ASIDE:
                return False
            self._aside.append(event)
            idle = self._next_log(event)
            if len(self._aside) > self.size * _ASIDE:
                counts = Counter(e.turn.key for e in self._aside)
                most = max(counts, key=lambda key: counts[key])
                evicted = next(e for e in reversed(self._aside) if e.turn.key == most)
            short = not self._idle and self._short()
        if idle:
            self._kick()
        if short:
            self._hire()
        if evicted is not None:
            evicted.evict()
        return True

    def step_back(self, event: Event) -> None:
        """The event's thread works again."""
        with self._lock, contextlib.suppress(ValueError):
            self._aside.remove(event)

    def is_one_too_many(self, worker: _Worker) -> bool:
        """Whether a worker is not needed, since events that had stepped aside have stepped back; it must end then."""
        with self._lock:
            if len(self._workers) - len(self._aside) <= self.size or worker not in self._workers:
                return False
            self._workers.discard(worker)
            return True

    def _short(self) -> bool:
        return len(self._workers) - len(self._aside) < self.size

    def nudge(self) -> None:
        """Somebody else took a kick that was meant for an idle worker."""
        if self._queue and self._idle:
            self._kick()

    # -- threads -----------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Replace workers that are long past their event's deadline, and try to interrupt them."""
        for worker in list(self._workers):
            event = worker.event
            if event is not None and now > event.work_by + STUCK_AFTER_S:
                self._retire(worker, event)
        for worker in list(self._stuck):
            if worker.event is not None and now > worker.interrupted_at + STUCK_AFTER_S:
                self._interrupt(worker, now)

    def _retire(self, worker: _Worker, event: Event) -> None:
        worker.retired = True  # if it comes back just now, it sees this and leaves
        with self._lock:
            self._workers.discard(worker)
            self._stuck.add(worker)
        _replaced.inc()
        logs.event(_log, logging.ERROR, "phase is stuck", phase=event.phase, stuck=len(self._stuck))
        self.finished(event)
        self._hire()
        self._interrupt(worker, time.monotonic())

    def _interrupt(self, worker: _Worker, now: float) -> None:
        # Ends a loop in Python code; a thread inside a system call or C code sees it when it returns.
        worker.interrupted_at = now
        if worker.ident is not None and worker.event is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(worker.ident), ctypes.py_object(Abandoned)
            )

    def _hire(self) -> None:
        self._hired += 1
        worker = _Worker(self, self._hired)
        with self._lock:
            self._workers.add(worker)
        worker.start()

    def gone(self, worker: _Worker) -> None:
        """A worker's thread ends."""
        with self._lock:
            self._workers.discard(worker)
            self._stuck.discard(worker)

    # -- figures -----------------------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Workers that wait for an event."""
        return self._idle

    @property
    def stuck(self) -> int:
        """Workers that were replaced and have not come back yet."""
        return len(self._stuck)

    @property
    def waiting(self) -> int:
        """Events that wait for a worker."""
        return len(self._queue) + len(self._log_waiting)

    @property
    def full(self) -> bool:
        """Whether the next event would be refused."""
        return self._queue.full
