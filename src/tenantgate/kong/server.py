"""The plugin server: Kong's calls in, phases run, exactly one answer to each call out.

Three kinds of threads. A bounded pool of workers waits on the connections; the one that reads an event runs
its phase, writes its PDK calls and waits for the Step on the same connection, so a request stays in one
thread. The warden (the caller of `run`) never runs plugin code: it accepts connections, watches deadlines and
the workers, beats for the supervisor, and reads and queues when all workers are busy. The control thread
starts and closes instances, so that neither waits behind events.

A phase's deadline counts from the arrival of its event. At the deadline Kong is answered as the plugin
entity's `on_error` says; what the worker does after that reaches nobody. Ids start at a random number.
"""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tenantgate.bounded import Bounded
from tenantgate.kong import figures
from tenantgate.kong.ahead import Ahead
from tenantgate.kong.connection import ClosedError, Connection, abandoned
from tenantgate.kong.control import METHODS, Control
from tenantgate.kong.deadlines import Deadlines
from tenantgate.kong.event import Event, Outcome, last_answer
from tenantgate.kong.fairness import Turns
from tenantgate.kong.instances import InstanceError, Instances
from tenantgate.kong.ledger import Ledger
from tenantgate.kong.limits import Limits
from tenantgate.kong.memory import Memory
from tenantgate.kong.passing import Passing
from tenantgate.kong.peers import Peer
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.poller import Waker, new_poller
from tenantgate.kong.wire import STEPS, Call, MalformedError, TooLargeError, pack, reply
from tenantgate.kong.workers import Pool
from tenantgate.telemetry import logs, needs

__all__ = ["EXIT_STUCK", "Server"]

_log: Final = logging.getLogger("tenantgate.server")

EXIT_STUCK: Final = 70
"""The exit status when too many threads are stuck: the process must be replaced."""

_TICK_S: Final = 0.1
_WATCH_S: Final = 0.002  # while all workers are or were just busy, the warden looks this often
_SWITCH_INTERVAL_S: Final = 0.001  # how long Python code may hold the others up (default: 5 ms)
_STALE_AFTER_S: Final = 0.5  # from here on, look whether Kong still waits before answering
_WRITE_STALL_S: Final = 10.0
_FROZEN_S: Final = 1.0  # a tick that is so late means that the process did not run: stopped, or swapped out
_ACCEPT_PAUSE_S: Final = 0.02
_BATCH: Final = 256  # calls the warden reads before it looks at deadlines again
_LATE_STEPS: Final = 10_000
_DRAIN_S: Final = 1.0
_UNUSED_S: Final = 0.2  # a connection that Kong doesn't use for so long, it hardly uses the moment after
_PHASES: Final = frozenset({"certificate", "rewrite", "access", "response", "log", "preread"})


