"""One of the watchdog's children: a process that serves, from its start to what it leaves."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.kong.gathering import Gathering
from tenantgate.kong.ledger import Ledger
from tenantgate.kong.memory import Memory
from tenantgate.kong.peers import Peer, Peers
from tenantgate.telemetry import logs

__all__ = ["HANG_S", "Child", "Heart", "Shared", "hangs"]

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
_STABLE_S: Final = 1.0  # a server that was warm and lived this long starts again at once
_PAUSES_S: Final = (0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 5.0)  # by number of failures in a row
_GRACE_S: Final = 2.0  # after SIGTERM
_STOPPED_LOOKS: Final = 5  # a second apart, at which the watchdog is stopped
_PR_SET_PDEATHSIG: Final = 1
_CLOSED_ON_START: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all processes of a plugin have from the watchdog.

    Attributes:
        memory: the instances that Kong knows.
        peers: what the processes know of one another; None where there is only one.
        gathering: what they tell of themselves; None where there is only one.
    """

    memory: Memory | None
    peers: Peers | None
    gathering: Gathering | None


class Heart:
    """The server's end of the heartbeat pipe; also an eye on a watchdog that is stopped, and so replaces nobody.

    Attributes:
        memory: what the server before this one left, and those beside it have.
        ledger: where the server notes which calls it has not answered.
        peer: its place among the processes of its plugin; None where there is only one.
        gathering: what these tell of themselves; None where there is only one.
        index: a number of its own among them.
        restarts: how many were before it.
    """

    def __init__(
        self, fd: int, parent: int, *, shared: Shared, ledger: Ledger, index: int, restarts: int
    ) -> None:
        self._fd, self._parent, self._orphan = fd, parent, False
        self._look_at, self._stopped = 0.0, 0
        self.memory, self.ledger, self.gathering = shared.memory, ledger, shared.gathering
        self.index, self.restarts = index, restarts
        self.peer = None if shared.peers is None else Peer(shared.peers, index)

    def beat(self, warm: bool) -> None:
        """Say that the server lives, and whether it takes events; without a parent it gets SIGTERM."""
        if os.getppid() != self._parent and not self._orphan:
            self._orphan = True
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._orphan and (now := time.monotonic()) >= self._look_at:
            self._look_at = now + 1.0
            self._stopped = self._stopped + 1 if _state(self._parent) == b"T" else 0
            if self._stopped > _STOPPED_LOOKS:
                os.kill(self._parent, signal.SIGKILL)  # Kong starts another
        with contextlib.suppress(OSError):  # full: the parent is slow, not dead
            os.write(self._fd, _WARM if warm else _COLD)


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


def _state(pid: int) -> bytes:
    """What a process does, where ``/proc`` tells it (proc(5), field 3 of ``stat``): ``T`` if it is stopped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return b""


def _used_s(pid: int) -> float | None:
    """Processor time of a process so far, where ``/proc`` tells it (proc(5): fields 14 and 15 of ``stat``)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


