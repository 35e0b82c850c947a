"""What the processes of one plugin tell whoever of them is asked for health and metrics.

Each answers on a socket of its own, a message of JSON for each connection end that it is sent. The last answer of
each process lies in a file that all share: from there come the counts of one that has ended, so that no counter goes
back, and of one that doesn't answer in time.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from tenantgate.telemetry import metrics
from tenantgate.telemetry.tenants import MOST_TENANTS

__all__ = ["Gathering", "Status"]

_TIMEOUT_S: Final = 0.5
_CHUNK: Final = 1 << 16

Status = dict[str, Any]
"""What a process tells of itself: ``pid``, ``ready``, ``reason`` … and its ``metrics``."""


class Gathering:
    """Made by the watchdog, before it forks, for `count` processes."""

    def __init__(self, count: int) -> None:
        self._asking = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        for _, end in self._asking:
            end.setblocking(False)
        self._last = os.memfd_create("figures")
        self._lock = threading.Lock()

    def answer(self, index: int, status: Callable[[], Status]) -> None:
        """Tell the other processes what `status` says, from a thread of this call's own."""

        def loop() -> None:
            while True:
                with contextlib.suppress(OSError):
                    _, fds, _, _ = socket.recv_fds(self._asking[index][0], 1, 1)
                    for fd in fds:
                        with socket.socket(fileno=fd) as sock:
                            sock.settimeout(_TIMEOUT_S)
                            sock.sendall(json.dumps(status()).encode())

        threading.Thread(target=loop, name="figures", daemon=True).start()

    def all(self, index: int, own: Status) -> list[Status]:
        """What all processes say, this one's own first; who doesn't answer in half a second is left out."""
        asked = [self._ask(i) for i in range(len(self._asking)) if i != index]
        until = time.monotonic() + _TIMEOUT_S
        found = (None if sock is None else _read(sock, until) for sock in asked)
        return [own, *(status for status in found if status is not None)]

    def together(self, found: list[Status]) -> metrics.Snapshot:
        """The metrics of all processes, of those that have ended, too."""
        with self._lock:
            fcntl.lockf(self._last, fcntl.LOCK_EX)
            try:
                return self._merge(found)
            finally:
                fcntl.lockf(self._last, fcntl.LOCK_UN)

    def _merge(self, found: list[Status]) -> metrics.Snapshot:
        text = os.pread(self._last, os.fstat(self._last).st_size, 0)
        try:
            last = json.loads(text)
        except ValueError:  # the first time, or the one before was killed as it wrote
            last = {"live": {}, "ended": []}
        live = last["live"]
        told = {str(status["index"]): status for status in found}
        over = [
            entry["metrics"]
            for index, entry in live.items()
            if index in told and told[index]["pid"] != entry["pid"]
        ]
        # Tenants that have lost their series in one process may have them in another, whose sum must not go back.
        lost = [
            metrics.vanished(entry["metrics"], told[index]["metrics"])
            for index, entry in live.items()
            if index in told and told[index]["pid"] == entry["pid"]
        ]
        ended = metrics.together([], [last["ended"], *over, *lost])
        shown = [one for status in told.values() for one in status["metrics"]]
        kept, left_out = metrics.without_tenants(ended, shown)
        if left_out > MOST_TENANTS:
            ended = kept
        for index, status in told.items():
            live[index] = {"pid": status["pid"], "metrics": status["metrics"]}
        text = json.dumps({"live": live, "ended": ended}).encode()
        os.ftruncate(self._last, 0)
        os.pwrite(self._last, text, 0)
        silent = [entry["metrics"] for index, entry in live.items() if index not in told]
        return metrics.together([status["metrics"] for status in found], [ended, *silent])

    def _ask(self, index: int) -> socket.socket | None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
                self._asking[index][1].sendmsg([b"?"], rights)
            except OSError:  # it has not kept up
                ours.close()
                return None
        return ours


def _read(sock: socket.socket, until: float) -> Status | None:
    data = b""
    with sock:
        try:
            while True:
                sock.settimeout(max(0.001, until - time.monotonic()))
                chunk = sock.recv(_CHUNK)
                if not chunk:
                    break
                data += chunk
            found = json.loads(data)
        except (OSError, ValueError):
            return None
    return found if isinstance(found, dict) else None
