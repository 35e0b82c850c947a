"""pre-function and post-function without Lua: a few known texts, each with its meaning, and no other."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tenantgate.config.lua import (
    ANTHROPIC_STOP_REASON,
    BEARER,
    BESIDE_TEXT,
    END_OF_STREAM,
    FINISH_REASON,
    HIDE_AUTHORIZATION,
    HIDE_CALLER,
    PLAIN_REPLY,
    REPLY_GUARD_BODY,
    REPLY_GUARD_CHECK,
)
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.errors import ConfigError

__all__ = ["Function"]

# The fail-closed check: no mark of the guard's, no way on. Spaces may differ, the words may not.
_CHECK: Final = re.compile(
    r'if kong\.ctx\.shared\.(?P<mark>[A-Za-z_]\w*) (?:~= "(?P<value>[^"\\]*)"|== nil) then '
    r"return kong\.response\.exit\( ?(?P<status>[45]\d\d) ?, ?'(?P<body>[^'\\]*)' ?, ?"
    r'\{ ?\["Content-Type"\] ?= ?"(?P<kind>[^"\\]*)" ?\} ?\) end'
)
_CALLER: Final = (
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Consumer-Username",
    "X-Credential-Identifier",
)
_REASON: Final = re.compile(rb'"(finish|stop)_reason"\s*:\s*"([A-Za-z0-9_]+)"')

_BESIDE: Final = re.compile(
    rb'"(?:' + "|".join(BESIDE_TEXT).encode() + rb')"\s*:\s*(?:"[^"]|[\[{]\s*[^\s\]}])'
)


def _bearer(x: Exchange) -> None:
    value = x.headers.get("Authorization")
    if value is not None and not value.startswith("Bearer "):
        x.headers.popall("Authorization")
        x.headers["Authorization"] = "Bearer " + value


def _hide_caller(x: Exchange) -> None:
    for name in _CALLER:
        x.headers.popall(name, None)
    x.forwarded = False


def _hide_authorization(x: Exchange) -> None:
    x.headers.popall("Authorization", None)


def _plain_reply(x: Exchange) -> None:
    x.headers["Accept-Encoding"] = "identity"


_ACCESS: Final[dict[str, Callable[[Exchange], None]]] = {
    BEARER: _bearer,
    HIDE_AUTHORIZATION: _hide_authorization,
    HIDE_CALLER: _hide_caller,
    PLAIN_REPLY: _plain_reply,
}
_REASONS: Final = {FINISH_REASON: b"finish", ANTHROPIC_STOP_REASON: b"stop"}
_BODY_FILTER: Final = {*_REASONS, END_OF_STREAM, REPLY_GUARD_BODY}
_UNCHECKED: Final = REPLY_GUARD_BODY.split("'")[1].encode()
_HEADER_FILTER: Final = {REPLY_GUARD_CHECK}


class Function(StockPlugin):
    """One of the two plugins; the code is looked up, never run."""

    def __init__(self, name: str) -> None:
        self.name = name

    @staticmethod
    def check(conf: PluginConfig) -> None:
        """Refuse, at start, code that isn't known."""
        for phase, known in (
            ("access", _ACCESS),
            ("header_filter", _HEADER_FILTER),
            ("body_filter", _BODY_FILTER),
        ):
            for i, code in enumerate(conf.config[phase]):
                if code not in known and not (phase == "access" and _CHECK.fullmatch(" ".join(code.split()))):
                    raise ConfigError(
                        f"{conf.where}: config.{phase}[{i}]: the embedded host runs no Lua; use a real Kong"
                    )

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """What the code of the access phase would do."""
        for code in conf.config["access"]:
            if known := _ACCESS.get(code):
                known(x)
            else:
                _exit_unless_marked(x, code)

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """Refuse a reply that the guard has not let pass."""
        for _check in conf.config["header_filter"]:
            if x.source == "service" and x.shared.get("tenantgate_reply_guard") != "pass":
                x.shared["tenantgate_reply_refused"] = True
                x.status = 503
                x.out["Content-Type"] = "application/json"
                x.out.popall("Content-Encoding", None)
                x.out.popall("Content-Length", None)

    def body_filter(self, x: Exchange, conf: PluginConfig, chunk: bytes, *, last: bool) -> bytes:
        """Note the reason why a reply ended, or end a stream with a chunk of its own."""
        for code in conf.config["body_filter"]:
            if code == REPLY_GUARD_BODY:
                if x.shared.get("tenantgate_reply_refused"):
                    chunk = _UNCHECKED if last else b""
                continue
            if code == END_OF_STREAM:
                if last:
                    x.shared["tenantgate_stream_end"] = True
                if last and not chunk and x.out.get("Content-Type", "").startswith("text/event-stream"):
                    chunk = b"\n"
                continue
            for kind, reason in _REASON.findall(chunk):
                if kind == _REASONS[code]:
                    x.shared["tenantgate_finish_reason"] = reason.decode()
            if code == FINISH_REASON:
                _look_beside(x, chunk, last=last)
        return chunk


def _look_beside(x: Exchange, chunk: bytes, *, last: bool) -> None:
    if _BESIDE.search(chunk):
        x.shared["tenantgate_stream_beside"] = True
    if last and x.shared.get("tenantgate_stream_beside"):
        x.shared.pop("tenantgate_stream_end", None)


def _exit_unless_marked(x: Exchange, code: str) -> None:
    found = _CHECK.fullmatch(" ".join(code.split()))
    if found is None:
        return
    mark = x.shared.get(found["mark"])
    if mark is None or (found["value"] is not None and mark != found["value"]):
        x.exit(int(found["status"]), found["body"], {"Content-Type": found["kind"]})