class Child:
    """A place for a serving process: at most one lives in it at a time.

    Attributes:
        ledger: what the process has not answered.
        failures: how many in a row ended early.
        was_warm: whether the last one took events.
    """

    def __init__(self, index: int, shared: Shared) -> None:
        self._index, self._shared = index, shared
        self.ledger = Ledger()
        self.failures = 0
        self.was_warm = False
        self._pid = 0
        self._beats = -1
        self._restarts = -1
        self._started = self._last_beat = self._start_at = 0.0
        self._ending_since: float | None = None
        self._used_before: float | None = None
        self._is_stopped = False
        self._reason = ""

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self._pid != 0

    @property
    def warm(self) -> bool:
        """Whether there is one that takes events."""
        return self.alive and self.was_warm

    def due(self, now: float) -> bool:
        """Whether another process is to be started now."""
        return not self.alive and now >= self._start_at

    def filenos(self) -> list[int]:
        """What tells that there is something to `look` at."""
        return [self.ledger.fileno(), *([self._beats] if self._beats >= 0 else [])]

    def start(self, serve: Callable[[Heart], int], leave: Callable[[], None]) -> None:
        """Fork a process that calls `leave`, to forget what is the watchdog's alone, and then `serve`."""
        self._restarts += 1
        beats, heart = os.pipe()
        os.set_blocking(beats, False)
        os.set_blocking(heart, False)
        me = os.getpid()
        self._pid = os.fork()
        if self._pid:
            os.close(heart)
            self._beats = beats
            self._started = self._last_beat = time.monotonic()
            self._ending_since, self._used_before, self._reason = None, None, ""
            self.was_warm = self._is_stopped = False
            return
        status = 1
        try:
            os.close(beats)
            signal.set_wakeup_fd(-1)
            for number in _CLOSED_ON_START:
                signal.signal(number, signal.SIG_DFL)
            leave()
            _die_with_parent(me)
            status = serve(
                Heart(
                    heart,
                    me,
                    shared=self._shared,
                    ledger=self.ledger,
                    index=self._index,
                    restarts=self._restarts,
                )
            )
        except BaseException as error:  # noqa: BLE001 - the child must never return into the parent's code
            logs.event(_log, logging.CRITICAL, "server failed", **logs.describe(error))
        finally:
            with contextlib.suppress(OSError):  # a worker of Kong's that has ended reads no logs
                sys.stderr.flush()
            os._exit(status)

    def end(self, now: float) -> None:
        """Ask the process to end; it is killed if it doesn't."""
        if self.alive and self._ending_since is None:
            self._ending_since = now
            os.kill(self._pid, signal.SIGTERM)

    def look(self, now: float, *, lost_s: float, rejects: Callable[[Any], bool]) -> bool:
        """See how it goes, and kill it if it hangs; whether it has just ended.

        Args:
            now: the time.
            lost_s: for how long the watchdog didn't run; that says nothing about the child.
            rejects: see `Ledger.settle`.
        """
        self.ledger.keep_up()
        if not self.alive:
            return False
        if self._beats >= 0 and self._drain_beats():
            self._last_beat, self._used_before = now, None
        elif self._used_before is None:
            self._used_before = _used_s(self._pid)
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if pid and os.WIFCONTINUED(status):
            self._is_stopped = False
        elif pid and os.WIFSTOPPED(status):
            self._is_stopped = True
        elif pid:
            self._bury(status, now, rejects)
            return True
        self._last_beat += lost_s
        if self._is_stopped and not lost_s and not self._reason:
            self._kill("stopped")  # not with the watchdog: who has stopped both lets both go on
        late = self._ending_since is not None and now - self._ending_since > _GRACE_S
        if not self._reason and (late or self._hangs(now - self._last_beat)):
            self._kill("hung")
        return False

    def _kill(self, reason: str) -> None:
        self._reason = reason
        os.kill(self._pid, signal.SIGKILL)

    def _hangs(self, silent_s: float) -> bool:
        if not self.was_warm:
            return silent_s > _START_S
        if silent_s <= HANG_S:
            return False
        used, before = _used_s(self._pid), self._used_before
        return hangs(silent_s, None if used is None or before is None else used - before)

    def _drain_beats(self) -> bool:
        try:
            beats = os.read(self._beats, 4096)
        except BlockingIOError:
            return False
        self.was_warm = self.was_warm or _WARM in beats
        if not beats:
            os.close(self._beats)
            self._beats = -1
        return True

    def _bury(self, status: int, now: float, rejects: Callable[[Any], bool]) -> None:
        if self._beats >= 0:
            os.close(self._beats)
            self._beats = -1
        self._pid = 0
        peers = self._shared.peers
        passed = [] if peers is None else peers.ended(self._index)
        answered = self.ledger.settle(rejects, silent_s=now - self._last_beat, passed=passed)
        stable = self.was_warm and now - self._started > _STABLE_S
        self.failures = 0 if stable else self.failures + 1
        self._start_at = now + _PAUSES_S[min(self.failures, len(_PAUSES_S) - 1)]
        if self._ending_since is None:
            logs.event(
                _log,
                logging.ERROR,
                "server ended, starting another",
                status=os.waitstatus_to_exitcode(status),
                reason=self._reason or "exited",
                answered=answered,
            )


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        # Not SIGKILL: Kong kills the parent when it reloads, ready or not the next server (`launcher.Leaving`).
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)
