"""Processes of the plugin servers: ask each for its plugin, start it, start it again (`process.lua`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.devhost.kong_conf import PluginServer
from tenantgate.devhost.logs import KongLog
from tenantgate.errors import ConfigError

__all__ = ["PluginInfo", "Supervisor", "query"]

_RESPAWN_S: Final = 1.0
_GRACE_S: Final = 5.0
_PHASES: Final = {"certificate", "rewrite", "access", "response", "preread", "log"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What a query command said of its plugin."""

    name: str
    priority: int
    version: str
    phases: frozenset[str]
    schema: Any
    server: PluginServer


def query(server: PluginServer) -> PluginInfo:
    """Run the query command and read the first plugin it names: Kong 3.9 uses no other.

    Raises:
        ConfigError: no command, output that isn't the JSON that Kong wants, or phases this host can't run.
    """
    where = f"pluginserver {server.name}"
    if not server.query_cmd:
        raise ConfigError(f"{where}: no query_cmd")
    # As io.popen: through a shell, only standard output is read, the exit status is not looked at.
    done = subprocess.run(server.query_cmd, shell=True, stdout=subprocess.PIPE, check=False)  # noqa: S602
    try:
        dump = json.loads(done.stdout)
        info = (dump.get("Plugins", dump) if isinstance(dump, dict) else dump)[0]
        made = PluginInfo(
            name=info["Name"],
            priority=info["Priority"],
            version=info["Version"],
            phases=frozenset(info["Phases"]),
            schema=info["Schema"],
            server=server,
        )
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{where}: its query_cmd didn't print only Kong's JSON") from error
    if not isinstance(made.priority, int) or not isinstance(made.version, str):
        raise ConfigError(f"{where}: Priority must be an integer and Version a string")
    if unknown := made.phases - _PHASES:
        raise ConfigError(f"{where}: unknown phase {min(unknown)}")
    if refused := made.phases & {"rewrite", "certificate", "preread"}:
        raise ConfigError(f"{where}: the embedded host doesn't run the {min(refused)} phase; use a real Kong")
    return made


class Supervisor:
    """Keeps every server with a start command running; their output goes to the error log at level info."""

    def __init__(self, servers: Sequence[PluginServer], log: KongLog) -> None:
        self._servers = [s for s in servers if s.start_cmd]
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    def start(self) -> None:
        """Start all, without waiting for their sockets: neither does Kong."""
        self._tasks = [asyncio.create_task(self._keep(s)) for s in self._servers]

    async def _keep(self, server: PluginServer) -> None:
        while True:
            earliest = time.monotonic() + _RESPAWN_S
            self._log.write("notice", f"[pluginserver] starting pluginserver process for {server.name}")
            process = await asyncio.create_subprocess_shell(
                f"exec {server.start_cmd}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=1 << 20,
            )
            self._processes[server.name] = process
            self._log.write("notice", f"[pluginserver] started, pid {process.pid}")
            await self._copy_output(server.name, process)
            status = await process.wait()
            level = "err" if status == 127 else "notice"
            self._log.write(level, f"external pluginserver '{server.name}' terminated: {status}")
            await asyncio.sleep(max(0.0, earliest - time.monotonic()))

    async def _copy_output(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue  # a line above the limit
            if not line:
                return
            self._log.write(
                "info", f"[{name}:{process.pid}] {line.decode('utf-8', 'backslashreplace').rstrip()}"
            )

    async def stop(self) -> None:
        """End all of them: SIGTERM, then SIGKILL."""
        for task in self._tasks:
            task.cancel()
        running = [p for p in self._processes.values() if p.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
                # A stopped process takes no SIGTERM until it goes on.
                os.kill(process.pid, signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await asyncio.gather(*(p.wait() for p in running))
        for process in running:
            if process.returncode is None:
                process.kill()
                await process.wait()
