"""A small parent that keeps a plugin server alive.

Kong replaces a plugin server that ends, but not one that hangs or is stopped: each request then waits for
Kong's read time-out. So the process that Kong starts is this watchdog. It owns the listening socket and forks
the server, which inherits it; while there is no server, or a new one starts, Kong's connections wait in the
socket's backlog instead of being refused. (Refused, Kong would go on without the plugin at once, or answer
500 if it has no instance yet, as right after its start; waiting, the request is served soon after.)
Only while the server crashes again and again are connections closed at once, so that requests need not wait.

When Kong reloads, the new worker starts a new one of these while the old still serves. The new one takes the path
once its server is warm, or gets it from the old one, which goes with its worker. So no request meets a path where
nobody listens, and hardly one a server that can't answer yet.

What Kong has configured outlives the server, too (`instances.Memory`), so Kong need not begin anew with the next.
So do its connections (`ledger.Ledger`): calls that the server had not answered get what `on_error` says.

The server beats through a pipe every 0.1 s. It is killed and replaced when it is stopped (the kernel tells)
or, once it was warm, hangs (`hangs`). Both processes end when their parent does.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tenantgate.kong.instances import Memory
from tenantgate.kong.ledger import Ledger
from tenantgate.kong.listen import UnixListener
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.poller import Waker
from tenantgate.telemetry import logs

__all__ = ["HANG_S", "Heart", "hangs", "supervise"]

_log: Final = logging.getLogger("tenantgate.supervisor")

HANG_S: Final = 1.0
_SPINS_S: Final = 1.6  # it may yet come back; after Kong's 2 s what it does would be in vain
_STARVED_S: Final = 5.0
_BUSY_S: Final = 0.5  # a thread that holds Python's lock, and so the heartbeat, for so long
_ASLEEP: Final = 0.07
"""Of a processor. A hung server's threads wake up 200 times a second each, to ask for Python's lock: .02 to .04 with
eleven of them. One that a busy machine starves gets more than this in a second, or has nothing to do."""
_START_S: Final = 60.0  # until it is warm: importing libraries and loading models may hold Python's lock
_COLD: Final = b"c"
_WARM: Final = b"w"
_TICK_S: Final = 0.1
_STABLE_S: Final = 1.0  # a server that was warm and lived this long starts again at once
_PAUSES_S: Final = (0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 5.0)  # by number of failures in a row
_PATIENCE: Final = (
    2  # failures in a row before a server that never gets warm has to do without what was there
)
_GRACE_S: Final = 2.0  # after SIGTERM
_PR_SET_PDEATHSIG: Final = 1


class Heart:
    """The server's end of the heartbeat pipe.

    Attributes:
        memory: what the server before this one left.
        ledger: where the server notes which calls it has not answered.
    """

    def __init__(
        self, fd: int, parent: int, memory: Memory | None = None, ledger: Ledger | None = None
    ) -> None:
        self._fd, self._parent = fd, parent
        self.memory, self.ledger = memory, ledger

    def beat(self, warm: bool) -> None:
        """Say that the server lives, and whether it takes events; ends the process with its parent."""
        if os.getppid() != self._parent:
            os._exit(0)
        with contextlib.suppress(OSError):  # full: the parent is slow, not dead
            os.write(self._fd, _WARM if warm else _COLD)


def supervise(serve: Callable[[Heart, int], int], listeners: Sequence[UnixListener]) -> int:
    """Run ``serve(heart, restarts)`` in child processes until SIGTERM or SIGINT, or until the parent dies.

    `serve` gives the exit status; the first of `listeners` is the one it serves. Must be called before any thread is
    started.
    """
    return _Supervisor(serve, listeners).run()


def hangs(silent_s: float, used_s: float | None) -> bool:
    """Whether a server hangs that gave no sign for `silent_s` and `used_s` of processor time, if that is known.

    It does if it sleeps, or spins for longer than any bounded piece of work takes. On a machine with too much to do
    a server that lives is silent, too; it gets some processor time, but little. To replace it then would only make
    more to do.
    """
    if silent_s <= HANG_S:
        return False
    if used_s is None or used_s <= _ASLEEP * silent_s:
        return True
    return silent_s > (_STARVED_S if used_s < _BUSY_S else _SPINS_S)


def _used_s(pid: int) -> float | None:
    """Processor time of a process so far, where ``/proc`` tells it (proc(5): fields 14 and 15 of ``stat``)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


