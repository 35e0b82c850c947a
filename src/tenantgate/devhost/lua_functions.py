"""The functions of ``kong`` and ``ngx`` for Lua plugins, by their full names."""

from __future__ import annotations

from typing import Any, Final

from tenantgate.devhost import lua, variables
from tenantgate.devhost.exchange import Phase
from tenantgate.devhost.pdk import NODE, set_serialize_value
from tenantgate.devhost.pdk_event import (
    CHANGING_REPLY,
    CHANGING_REQUEST,
    Event,
    Function,
    PdkError,
    absent,
    limit,
    put_header,
    text,
)
from tenantgate.devhost.pdk_request import REQUEST
from tenantgate.devhost.pdk_response import RESPONSE
from tenantgate.devhost.record import headers_table, response_headers, serialize

__all__ = ["FUNCTIONS", "HIDDEN"]


def _unlimited(most: Any) -> int:
    return 0 if most == 0 else limit(most)


def _serialize(e: Event) -> Any:
    e.only(Phase.LOG)
    return serialize(e.x)


def _set_target(e: Event, host: Any, port: Any) -> Any:
    x = e.live(*CHANGING_REQUEST)
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise PdkError("port must be an integer between 0 and 65535")
    if x.upstream:
        x.upstream.host, x.upstream.port = text(host, "host"), port
    return lua.MISSING


def _get_variable(e: Event, name: Any) -> Any:
    try:
        return absent(variables.get(e.x, text(name, "variable")))
    except variables.UnknownVariableError:
        raise PdkError(f"the embedded host has no ngx.var.{name}") from None


def _set_variable(e: Event, name: Any, value: Any = None) -> Any:
    try:
        variables.put(e.x, text(name, "variable"), "" if value is None else str(value))
    except variables.UnknownVariableError:
        raise PdkError(f"the embedded host can't set ngx.var.{name}") from None
    return lua.MISSING


def _get_header(e: Event, name: Any) -> Any:
    values = e.x.out.getall(text(name, "header").replace("_", "-"), [])
    return values[0] if len(values) == 1 else list(values) or lua.MISSING


def _set_header(e: Event, name: Any, value: Any = None) -> Any:
    x = e.live(*CHANGING_REPLY)
    name = text(name, "header").replace("_", "-")
    if value is None:
        x.out.popall(name, None)
    else:
        put_header(x.out, name, value)
    return lua.MISSING


FUNCTIONS: Final[dict[str, Function]] = {
    **REQUEST,
    **{
        name: f for name, f in RESPONSE.items() if name.split(".")[-1] not in ("get_raw_body", "set_raw_body")
    },
    "kong.service.response.get_raw_body": RESPONSE["kong.service.response.get_raw_body"],
    **NODE,
    "kong.service.set_target": _set_target,
    "ngx.get_phase": lambda e: e.x.phase.value,
    "ngx.req.get_headers": lambda e, most=None: headers_table(e.x.headers.items(), _unlimited(most)),
    "ngx.req.get_method": lambda e: e.x.method,
    "ngx.resp.get_headers": lambda e, _most=None: response_headers(e.x),
    "ngx.time": lambda e: int(NODE["ngx.now"](e)),
}
"""Those that plugins see under these names."""

HIDDEN: Final[dict[str, Function]] = {
    "kong.log.serialize": _serialize,
    "kong.log.set_serialize_value": set_serialize_value,
    "ngx.header.get": _get_header,
    "ngx.header.set": _set_header,
    "ngx.var.get": _get_variable,
    "ngx.var.set": _set_variable,
    "only_in_body_filter": lambda e: e.only(Phase.BODY_FILTER),
}
"""Those that the Lua side wraps in another form."""
