"""pre-function and post-function without Lua: a few known texts, each with its meaning, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from tenantgate.config.lua import (
    ANTHROPIC_STOP_REASON,
    ANY_BEARER,
    BEARER,
    BESIDE_TEXT,
    END_OF_STREAM,
    ERROR_BODY,
    ERROR_HEAD,
    ERROR_HEAD_EARLY,
    ERROR_HEAD_ELSEWHERE,
    ERRORS,
    FINISH_REASON,
    HIDE_CALLER,
    NO_QUERY,
    ONLY_HEADERS,
    OTHER_ERROR,
    PACKED,
    PLAIN_REPLY,
    REPLY_GUARD_BODY,
    REPLY_GUARD_CHECK,
)
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.record import headers_table
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.errors import ConfigError

__all__ = ["Function"]

# The fail-closed check: no mark of the guard's, no way on. Spaces may differ, the words may not.
_CHECK: Final = re.compile(
    r'if kong\.ctx\.shared\.(?P<mark>[A-Za-z_]\w*) (?:~= "(?P<value>[^"\\]*)"|== nil) then '
    r"return kong\.response\.exit\( ?(?P<status>[45]\d\d) ?, ?'(?P<body>[^'\\]*)' ?, ?"
    r'\{ ?\["Content-Type"\] ?= ?"(?P<kind>[^"\\]*)" ?\} ?\) end'
)
_ONLY: Final = re.compile(
    re.escape(ONLY_HEADERS)
    .replace("KEEP", "(?P<keep>[^{}]*)")
    .replace("CORRELATION", r"(?P<correlation>[\w-]+)")
)
_LOGGED: Final = 100  # headers that the log record keeps, at most
_SECRET: Final = frozenset({"api-key", "authorization", "proxy-authorization", "x-api-key", "x-goog-api-key"})
_AI_PROXY: Final = re.compile(r'\{"error":\{"message":(".*")\}\}', re.DOTALL)
_REASON: Final = re.compile(rb'"(finish|stop)_reason"\s*:\s*"([A-Za-z0-9_]+)"')

_BESIDE: Final = re.compile(
    rb'"(?:' + "|".join(BESIDE_TEXT).encode() + rb')"\s*:\s*(?:"[^"]|[\[{]\s*[^\s\]}])'
)


def _bearer(x: Exchange) -> None:
    value = x.headers.get("Authorization")
    if value is not None and not value.startswith("Bearer "):
        x.headers.popall("Authorization")
        x.headers["Authorization"] = "Bearer " + value


def _any_bearer(x: Exchange) -> None:
    values = x.headers.getall("Authorization", ())
    if len(values) == 1 and (found := re.fullmatch(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+)", values[0])):
        x.headers["Authorization"] = "Bearer " + found[1]


def _no_query(x: Exchange) -> None:
    x.args = ""


def _hide_caller(x: Exchange) -> None:
    x.forwarded = False


def _only_headers(x: Exchange, keep: frozenset[str], correlation: str) -> None:
    table = headers_table(x.headers.items(), 0)
    logged = dict(list(table.items())[:_LOGGED])
    logged |= dict.fromkeys(_SECRET & logged.keys(), "REDACTED")
    x.serialize_values.append(("request.headers", logged))
    x.shared["tenantgate_correlation"] = table.get(correlation)
    x.shared["tenantgate_traceparent"] = table.get("traceparent")
    for name in table.keys() - keep:
        x.headers.popall(name, None)
    for name, value in (("Accept", "*/*"), ("User-Agent", "Tenantgate")):
        if name.lower() not in keep:
            x.headers[name] = value


def _packed(x: Exchange) -> None:
    x.headers["Accept-Encoding"] = "gzip, identity"


def _plain_reply(x: Exchange) -> None:
    x.headers["Accept-Encoding"] = "identity"


_ACCESS: Final[dict[str, Callable[[Exchange], None]]] = {
    ANY_BEARER: _any_bearer,
    BEARER: _bearer,
    HIDE_CALLER: _hide_caller,
    NO_QUERY: _no_query,
    PACKED: _packed,
    PLAIN_REPLY: _plain_reply,
}
_REASONS: Final = {FINISH_REASON: b"finish", ANTHROPIC_STOP_REASON: b"stop"}
_BODY_FILTER: Final = {*_REASONS, END_OF_STREAM, ERROR_BODY, REPLY_GUARD_BODY}
_UNCHECKED: Final = REPLY_GUARD_BODY.split("'")[1].encode()
_HEADER_FILTER: Final = {ERROR_HEAD, ERROR_HEAD_EARLY, ERROR_HEAD_ELSEWHERE, REPLY_GUARD_CHECK}


def _access(code: str) -> Callable[[Exchange], None] | None:
    """What code of the access phase does; None for code that isn't known."""
    if known := _ACCESS.get(code):
        return known
    if only := _ONLY.fullmatch(code):
        keep = frozenset(re.findall(r'\["([^"]+)"\]', only["keep"]))
        return lambda x: _only_headers(x, keep, only["correlation"])
    if _CHECK.fullmatch(" ".join(code.split())):
        return lambda x: _exit_unless_marked(x, code)
    return None


