"""One phase of one request, from HandleEvent until Kong has its last answer.

At each moment the ball is with us (Kong waits for an answer on one connection) or with Kong (it carries out
a PDK call). Every change of that is made under the event's lock by whoever comes first: the worker that runs
the phase, or the warden at the deadline. So each of Kong's calls gets exactly one answer.
"""

from __future__ import annotations

import enum
import math
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from tenantgate.checkpoints import checked_by
from tenantgate.kong.ahead import Ahead
from tenantgate.kong.connection import ClosedError, Connection
from tenantgate.kong.fairness import Turn, Turns
from tenantgate.kong.pdk import TERMINAL, Abandoned, ServedKong
from tenantgate.kong.policy import UNAVAILABLE
from tenantgate.kong.poller import Waker
from tenantgate.kong.wire import Call, MalformedError, pack, reply
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.kong.instances import Instance

__all__ = ["Event", "Mailbox", "Outcome", "State", "Switchboard", "last_answer"]

_EXIT: Final = "kong.response.exit"
_CONSUMER: Final = "kong.client.get_consumer"
_SOON_S: Final = 0.002  # until when an answer of Kong's mostly comes
_PATIENCE_S: Final = 0.02  # one that takes longer waits for somebody else, as for the client's body

_wasted: Final = metrics.counter(
    "tenantgate_cpu_after_answer_seconds_total",
    "Processor time of phases that went on after their request had its answer.",
    ("phase",),
)


class State(enum.Enum):
    """Who has the ball."""

    QUEUED = "queued"  # Kong waits, no worker has begun
    RUNNING = "running"  # Kong waits, a worker runs the phase
    WAITING = "waiting"  # Kong carries out a PDK call
    DONE = "done"  # Kong has its last answer, or will get none


# A member of an enum by its class takes ten times as long, and each call of Kong's asks a dozen times.
_QUEUED, _RUNNING, _WAITING, _DONE = State.QUEUED, State.RUNNING, State.WAITING, State.DONE


class Outcome(enum.StrEnum):
    """How an event ended; a label of the metrics."""

    RETURNED = "returned"
    ANSWERED = "answered"
    FAILED = "failed"
    LATE = "late"
    DETACHED = "detached"  # a log phase that goes on after Kong was answered
    OVERLOAD = "overload"


class Switchboard(Protocol):
    """What an event needs of the server."""

    def release(self, conn: Connection) -> None:
        """Listen again on a connection that carries no call."""

    def drop(self, conn: Connection) -> None:
        """Close a connection whose other side is gone."""

    def hand_over(self, conn: Connection, call: Call) -> None:
        """Handle a call that a worker read while it waited for another."""

    def answer(self, conn: Connection, msgid: int, result: bytes, *, since: float) -> None:
        """Send the packed result of the call in progress, and release its connection."""

    def ended(self, event: Event, outcome: Outcome) -> None:
        """Forget an event and count it."""

    def frozen(self) -> bool:
        """Whether the process has just been stopped for so long that Kong gave up what was in progress."""

    def step_aside(self, event: Event, *, at_will: bool = False) -> bool:
        """Let another thread work instead of the event's, which will wait; False: too many do for one `at_will`."""

    def step_back(self, event: Event) -> None:
        """The event's thread goes on."""


class Mailbox:
    """How a worker waits for its Step: on the connection of its last call, and for another thread's wake."""

    def __init__(self) -> None:
        """For the thread that makes it."""
        self.waker = Waker()
        self._poll = select.poll()
        self._poll.register(self.waker.fileno(), select.POLLIN)
        clock_of = getattr(time, "pthread_getcpuclockid", None)  # macOS lacks it
        self._cpu_clock: int | None = None if clock_of is None else clock_of(threading.get_ident())

    def cpu_s(self) -> float | None:
        """Processor time of the thread so far, where the system tells; from any thread."""
        if self._cpu_clock is None:
            return None
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:  # it has ended
            return None

    def wait(self, conn: Connection | None, timeout_s: float) -> bool:
        """Wait for input; whether `conn` has something (or is gone)."""
        timeout_ms = max(0.0, timeout_s) * 1000
        if conn is None:
            ready = self._poll.poll(timeout_ms)
        else:
            self._poll.register(conn.fd, select.POLLIN | select.POLLOUT if conn.writing else select.POLLIN)
            try:
                ready = self._poll.poll(timeout_ms)
            finally:
                self._poll.unregister(conn.fd)
        mine = False
        for fd, _ in ready:
            if conn is not None and fd == conn.fd:
                mine = True
            else:
                self.waker.drain()
        return mine

    def close(self) -> None:
        """Give the descriptors back."""
        self.waker.close()