class _Supervisor:
    def __init__(self, serve: Callable[[Heart, int], int], listeners: Sequence[UnixListener]) -> None:
        self._serve, self._listeners, self._listener = serve, listeners, listeners[0].sock
        self._parent = os.getppid()
        self._waker = Waker()
        self._memory = Memory.new()
        self._ledger = Ledger()
        self._ending = 0  # the signal that ends it all
        self._child = 0
        self._beats = -1
        self._restarts = -1
        self._failures = 0
        self._was_warm = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.write_fileno(), warn_on_full_buffer=False)
        self._publish()
        while True:
            started = time.monotonic()
            self._fork()
            self._watch()
            if self._over():
                return 0
            if self._memory is not None:
                if self._was_warm or self._failures < _PATIENCE:
                    self._memory.compact()
                else:
                    self._memory.forget()  # perhaps it is one of these that the server can't bear
            stable = self._was_warm and time.monotonic() - started > _STABLE_S
            self._failures = 0 if stable else self._failures + 1
            self._pause(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
            if self._over():
                return 0

    def _over(self) -> bool:
        return self._ending != 0

    def _end(self, number: int, _frame: object) -> None:
        self._ending = number

    def _publish(self) -> None:
        """Take the paths, unless somebody serves there and our server can't yet."""
        for listener in self._listeners:
            if not listener.published and (self._was_warm or not listener.served()):
                listener.publish()

    def _fork(self) -> None:
        self._restarts += 1
        beats, heart = os.pipe()
        os.set_blocking(beats, False)
        os.set_blocking(heart, False)
        me = os.getpid()
        self._child = os.fork()
        if self._child:
            os.close(heart)
            self._beats = beats
            return
        status = 1
        try:
            os.close(beats)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._waker.close()
            _die_with_parent(me)
            status = self._serve(Heart(heart, me, self._memory, self._ledger), self._restarts)
        except BaseException as error:  # noqa: BLE001 - the child must never return into the parent's code
            logs.event(_log, logging.CRITICAL, "server failed", **logs.describe(error))
        finally:
            with contextlib.suppress(OSError):  # a worker of Kong's that has ended reads no logs
                sys.stderr.flush()
            os._exit(status)

    def _watch(self) -> None:
        """Until the child is gone."""
        last_beat, ending_since = time.monotonic(), 0.0
        self._was_warm = False
        poll = select.poll()
        poll.register(self._beats, select.POLLIN)
        poll.register(self._waker.fileno(), select.POLLIN)
        poll.register(self._ledger.fileno(), select.POLLIN)
        reason = ""
        used_before: float | None = None
        while True:
            before = time.monotonic()
            ready = {fd for fd, _ in poll.poll(_TICK_S * 1000)}
            now = time.monotonic()
            self._waker.drain()
            self._ledger.keep_up()
            if self._beats in ready:
                if not self._drain_beats():
                    poll.unregister(self._beats)
                last_beat, used_before = now, None
                self._publish()
            elif used_before is None:
                used_before = _used_s(self._child)
            if os.getppid() != self._parent:
                self._ending = self._ending or signal.SIGTERM
            pid, status = os.waitpid(self._child, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                reason = "stopped"
                os.kill(self._child, signal.SIGKILL)
            elif pid:
                self._buried(status, reason, now - last_beat)
                return
            # Time in which this process itself did not run says nothing about the child.
            last_beat += max(0.0, now - before - 2 * _TICK_S)
            if self._ending and not ending_since:
                ending_since = now
                os.kill(self._child, signal.SIGTERM)
            late = ending_since and now - ending_since > _GRACE_S
            if not reason and (late or self._hangs(now - last_beat, used_before)):
                reason = "hung"
                os.kill(self._child, signal.SIGKILL)

    def _hangs(self, silent_s: float, used_before: float | None) -> bool:
        if not self._was_warm:
            return silent_s > _START_S
        if silent_s <= HANG_S:
            return False
        used = _used_s(self._child)
        return hangs(silent_s, None if used is None or used_before is None else used - used_before)

    def _drain_beats(self) -> bool:
        try:
            beats = os.read(self._beats, 4096)
        except BlockingIOError:
            return True
        self._was_warm = self._was_warm or _WARM in beats
        return bool(beats)

    def _buried(self, status: int, reason: str, silent_s: float) -> None:
        os.close(self._beats)
        self._child = 0
        answered = self._ledger.settle(self._rejects, silent_s=silent_s)
        if not self._ending:
            code = os.waitstatus_to_exitcode(status)
            logs.event(
                _log,
                logging.ERROR,
                "server ended, starting another",
                status=code,
                reason=reason or "exited",
                answered=answered,
            )

    def _rejects(self, event: Any) -> bool:
        """Whether an event that nobody read is answered with 503."""
        if self._memory is None or not isinstance(event, dict):
            return False
        config = self._memory.read().get(event.get("InstanceId", -1))
        values = config if isinstance(config, dict) else {}
        return PhasePolicy.from_values(values, PhasePolicy()).rejects(str(event.get("EventName")))

    def _pause(self, pause_s: float) -> None:
        """Wait out a crash loop; nobody has to wait for us meanwhile."""
        until = time.monotonic() + pause_s
        self._listener.setblocking(False)
        while (rest := until - time.monotonic()) > 0 and not self._ending:
            ready, _, _ = select.select(
                [self._listener.fileno(), self._waker.fileno()], [], [], min(rest, _TICK_S)
            )
            self._waker.drain()
            self._publish()
            if os.getppid() != self._parent:
                self._ending = signal.SIGTERM
            if self._listener.fileno() in ready:
                try:
                    self._listener.accept()[0].close()
                except OSError:
                    continue


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