class Function(StockPlugin):
    """One of the two plugins; the code is looked up, never run."""

    def __init__(self, name: str) -> None:
        self.name = name

    @staticmethod
    def check(conf: PluginConfig) -> None:
        """Refuse, at start, code that isn't known."""
        known: Mapping[str, Callable[[str], object]] = {
            "access": _access,
            "header_filter": _HEADER_FILTER.__contains__,
            "body_filter": _BODY_FILTER.__contains__,
        }
        for phase, knows in known.items():
            for i, code in enumerate(conf.config[phase]):
                if not knows(code):
                    raise ConfigError(
                        f"{conf.where}: config.{phase}[{i}]: the embedded host runs no Lua; use a real Kong"
                    )

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """What the code of the access phase would do."""
        for code in conf.config["access"]:
            if does := _access(code):
                does(x)

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """Refuse a reply that the guard has not let pass, and give an error OpenAI's head."""
        for code in conf.config["header_filter"]:
            if code == REPLY_GUARD_CHECK:
                _hold_back(x)
            elif _applies(x, code):
                _error_head(x)

    def body_filter(self, x: Exchange, conf: PluginConfig, chunk: bytes, *, last: bool) -> bytes:
        """Note the reason why a reply ended, or end a stream with a chunk of its own."""
        for code in conf.config["body_filter"]:
            if code == REPLY_GUARD_BODY:
                if x.shared.get("tenantgate_reply_refused"):
                    chunk = _UNCHECKED if last else b""
            elif code == ERROR_BODY:
                chunk = _error_body(x, chunk, last=last)
            elif code == END_OF_STREAM:
                chunk = _end_of_stream(x, chunk, last=last)
            else:
                _note_reason(x, code, chunk, last=last)
        return chunk


def _end_of_stream(x: Exchange, chunk: bytes, *, last: bool) -> bytes:
    if last:
        x.shared["tenantgate_stream_end"] = True
    events = x.out.get("Content-Type", "").startswith("text/event-stream")
    return b"\n" if last and not chunk and events else chunk


def _note_reason(x: Exchange, code: str, chunk: bytes, *, last: bool) -> None:
    for kind, reason in _REASON.findall(chunk):
        if kind == _REASONS[code]:
            x.shared["tenantgate_finish_reason"] = reason.decode()
    if code == FINISH_REASON:
        _look_beside(x, chunk, last=last)


def _applies(x: Exchange, code: str) -> bool:
    if code == ERROR_HEAD_EARLY:
        return x.status == 413
    return code == ERROR_HEAD or "/chat/completions" in x.path


def _hold_back(x: Exchange) -> None:
    if x.source == "service" and x.shared.get("tenantgate_reply_guard") != "pass":
        x.shared["tenantgate_reply_refused"] = True
        x.status = 503
        x.out["Content-Type"] = "application/json"
        x.out.popall("Content-Encoding", None)
        x.out.popall("Content-Length", None)


def _error_head(x: Exchange) -> None:
    events = "text/event-stream" in x.out.get("Content-Type", "")
    if x.source != "service" and x.status >= 400 and not events:
        x.shared["tenantgate_error"] = b""
        x.out["Content-Type"] = "application/json; charset=utf-8"
        x.out.popall("Content-Length", None)


def _error_body(x: Exchange, chunk: bytes, *, last: bool) -> bytes:
    held = x.shared.get("tenantgate_error")
    if held is None:
        return chunk
    body: bytes = held + chunk
    if not last:
        x.shared["tenantgate_error"] = body
        return b""
    del x.shared["tenantgate_error"]
    if b'"code":' in body:
        return body
    message, kind, code = ERRORS.get(x.status, OTHER_ERROR)
    own = _AI_PROXY.fullmatch(body.decode("utf-8", "replace"))
    told = own[1] if own else json.dumps(message)
    return f'{{"error":{{"message":{told},"type":"{kind}","param":null,"code":"{code}"}}}}'.encode()


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
