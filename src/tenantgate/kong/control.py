"""Starts and closes plugin instances in a thread of their own, so that neither waits behind events."""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from tenantgate.errors import TenantgateError
from tenantgate.kong.wire import pack
from tenantgate.telemetry import logs

if TYPE_CHECKING:
    from tenantgate.kong.connection import Connection
    from tenantgate.kong.instances import Instances
    from tenantgate.kong.wire import Call

__all__ = ["METHODS", "Control"]

_log: Final = logging.getLogger("tenantgate.server")
_HANGS_S: Final = 10.0  # a plugin's constructor or `close` that takes longer hangs

_HAS: Final = (
    "plugin.HasInstance"  # not of Kong's: its worker asks by it (plugins/kong/…/tenantgate-request/start.lua)
)

METHODS: Final = frozenset({"plugin.StartInstance", "plugin.CloseInstance", _HAS})
"""The calls that are for this thread."""


_Job = tuple["Connection", "Call"] | tuple[()]
_CATCH_UP: Final[_Job] = ()


class _Answers(Protocol):
    def answer(self, conn: Connection, msgid: int, result: bytes, *, since: float) -> None: ...

    def refuse(self, conn: Connection, msgid: int, text: str, reason: str) -> None: ...

    def hand_over(self, conn: Connection, call: Call, *, final: bool = False) -> None: ...


class Control:
    """The thread that starts and closes the instances of a server, which answers Kong."""

    def __init__(self, instances: Instances, server: _Answers) -> None:
        self._instances, self._server = instances, server
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._since: float | None = None

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="control", daemon=True).start()

    def put(self, conn: Connection, call: Call) -> None:
        """Have a call of `METHODS` done; or one for an instance that another process may have started."""
        self._jobs.put((conn, call))

    def catch_up(self) -> None:
        """Start and close what other processes started and closed."""
        if self._jobs.empty():
            self._jobs.put(_CATCH_UP)

    def end(self) -> None:
        """Close all instances after the calls that wait, and end the thread."""
        self._jobs.put(None)

    @property
    def busy(self) -> bool:
        """Whether a call is being done, or waits."""
        return self._since is not None or not self._jobs.empty()

    def hangs(self, now: float) -> bool:
        """Whether the call that is being done takes more than 10 s."""
        since = self._since
        return since is not None and now - since > _HANGS_S

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._since = time.monotonic()
            try:
                if not job:
                    self._instances.catch_up()
                elif job[1].method in METHODS:
                    self._do(*job, self._since)
                else:
                    self._look_up(*job)
            finally:
                self._since = None
        self._instances.close_all()

    def _look_up(self, conn: Connection, call: Call) -> None:
        self._instances.catch_up()
        try:
            self._instances.get(call.argument["InstanceId"])
        except TenantgateError as error:
            self._server.refuse(conn, call.msgid, str(error), "no_instance")
        else:
            self._server.hand_over(conn, call, final=True)

    def _made(self, call: Call) -> object:
        if call.method == _HAS:
            if call.argument not in self._instances:
                self._instances.catch_up()
            return call.argument in self._instances
        return (self._instances.start if call.method == "plugin.StartInstance" else self._instances.close)(
            call.argument
        )

    def _do(self, conn: Connection, call: Call, since: float) -> None:
        try:
            result = pack(self._made(call))
        except TenantgateError as error:
            self._server.refuse(conn, call.msgid, str(error), "instance")
        except BaseException as error:  # noqa: BLE001 - a plugin's constructor; the server lives on
            logs.event(_log, logging.ERROR, "instance can't start", **logs.describe(error))
            self._server.refuse(conn, call.msgid, f"{type(error).__name__} in the plugin's start", "instance")
        else:
            self._server.answer(conn, call.msgid, result, since=since)
