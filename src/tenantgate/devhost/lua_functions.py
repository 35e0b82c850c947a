"""The functions of ``kong`` and ``ngx`` for Lua plugins, by their full names."""

from __future__ import annotations

from typing import Any, Final

from tenantgate.devhost import lua, variables
from tenantgate.devhost.exchange import Phase
from tenantgate.devhost.pdk import NODE, set_serialize_value
from tenantgate.devhost.pdk_event import (
    CHANGING_EVERY_TRY,
    CHANGING_REPLY,
    READING_REPLY,
    Event,
    Function,
    PdkError,
    absent,
    limit,
    put_header,
    status,
    text,
)
from tenantgate.devhost.pdk_request import REQUEST, encode_args
from tenantgate.devhost.pdk_response import RESPONSE
from tenantgate.devhost.record import headers_table, response_headers, serialize

__all__ = ["FUNCTIONS", "HIDDEN", "METHODS"]


def _unlimited(most: Any) -> int:
    return 0 if most == 0 else limit(most)


def _serialize(e: Event) -> Any:
    e.only(Phase.LOG)
    return serialize(e.x)


def _set_target(e: Event, host: Any, port: Any) -> Any:
    x = e.live(*CHANGING_EVERY_TRY)
    port = _whole(port, "port", 0, 65535)
    if x.upstream:
        x.upstream.host, x.upstream.port = text(host, "host"), port
        x.upstream.host_header = x.upstream.host
    return lua.MISSING


def _set_retries(e: Event, retries: Any) -> Any:
    e.live(Phase.ACCESS).retries = _whole(retries, "retries", 0, 32767)
    return lua.MISSING


def _set_timeouts(e: Event, connect: Any, write: Any, read: Any) -> Any:
    x = e.live(Phase.ACCESS)
    given = {"connect_timeout": connect, "write_timeout": write, "read_timeout": read}
    connect, write, read = (_whole(value, name, 1, 2147483646) for name, value in given.items())
    x.timeouts = connect, write, read
    return lua.MISSING


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise PdkError(f"{name} must be an integer")
    if not least <= value <= most:
        raise PdkError(f"{name} must be an integer between {least} and {most}: given {value}")
    return int(value)


def _set_request_header(e: Event, name: Any, value: Any = None) -> Any:
    x = e.live(*CHANGING_EVERY_TRY)
    if value is None:
        x.headers.popall(text(name, "header"), None)
    else:
        put_header(x.headers, name, value)
    return lua.MISSING


def _set_method(e: Event, number: Any) -> Any:
    x = e.live(*CHANGING_EVERY_TRY, Phase.HEADER_FILTER)
    names = {value: name for name, value in METHODS.items()}
    if number not in names:
        raise PdkError("unsupported HTTP method")
    x.method = names[number]
    return lua.MISSING


def _set_body_data(e: Event, body: Any) -> Any:
    x = e.live(*CHANGING_EVERY_TRY)
    x.body, x.body_changed, x.body_read = lua.to_bytes(text(body, "body")), True, True
    x.headers["Content-Length"] = str(len(x.body))
    return lua.MISSING


def _recreate_request(e: Event) -> Any:
    e.live(Phase.BALANCER).rebuild = True
    return True


METHODS: Final = {"GET": 2, "HEAD": 4, "POST": 8, "PUT": 16, "DELETE": 32, "OPTIONS": 512, "PATCH": 16384}
"""``ngx.HTTP_NAME`` (ngx_http_request.h)."""


def _get_upstream(e: Event, name: Any) -> Any:
    to = e.x.upstream
    if name in ("connect_timeout", "write_timeout", "read_timeout") and e.x.match:
        times = e.x.timeouts or e.x.match.route.service.timeouts
        return times[("connect_timeout", "write_timeout", "read_timeout").index(name)]
    return (
        lua.MISSING
        if to is None
        else {"host": to.host, "port": to.port, "scheme": to.scheme}.get(name, lua.MISSING)
    )


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
    x = e.live(*CHANGING_REPLY, Phase.CONTENT)
    name = text(name, "header").replace("_", "-")
    if value is None:
        x.out.popall(name, None)
    else:
        put_header(x.out, name, value)
    return lua.MISSING


def _get_status(e: Event) -> Any:
    return e.live(*READING_REPLY, Phase.CONTENT).status


def _set_status(e: Event, code: Any) -> Any:
    e.live(*CHANGING_REPLY, Phase.CONTENT).status = status(code)
    return lua.MISSING


FUNCTIONS: Final[dict[str, Function]] = {
    **REQUEST,
    **{
        name: f for name, f in RESPONSE.items() if name.split(".")[-1] not in ("get_raw_body", "set_raw_body")
    },
    "kong.service.response.get_raw_body": RESPONSE["kong.service.response.get_raw_body"],
    **NODE,
    "kong.service.set_retries": _set_retries,
    "kong.service.set_target": _set_target,
    "kong.service.set_timeouts": _set_timeouts,
    "ngx.encode_args": lambda _, args: encode_args(args),
    "ngx.get_phase": lambda e: e.x.phase.value,
    "ngx.req.get_body_data": lambda e: e.live(Phase.CONTENT).body or lua.MISSING,
    "ngx.req.clear_header": _set_request_header,
    "ngx.req.get_headers": lambda e, most=None: headers_table(e.x.headers.items(), _unlimited(most)),
    "ngx.req.get_method": lambda e: e.x.method,
    "ngx.req.set_body_data": _set_body_data,
    "ngx.req.set_header": _set_request_header,
    "ngx.req.set_method": _set_method,
    "ngx.resp.get_headers": lambda e, _most=None: response_headers(e.x),
    "ngx.time": lambda e: int(NODE["ngx.now"](e)),
}
"""Those that plugins see under these names."""

HIDDEN: Final[dict[str, Function]] = {
    "balancer_data.get": _get_upstream,
    "recreate_request": _recreate_request,
    "kong.log.serialize": _serialize,
    "kong.log.set_serialize_value": set_serialize_value,
    "ngx.header.get": _get_header,
    "ngx.header.set": _set_header,
    "ngx.headers_sent": lambda e: e.live(Phase.CONTENT).headers_sent,
    "ngx.status.get": _get_status,
    "ngx.status.set": _set_status,
    "ngx.var.get": _get_variable,
    "ngx.var.set": _set_variable,
    "only_in_access": lambda e: e.only(Phase.ACCESS),
    "only_in_body_filter": lambda e: e.only(Phase.BODY_FILTER),
}
"""Those that the Lua side wraps in another form."""