def last_answer(event_id: int, *, reject: bool, shared: Mapping[str, Any] | None = None) -> bytes:
    """A packed result that ends a phase: go on without the plugin, or answer the client with 503.

    `shared`: what goes with it (`tenantgate.kong.ahead`).
    """
    answer: dict[str, Any] = {
        "EventId": event_id,
        "Data": {"Method": _EXIT, "Args": UNAVAILABLE} if reject else "ret",
    }
    if shared:
        answer["Shared"] = shared
    return pack(answer)


class Event:
    """One phase of one request; also the channel of kong-pdk's object, `put` and `get`.

    Attributes:
        answer_by: when Kong must have an answer to a call in progress (`time.monotonic`).
        work_by: when the work must be over; later than `answer_by` in the log phase only.
        ahead: see `Channel`.
    """

    __slots__ = (
        "_answer_s",
        "_asked",
        "_board",
        "_conn",
        "_cpu_at_answer",
        "_data",
        "_dropped",
        "_held",
        "_lock",
        "_long",
        "_msgid",
        "_since",
        "_turns",
        "ahead",
        "answer_by",
        "arrived",
        "id",
        "instance",
        "mailbox",
        "pdk_calls",
        "phase",
        "state",
        "turn",
        "work_by",
    )

    def __init__(
        self,
        board: Switchboard,
        number: int,
        instance: Instance,
        phase: str,
        *,
        conn: Connection,
        msgid: int,
        now: float,
        answer_s: float,
        work_s: float,
        turns: Turns,
        ahead: Ahead | None = None,
    ) -> None:
        self.ahead = ahead
        self._board, self.id, self.instance, self.phase = board, number, instance, phase
        self._lock = threading.Lock()
        self._conn: Connection | None = conn  # carries the call in progress, while the ball is with us
        self._msgid = msgid
        self._since = now  # when the call in progress came
        self._held: Connection | None = None  # where our last PDK call went; the Step mostly comes there
        self._data: tuple[Any, Any] = (None, None)
        self.state = _QUEUED
        self.arrived = now
        self._answer_s = answer_s
        self.answer_by = now + answer_s
        self.work_by = now + work_s
        self.pdk_calls = 0
        self.mailbox: Mailbox | None = None
        self._asked = ""  # the PDK method that Kong was asked last
        self._long = False  # it had to give way, and so has stepped aside
        self._dropped = False  # Kong got an answer, and it wasn't the phase's
        self._cpu_at_answer: float | None = None
        self._turns = turns
        self.turn = Turn(instance.owner, background=phase == "log")
        conn.owes(msgid, reject=instance.policy.rejects(phase))

    @property
    def over(self) -> bool:
        """Whether Kong has its last answer."""
        return self.state is _DONE

    # -- the worker's side -------------------------------------------------------------------------------

    def run(self, mailbox: Mailbox) -> None:
        """Run the phase and see to it that Kong gets an answer, whatever happens."""
        with self._lock:
            if self.state is not _QUEUED:
                return
            self.state, self.mailbox = _RUNNING, mailbox
        method: Callable[[Any], object] = getattr(self.instance.plugin, self.phase)
        self._turns.begin(self.turn)
        try:
            with checked_by(self.checkpoint):
                method(ServedKong(self, self.work_by))
        finally:
            self._turns.end(self.turn)
            if self._long:
                self._board.step_back(self)

    def checkpoint(self) -> None:
        """Let others go first where they should.

        Raises:
            Abandoned: the event is over, or its time is.
        """
        if self._dropped or time.monotonic() >= self.work_by:
            raise Abandoned
        going = self._turns.may_go_on(self.turn)
        if not self._long and (self.turn.holds or not going):
            self._long = True  # until it ends: others need a thread, whether it waits or works
            self._board.step_aside(self)
        if going:
            return
        if self._dropped:  # before `go` was cleared
            raise Abandoned
        if not self.turn.go.wait(max(0.0, self.work_by - time.monotonic())) or self._dropped:
            raise Abandoned

    def put(self, message: Any) -> None:
        """Send a PDK call.

        Raises:
            Abandoned: the event is over.
            TypeError, ValueError, OverflowError: an argument can't be sent.
        """
        method = message["Method"]
        args = _sendable(method, message["Args"])
        # Packed before the ball is given away: a bad argument is the plugin's error.
        answer: dict[str, Any] = {"EventId": self.id, "Data": {"Method": method, "Args": args}}
        if method in TERMINAL and self.ahead is not None and (told := self.ahead.told()):
            answer["Shared"] = told
        result = pack(answer)
        with self._lock:
            if self.state is not _RUNNING or self._conn is None:
                raise Abandoned
            conn, msgid, since = self._conn, self._msgid, self._since
            self._conn = None
            self._asked = method
            self.pdk_calls += 1
            if method in TERMINAL:
                self.state = _DONE
            else:
                self.state = _WAITING
                self._held = conn
        if method in TERMINAL:
            self._board.answer(conn, msgid, result, since=since)
            self._board.ended(self, Outcome.ANSWERED)
            return
        try:
            if self._board.frozen():
                raise ClosedError  # noqa: TRY301 - as if Kong had closed it, which it should have
            conn.send(reply(msgid, result))
        except ClosedError:
            self._held = None
            self._board.drop(conn)

    def get(self) -> tuple[Any, Any]:
        """Wait for the Step.

        Raises:
            Abandoned: it did not come in time.
        """
        mailbox = self.mailbox
        if mailbox is None:
            raise Abandoned
        asked = time.monotonic()
        if not self._answered(mailbox, asked + _SOON_S):
            self._turns.away(self.turn, True)
            try:
                if not self._answered(mailbox, asked + _PATIENCE_S):
                    self._wait_for_long(mailbox)
            finally:
                self._turns.away(self.turn, False)
        data, error = self._take()
        if self._asked == _CONSUMER and isinstance(data, Mapping):
            found = data.get("custom_id") or data.get("id")
            if isinstance(found, str | bytes) and found:
                self.belongs_to(found if isinstance(found, str) else found.decode("utf-8", "surrogateescape"))
        self.checkpoint()
        return data, error

    def _wait_for_long(self, mailbox: Mailbox) -> None:
        if not self._long:
            self._board.step_aside(self)
        try:
            self._answered(mailbox, math.inf)
        finally:
            if not self._long:
                self._board.step_back(self)

    @contextmanager
    def aside(self) -> Iterator[bool]:
        """A block in which the phase may wait for somebody else than Kong, and calls no checkpoint; whether it may."""
        away = self._long or self._board.step_aside(self, at_will=True)
        self._turns.away(self.turn, away)
        try:
            yield away
        finally:
            self._turns.away(self.turn, False)
            if away and not self._long:
                self._board.step_back(self)

    def _answered(self, mailbox: Mailbox, until: float) -> bool:
        """Wait for the Step until then; whether it came."""
        while self.state is not _RUNNING:
            now = time.monotonic()
            if now >= self.work_by:
                self.expire(now)
            if self.state is _DONE:
                self._let_go()
                raise Abandoned
            if now >= until:
                return False
            held = self._held
            if mailbox.wait(held, min(until, self.work_by) - now) and held is not None:
                self._read(held)
        return True

    def belongs_to(self, tenant: str) -> None:
        """It is known now whose the event is: its time counts as this tenant's."""
        key = f"tenant {tenant}"
        self.instance.shared.seen(key)
        if key != self.turn.key:
            self._turns.rename(self.turn, key)

    def _read(self, conn: Connection) -> None:
        """Something came on the connection of our last call: mostly our Step."""
        try:
            if conn.writing:
                conn.flush()
            call = conn.receive()
        except (MalformedError, ClosedError):
            self._held = None
            self._board.drop(conn)
            return
        if call is None:
            return
        self._held = None
        argument = call.argument
        mine = call.method.startswith("plugin.Step") and isinstance(argument, dict)
        if not mine or argument.get("EventId") != self.id or not self.step(conn, call):
            self._board.hand_over(conn, call)

    def _take(self) -> tuple[Any, Any]:
        self._let_go()
        data, self._data = self._data, (None, None)
        return data

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._board.release(held)

    def finish(self, *, failed: bool) -> None:
        """The phase is over: answer Kong, unless somebody did."""
        with self._lock:
            before, conn = self.state, self._conn
            self.state, self._conn = _DONE, None
            msgid, since = self._msgid, self._since
        self._let_go()
        if self._cpu_at_answer is not None:
            _wasted.inc(max(0.0, time.thread_time() - self._cpu_at_answer), phase=self.phase)
        if before is _DONE:
            return
        if conn is not None:
            self._board.answer(conn, msgid, self.last_answer(failed=failed), since=since)
        self._board.ended(self, Outcome.FAILED if failed else Outcome.RETURNED)

    # -- everybody's side --------------------------------------------------------------------------------

    def step(self, conn: Connection, call: Call) -> bool:
        """Take Kong's answer to the PDK call; False if the event does not wait for one (any more)."""
        argument = call.argument
        data = argument.get("Data")
        is_error = call.method == "plugin.StepError"
        with self._lock:
            if self.state is not _WAITING:
                return False
            self.state = _RUNNING
            self._conn, self._msgid, self._since = conn, call.msgid, time.monotonic()
            self._data = (None, data) if is_error else (data, None)
        conn.owes(call.msgid, reject=self.instance.policy.rejects(self.phase))
        return True

    def expire(self, now: float) -> float | None:
        """A deadline has come: answer Kong if it waits. Gives the next deadline, if there is one."""
        with self._lock:
            before, conn = self.state, self._conn
            if before is _DONE:
                return None
            if before is _WAITING and now < self.work_by:
                return min(now + self._answer_s, self.work_by)  # a log phase; Kong doesn't wait for us now
            detached = before is _RUNNING and now < self.work_by
            if detached:
                self.state = _DONE
                self._conn = None
            else:
                self._drop()
            msgid, since = self._msgid, self._since
        if conn is not None:
            self._board.answer(conn, msgid, self.last_answer(failed=True), since=since)
        self._board.ended(self, Outcome.DETACHED if detached else Outcome.LATE)
        self._wake(stop=not detached)
        return None

    def evict(self) -> None:
        """There is no room for it: end it as the plugin's entity wants failures taken."""
        with self._lock:
            if self.state is _DONE:
                return
            conn = self._conn
            self._drop()
            msgid, since = self._msgid, self._since
        if conn is not None:
            self._board.answer(conn, msgid, self.last_answer(failed=True), since=since)
        self._board.ended(self, Outcome.OVERLOAD)
        self._wake(stop=True)

    def _drop(self) -> None:
        """Under the lock: from here on nobody needs the phase's work."""
        self.state, self._conn, self._dropped = _DONE, None, True
        if self.mailbox is not None:
            self._cpu_at_answer = self.mailbox.cpu_s()

    def _wake(self, *, stop: bool) -> None:
        if stop:
            self._turns.stop(self.turn)
        if self.mailbox is not None:
            self.mailbox.waker.wake()

    def last_answer(self, *, failed: bool) -> bytes:
        """What ends the phase on Kong's side, packed."""
        told = None if failed or self.ahead is None else self.ahead.told()
        return last_answer(self.id, reject=failed and self.instance.policy.rejects(self.phase), shared=told)


def _sendable(method: str, given: Any) -> list[Any]:
    args: list[Any] = list(given)
    if method == _EXIT and len(args) > 2 and args[1] is None:
        args[1] = ""  # Lua takes a nil for the end of the list, and would drop the headers
    return args
