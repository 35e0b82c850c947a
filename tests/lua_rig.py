"""A Lua state of the embedded host, and requests for it, without sockets."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Answer, Exchange, Exited, Phase
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.stock.functions import PHASES, Function


class Log(KongLog):
    """The error log as a text."""

    def __init__(self) -> None:
        super().__init__(level="debug")
        self._out = self.text = io.StringIO()


def state(settings: dict[str, str] | None = None, path: str = "") -> LuaState:
    return LuaState(Log(), settings, path)


def exchange(headers: Sequence[tuple[str, str]] = (), **more: Any) -> Exchange:
    made: dict[str, Any] = {
        "request_id": "0" * 32,
        "method": "POST",
        "uri": "/acme/chat/completions?key=1",
        "args": "key=1",
        "http_version": "1.1",
        "host": "gateway",
        "server_port": 8000,
        "client_ip": "203.0.113.7",
        "client_port": 4711,
        "headers": CIMultiDict(headers),
        "body": b"",
        "body_limit": 8192,
    }
    return Exchange(**{**made, **more})


def plugin(name: str, **config: Any) -> PluginConfig:
    return PluginConfig(
        id=f"{name}-1", name=name, route_id=None, service_id=None, consumer_id=None, config=config, where=name
    )


class Code:
    """post-function with this code, phase by phase, for one request."""

    def __init__(
        self, x: Exchange | None = None, *, lua: LuaState | None = None, **phases: list[str]
    ) -> None:
        self.lua = lua or state()
        self.x = x or exchange()
        self._conf = plugin("post-function", **{phase: phases.get(phase, []) for phase in PHASES})
        self._plugin = Function("post-function", self.lua)
        self._plugin.prepare(self._conf)

    def access(self) -> Answer | None:
        """The phase's answer, if it gave one."""
        self.x.phase = Phase.ACCESS
        try:
            asyncio.run(self._plugin.access(self.x, self._conf))
        except Exited as exited:
            return exited.answer
        return None

    def header_filter(self) -> None:
        self.x.phase = Phase.HEADER_FILTER
        self._plugin.header_filter(self.x, self._conf)

    def body(self, *chunks: bytes) -> list[bytes]:
        """What becomes of these pieces, and of the empty last one that nginx adds."""
        self.x.phase = Phase.BODY_FILTER
        run = self._plugin.body_filter
        return [
            *(run(self.x, self._conf, chunk, last=False) for chunk in chunks),
            run(self.x, self._conf, b"", last=True),
        ]

    def log(self) -> None:
        self.x.phase = Phase.LOG
        self._plugin.log(self.x, self._conf)


def value(code: str, x: Exchange | None = None, *, phase: Phase = Phase.ACCESS) -> Any:
    """What code of the sandbox returns."""
    lua, x = state(), x or exchange()
    x.phase = phase
    return lua.values.to_python(lua.run(x, "post-function", lua.compile(code, "code")))


def install(folder: Path, name: str, handler: str, schema: str) -> str:
    """Write a Lua plugin's files; the lua_package_path that finds them."""
    place = folder / "kong" / "plugins" / name
    place.mkdir(parents=True)
    (place / "handler.lua").write_text(handler)
    (place / "schema.lua").write_text(schema)
    return f"{folder}/?.lua;;"
