"""A small parent that keeps a plugin's servers alive.

Kong replaces a plugin server that ends, but not one that hangs or is stopped: each request then waits for
Kong's read time-out. So the process that Kong starts is this watchdog. It owns the listening socket and forks
the servers, one or more, which inherit it; while there is no server, or a new one starts, Kong's connections wait in
the socket's backlog instead of being refused. (Refused, Kong would go on without the plugin at once, or answer
500 if it has no instance yet, as right after its start; waiting, the request is served soon after.)
Only while all servers crash again and again are connections closed at once, so that requests need not wait.

When Kong reloads, the new worker starts a new one of these while the old still serves. The new one takes the path
once a server of its own is warm. Until then the old one serves on, though its worker has ended, for two minutes at most
(`launcher.Leaving`; without a watchdog, which Kong kills). So no request meets a path where nobody listens, and hardly
one a server that can't answer yet.

What Kong has configured outlives the servers, too (`memory.Memory`), so Kong need not begin anew with the next.
So do its connections (`ledger.Ledger`): calls that a server had not answered get what `on_error` says.

What all servers load the watchdog loads before it forks them: one start takes the processor time of one, also with
several servers, their memory is shared, and who takes another's place does so in a fraction of that time.

A server beats through a pipe every 0.1 s. It is killed and replaced when it is stopped (the kernel tells)
or, once it was warm, hangs (`child.hangs`), while the others serve on. If the watchdog dies they serve until its
successor's do (`launcher.Leaving`); if it is stopped for some seconds, one of them kills it (`child.Heart`).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tenantgate.kong.child import Child, Heart, Shared
from tenantgate.kong.gathering import Gathering
from tenantgate.kong.listen import Succession, UnixListener
from tenantgate.kong.memory import Memory
from tenantgate.kong.peers import Peers
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.poller import Waker

__all__ = ["supervise"]

_TICK_S: Final = 0.1
_PATIENCE: Final = (
    2  # failures in a row before a server that never gets warm has to do without what was there
)


def supervise(
    serve: Callable[[Heart], int],
    listeners: Sequence[UnixListener],
    processes: int = 1,
    *,
    load: Callable[[], object] = lambda: None,
) -> int:
    """Run ``serve(heart)`` in `processes` children until SIGTERM or SIGINT, or until the parent dies.

    `serve` gives the exit status; the first of `listeners` is the one it serves. `load` is called before any of them is
    there, and must leave no thread of Python's behind. Must be called before any thread is started.
    """
    return _Supervisor(serve, listeners, processes).run(load)


class _Supervisor:
    def __init__(
        self, serve: Callable[[Heart], int], listeners: Sequence[UnixListener], processes: int
    ) -> None:
        self._serve, self._listeners, self._listener = serve, listeners, listeners[0].sock
        self._parent = os.getppid()
        self._waker = Waker()
        several = processes > 1
        self._shared = Shared(
            Memory.new(), Peers(processes) if several else None, Gathering(processes) if several else None
        )
        self._children = [Child(index, self._shared) for index in range(processes)]
        self._ending = False
        self._succession = Succession(listeners)

    def run(self, load: Callable[[], object]) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.write_fileno(), warn_on_full_buffer=False)
        self._publish()
        load()
        gc.collect()
        gc.freeze()  # so that the collector of no server writes to what they share
        before = time.monotonic()
        while not self._ending or any(child.alive for child in self._children):
            now = time.monotonic()
            if not self._ending:
                for child in self._children:
                    if child.due(now):
                        child.start(self._serve, self._waker.close)
            self._wait()
            now, before = time.monotonic(), now
            self._look(now, lost_s=max(0.0, now - before - 2 * _TICK_S))
        return 0

    def _end(self, _number: int, _frame: object) -> None:
        self._ending = True

    def _wait(self) -> None:
        """Until there is something to see, for a tick at most."""
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        for child in self._children:
            for fd in child.filenos():
                poll.register(fd, select.POLLIN)
        crashing = not any(child.alive for child in self._children) and not self._ending
        if crashing:
            self._listener.setblocking(False)
            poll.register(self._listener.fileno(), select.POLLIN)
        ready = {fd for fd, _ in poll.poll(_TICK_S * 1000)}
        self._waker.drain()
        if crashing and self._listener.fileno() in ready:
            try:
                self._listener.accept()[0].close()  # nobody has to wait for us meanwhile
            except OSError:
                return

    def _look(self, now: float, *, lost_s: float) -> None:
        if os.getppid() != self._parent:
            self._ending = True
        elif self._ending and any(child.warm for child in self._children) and self._hands_over():
            # Kong starts the next one only after our end. The servers serve until that can (`launcher.Leaving`).
            sys.stderr.flush()
            os._exit(0)
        leaves = self._ending and not self._succession.needed()
        for child in self._children:
            if leaves:
                child.end(now)
            if child.look(now, lost_s=lost_s, rejects=self._rejects):
                self._tidy(child)
        self._publish()

    def _hands_over(self) -> bool:
        return self._succession.by_nginx and self._succession.needed()

    def _tidy(self, child: Child) -> None:
        """One has ended: leave its successor what it needs to know, and no more."""
        memory = self._shared.memory
        if memory is None:
            return
        if child.was_warm or child.failures <= _PATIENCE:
            memory.compact()
        elif not any(other.warm for other in self._children):
            memory.forget()  # perhaps it is one of these that the servers can't bear

    def _publish(self) -> None:
        """Take the paths, unless somebody serves there and no server of ours can yet."""
        for listener in self._listeners:
            if not listener.published and (
                any(child.warm for child in self._children) or not listener.served()
            ):
                listener.publish()

    def _rejects(self, event: Any) -> bool:
        """Whether an event that nobody read is answered with 503."""
        if self._shared.memory is None or not isinstance(event, dict):
            return False
        config = self._shared.memory.read().get(event.get("InstanceId", -1))
        values = config if isinstance(config, dict) else {}
        return PhasePolicy.from_values(values, PhasePolicy()).rejects(str(event.get("EventName")))