class Server:
    """Serves one plugin class on a listening socket.

    `heartbeat` is called every 0.1 s while the server is alive, with whether it is warmed up. `memory` holds the
    instances of the server before, and of those beside it that `peer` knows; in `ledger` is what Kong waits for.
    """

    def __init__(
        self,
        name: str,
        plugin: Callable[[Any], Any],
        listener: socket.socket,
        *,
        limits: Limits | None = None,
        heartbeat: Callable[[bool], None] = lambda _: None,
        memory: Memory | None = None,
        ledger: Ledger | None = None,
        peer: Peer | None = None,
    ) -> None:
        self._ledger = ledger
        self.limits = limits or Limits()
        self._listener = listener
        self._heartbeat = heartbeat
        self._default = PhasePolicy(deadline_ms=self.limits.deadline_ms)
        self.instances = Instances(
            name,
            plugin,
            default=self._default,
            limit=self.limits.max_instances,
            memory=memory,
            index=0 if peer is None else peer.index,
        )
        self._poller = new_poller()
        self._waker = Waker()  # wakes the warden
        self._kicker = Waker()  # wakes one idle worker
        self._pool = Pool(
            self.limits.workers,
            self.limits.queue,
            read=self._read_one,
            kick=self._kicker.wake,
            saturated=self._saturated,
            usage=lambda key: self._turns.usage(key, time.monotonic()),
        )
        self._turns = Turns(wake=lambda: self._wake_by(self._turns.next_grant() or math.inf))
        self._watching = True  # until workers are there, the warden reads
        self._wake_at = 0.0
        self._ticked_at = time.monotonic()
        self._conns: dict[int, Connection] = {}
        self._events: dict[int, Event] = {}
        self._passing = Passing(
            peer, idle=lambda: self._turns.idle, conns=self._conns, poller=self._poller, ledger=ledger
        )
        self._deadlines = Deadlines(self._wake_by)
        # Events that ended before their last Step, and whether its answer rejects.
        self._late: Bounded[int, bool] = Bounded(_LATE_STEPS)
        self._handed: deque[tuple[Connection, Call | None, bool]] = deque()
        self._control = Control(self.instances, self)
        self._warm = False
        self._stopping: float | None = None
        self._unused_at = 0.0
        self._status = 0

    # -- life --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Let events run; until then they wait in the queue, at most until their deadline."""
        if not self._warm:
            self._heartbeat(True)  # before any event: from here on a hang is seen soon
            self._warm = True
            self._pool.start()

    def stop(self, status: int = 0, *, drain_s: float = _DRAIN_S) -> None:
        """End `run` when no event is in progress and no call unread, or after `drain_s`. From any thread or signal."""
        if self._stopping is None:
            self._status = status
            self._stopping = time.monotonic() + drain_s
            self._unused_at = time.monotonic() + _UNUSED_S
            self._waker.wake()

    def ready(self) -> tuple[bool, str]:
        """Whether events are taken and run, and why not."""
        problems = {
            "stopping": self._stopping is not None,
            "warming up": not self._warm,
            "threads stuck": self._pool.stuck > 0,
            "overloaded": self._pool.full,
        }
        first = next((text for text, there in problems.items() if there), None)
        return first is None, first or "ready"

    def run(self) -> int:
        """Serve until `stop`; gives the exit status. What is in progress has then ended, or had a second."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self.instances.restore()  # before a call is read: its instance may be one of these
        self._listener.setblocking(False)
        self._poller.add(self._kicker.fileno())
        self._passing.start()
        self._control.start()
        poll = select.poll()
        poll.register(self._listener.fileno(), select.POLLIN)
        poll.register(self._waker.fileno(), select.POLLIN)
        next_tick = 0.0
        while not self._may_end():
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + _TICK_S
                self._tick(now)
            self._wake_at = self._next_wake(now, next_tick)
            poll.modify(self._listener, select.POLLIN if self._passing.takes_connections(self._warm) else 0)
            ready = poll.poll(max(0.0, self._wake_at - now) * 1000)
            if self.frozen():
                self._after_freeze()
                continue
            for fd, _ in ready:
                if fd == self._waker.fileno():
                    self._waker.drain()
                else:
                    self._accept()
            while self._handed:
                self._resume(*self._handed.popleft())
            self._read_for_busy_workers()
            now = time.monotonic()
            self._deadlines.expire(now, ("again", self.limits.deadline_ms))
            self._turns.grant(now)
        self._control.end()
        return self._status

    def _next_wake(self, now: float, next_tick: float) -> float:
        first = self._deadlines.first(min(next_tick, now + _WATCH_S) if self._watching else next_tick)
        due = self._turns.next_grant()
        return first if due is None else min(first, max(due, now))

    def _read_for_busy_workers(self) -> None:
        if not self._watching:
            return
        for _ in range(_BATCH):
            if self._pool.idle:
                return
            ready = self._poller.wait(0)
            if ready is None:
                return
            event = self._ready(*ready, here=False)
            assert event is None, "only a worker runs events"  # noqa: S101

    def _read_one(self) -> Event | None:
        """For a worker: wait for a call, handle it, and give the event that it began, to be run here."""
        ready = self._poller.wait(None)
        return None if ready is None else self._ready(*ready, here=True)

    def _saturated(self) -> None:
        if not self._watching:
            self._watching = True
            self._waker.wake()

    def _may_end(self) -> bool:
        if self._stopping is None:
            return False
        if time.monotonic() >= self._stopping:
            return True
        if self._events or self._handed or self._control.busy:
            return False
        # Kong can't tell a call that nobody has read from one that failed. So it must find a connection closed before
        # the next call: with its last answer (`answer`), or here, where Kong hasn't used it since the end began.
        if time.monotonic() < self._unused_at:
            # Processes beside this one may pass it something until they have heard that it ends.
            return self._passing.alone and not self._conns
        for conn in list(self._conns.values()):
            if conn.end_if_silent():
                self.drop(conn)
        return not self._conns

    def _tick(self, now: float) -> None:
        self._ticked_at = now
        self._heartbeat(self._warm)
        self._passing.tick(now, warm=self._warm and self._stopping is None)
        if not self._passing.alone and self.instances.behind():
            self._control.catch_up()
        if self._pool.idle:
            self._watching = False
        self._pool.check(now)
        if self._pool.stuck >= self.limits.max_stuck and self._stopping is None:
            logs.event(_log, logging.CRITICAL, "too many stuck threads, giving up", stuck=self._pool.stuck)
            self.stop(EXIT_STUCK)
        if self._control.hangs(now) and self._stopping is None:
            logs.event(_log, logging.CRITICAL, "starting an instance hangs, giving up")
            self.stop(EXIT_STUCK)
        for conn in list(self._conns.values()):
            if conn.stalled_since is not None and now - conn.stalled_since > _WRITE_STALL_S:
                conn.hang_up()

    def frozen(self) -> bool:
        """Whether the process didn't run for a while and the warden doesn't know yet; see `_after_freeze`."""
        return time.monotonic() - self._ticked_at > _FROZEN_S

    def _after_freeze(self) -> None:
        """Drop all connections, also those not yet accepted: Kong gave up the calls in them, and uses them again.

        An answer to an old call would be taken for the answer to a new one, which then fails with 500.
        """
        now = time.monotonic()
        logs.event(
            _log, logging.WARNING, "did not run, connections dropped", seconds=round(now - self._ticked_at, 1)
        )
        with contextlib.suppress(OSError):
            while self._passing.takes_connections(False):
                self._listener.accept()[0].close()
        self._passing.discard()
        for conn in list(self._conns.values()):
            self.drop(conn)
        self._ticked_at = now

    def update_gauges(self) -> None:
        """Set the gauges, before they are shown."""
        figures.connections.set(len(self._conns))
        figures.instances.set(len(self.instances))
        figures.running.set(len(self._events))
        figures.waiting.set(self._pool.waiting)
        figures.stuck.set(self._pool.stuck)
        figures.ready.set(1 if self.ready()[0] and not needs.missing() else 0)

    # -- connections -------------------------------------------------------------------------------------

    def _ready(self, fd: int, readable: bool, writable: bool, *, here: bool) -> Event | None:
        if fd == self._kicker.fileno():
            self._kicker.drain()
            self._poller.arm(fd)
            if not here:
                self._pool.nudge()
            return None
        if fd == self._passing.fileno():
            passed = None if self.frozen() else self._passing.take()
            self._poller.arm(fd)
            return (
                None
                if passed is None
                else self._handle(self._know(passed[0]), passed[1], here=here, final=True)
            )
        conn = self._conns.get(fd)
        return None if conn is None else self._read(conn, readable=readable, writable=writable, here=here)

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors: the backlog keeps them
                time.sleep(_ACCEPT_PAUSE_S)
                return
            self._poller.add(self._know(sock).fd)

    def _know(self, sock: socket.socket) -> Connection:
        note = None if self._ledger is None else self._ledger.note(sock)
        conn = Connection(sock, self.limits.max_message, note)
        self._conns[conn.fd] = conn
        return conn

    def _read(self, conn: Connection, *, readable: bool, writable: bool, here: bool) -> Event | None:
        if self.frozen():
            self.drop(conn)
            return None
        try:
            if writable:
                conn.flush()
            call = conn.receive() if readable or conn.buffered else None
        except ClosedError:
            self.drop(conn)
            return None
        except MalformedError as error:
            self._refuse_bytes(conn, error)
            return None
        if call is not None:
            return self._handle(conn, call, here=here)
        self._arm(conn)
        return None

    def _resume(self, conn: Connection, call: Call | None, final: bool) -> None:
        if conn.closed:
            return
        if call is not None:
            self._handle(conn, call, here=False, final=final)
            return
        self._read(conn, readable=False, writable=False, here=False)

    def _refuse_bytes(self, conn: Connection, error: MalformedError) -> None:
        figures.rpc_errors.inc(reason="malformed")
        logs.event(_log, logging.WARNING, "unusable message", reason=str(error))
        if isinstance(error, TooLargeError) and error.msgid is not None:
            with contextlib.suppress(ClosedError):
                conn.send(pack([1, error.msgid, str(error), None]))
        self.drop(conn)

    def _arm(self, conn: Connection) -> None:
        try:
            self._poller.arm(conn.fd, writing=conn.writing)
        except (OSError, ValueError):
            self.drop(conn)

    def release(self, conn: Connection) -> None:
        """See `Switchboard`."""
        if conn.closed:
            return
        if conn.buffered:
            self._handed.append((conn, None, False))
            self._waker.wake()
        else:
            self._arm(conn)

    def drop(self, conn: Connection) -> None:
        """See `Switchboard`."""
        if conn.closed:
            return
        conn.closed = True
        self._conns.pop(conn.fd, None)
        with contextlib.suppress(OSError, ValueError):
            self._poller.remove(conn.fd)
        conn.close()

    def hand_over(self, conn: Connection, call: Call, *, final: bool = False) -> None:
        """See `Switchboard`. `final`: it is for this process, whatever there is to say about it."""
        self._handed.append((conn, call, final))
        self._waker.wake()

    def answer(self, conn: Connection, msgid: int, result: bytes, *, since: float) -> None:
        """See `Switchboard`."""
        if self.frozen():
            abandoned.inc()
            self.drop(conn)
            return
        try:
            # Kong puts a connection back into its pool after a time-out. An answer that comes then would be
            # taken for another request's, and fail that one.
            if time.monotonic() - since > _STALE_AFTER_S and (conn.buffered or conn.has_unread()):
                abandoned.inc()
                conn.owes_nothing()
            else:
                conn.send(reply(msgid, result), last=self._stopping is not None)
        except ClosedError:
            self.drop(conn)
            return
        self.release(conn)

    def step_aside(self, event: Event, *, at_will: bool = False) -> bool:
        """See `Switchboard`."""
        return self._pool.step_aside(event, at_will=at_will)

    def step_back(self, event: Event) -> None:
        """See `Switchboard`."""
        self._pool.step_back(event)

    def _wake_by(self, when: float) -> None:
        if when < self._wake_at:
            self._waker.wake()

    def refuse(self, conn: Connection, msgid: int, text: str, reason: str) -> None:
        """Answer a call with an error, which is counted by its `reason`."""
        figures.rpc_errors.inc(reason=reason)
        if self.frozen():
            self.drop(conn)
            return
        try:
            conn.send(pack([1, msgid, text, None]), last=self._stopping is not None)
        except ClosedError:
            self.drop(conn)
            return
        self.release(conn)

    # -- calls -------------------------------------------------------------------------------------------

    def _handle(self, conn: Connection, call: Call, *, here: bool, final: bool = False) -> Event | None:
        try:
            if call.method in STEPS:
                self._step(conn, call)
            elif call.method == "plugin.HandleEvent":
                return self._event(conn, call, here=here, final=final)
            elif call.method in METHODS:
                self._control.put(conn, call)
            else:
                self.refuse(conn, call.msgid, "unknown method", "unknown_method")
        except InstanceError as error:
            self.refuse(conn, call.msgid, str(error), "no_instance")
        return None

    def _event(self, conn: Connection, call: Call, *, here: bool, final: bool) -> Event | None:
        argument = call.argument if isinstance(call.argument, dict) else {}
        number = argument.get("InstanceId")
        if not final and self._stopping is None and self._passing.event(conn, call):
            return None
        if not self._passing.alone and isinstance(number, int) and number not in self.instances:
            self._control.put(conn, call)  # another process may have started it
            return None
        instance = self.instances.get(number)
        phase = argument.get("EventName")
        if phase not in _PHASES or not callable(getattr(instance.plugin, phase, None)):
            self.refuse(conn, call.msgid, "unknown phase", "unknown_phase")
            return None
        now = time.monotonic()
        # An entity's own deadline is for those who wait for it; nobody does in log.
        answer_s = (self.limits.deadline_ms if phase == "log" else instance.policy.deadline_ms) / 1000
        work_s = self.limits.log_deadline_ms / 1000 if phase == "log" else answer_s
        event = Event(
            self,
            self._passing.ids.new(reject=instance.policy.rejects(phase)),
            instance,
            phase,
            conn=conn,
            msgid=call.msgid,
            now=now,
            answer_s=answer_s,
            work_s=work_s,
            turns=self._turns,
            ahead=Ahead.of(argument),
        )
        self._events[event.id] = event
        self._passing.begins(event)
        refused, run_here = self._pool.admit(event, here=here)
        if refused is not None:
            refused.evict()
        if refused is not event:
            self._deadlines.watch(("first", answer_s), event.answer_by, event)
        return event if run_here else None

    def _step(self, conn: Connection, call: Call) -> None:
        given = call.argument.get("EventId") if isinstance(call.argument, dict) else None
        number = given if isinstance(given, int) and given >= 0 else 0
        event = self._events.get(number)
        if event is not None and event.step(conn, call):
            if event.mailbox is not None:
                event.mailbox.waker.wake()
            return
        if self._passing.step(number, conn, call):
            return
        reject = self._late.take(number)
        if reject is None:
            reject = self._passing.left_behind(number)
        if reject is None:
            self.refuse(conn, call.msgid, f"event id {number} not found", "no_event")
        else:
            self.answer(conn, call.msgid, last_answer(number, reject=reject), since=time.monotonic())

    def ended(self, event: Event, outcome: Outcome) -> None:
        """See `Switchboard`."""
        if outcome in {Outcome.LATE, Outcome.OVERLOAD}:
            self._late.put(event.id, event.instance.policy.rejects(event.phase))
        self._events.pop(event.id, None)
        self._passing.ended(event)
        figures.events.inc(phase=event.phase, outcome=outcome)
        figures.event_seconds.observe(time.monotonic() - event.arrived, phase=event.phase)
        if self._stopping is not None:
            self._waker.wake()
