"""kong.response, what the client gets, and kong.service.response, what the upstream gave."""

from __future__ import annotations

from typing import Any, Final

from tenantgate.devhost import lua
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.pdk_event import (
    CHANGING_REPLY,
    READING_REPLY,
    Event,
    Function,
    PdkError,
    first,
    header_table,
    header_values,
    limit,
    put_header,
    status,
    text,
)
from tenantgate.devhost.record import headers_table

__all__ = ["RESPONSE"]


def _set_header(e: Event, name: Any, value: Any) -> Any:
    put_header(e.live(*CHANGING_REPLY).out, name, value)
    return lua.MISSING


def _set_headers(e: Event, headers: Any) -> Any:
    x = e.live(*CHANGING_REPLY)
    for name, values in header_table(headers).items():
        put_header(x.out, name, values)
    return lua.MISSING


def _add_header(e: Event, name: Any, value: Any) -> Any:
    x = e.live(*CHANGING_REPLY)
    for v in header_values(name, value):
        x.out.add(text(name, "header name"), v)
    return lua.MISSING


def _clear_header(e: Event, name: Any) -> Any:
    e.live(*CHANGING_REPLY).out.popall(text(name, "header name"), None)
    return lua.MISSING


def _set_status(e: Event, code: Any) -> Any:
    e.live(*CHANGING_REPLY).status = status(code)
    return lua.MISSING


def _answering(e: Event) -> Exchange:
    x = e.live(*CHANGING_REPLY)
    if x.phase is Phase.HEADER_FILTER:
        raise PdkError("the embedded host can't answer in header_filter; use a real Kong")
    return x


def _exit(e: Event, code: Any, body: Any = None, headers: Any = None) -> Any:
    x = _answering(e)
    if body is not None and not isinstance(body, (str, bytes, dict, list)):
        raise PdkError("body must be a nil, string or table")
    x.exit(status(code), body, {} if headers is None else header_table(headers))


def _error(e: Event, code: Any, message: Any = None, headers: Any = None) -> Any:
    x = _answering(e)
    if message is not None:
        message = text(message if isinstance(message, (str, bytes)) else lua.encode(message))
    x.error(status(code, 400), message, {} if headers is None else header_table(headers))


def _get_headers(e: Event, most: Any = None) -> Any:
    if e.saved:
        return e.saved.response_headers
    return headers_table(e.live(*READING_REPLY).out.items(), limit(most))


def _get_status(e: Event) -> Any:
    return e.saved.status if e.saved else e.live(*READING_REPLY).status


def _service_headers(e: Event, most: Any = None) -> Any:
    e.only(*READING_REPLY)
    # Of a buffered reply Kong gives single headers, but an empty table of all.
    return (
        {}
        if e.x.buffered_headers is not None
        else headers_table(e.live().upstream_headers.items(), limit(most))
    )


def _service_header(e: Event, name: Any) -> Any:
    e.only(*READING_REPLY)
    held = e.x.buffered_headers
    return first(_service_headers(e) if held is None else headers_table(held.items()), name)


def _service_status(e: Event) -> Any:
    e.only(*READING_REPLY)
    found = e.x.upstream_status
    return lua.MISSING if found is None else int(str(found)[-3:])


def _service_raw_body(e: Event) -> Any:
    e.only(*READING_REPLY)
    if not e.ctx.get("buffered_proxying"):
        raise PdkError("service body is only available with buffered proxying")
    return e.x.buffered_body or b""


def _body_filter_only(_e: Event, *_args: Any) -> Any:
    raise PdkError("function cannot be called here (only in: body_filter)")


RESPONSE: Final[dict[str, Function]] = {
    "kong.response.add_header": _add_header,
    "kong.response.clear_header": _clear_header,
    "kong.response.error": _error,
    "kong.response.exit": _exit,
    "kong.response.get_header": lambda e, name: first(_get_headers(e), name),
    "kong.response.get_headers": _get_headers,
    "kong.response.get_raw_body": _body_filter_only,
    "kong.response.get_source": lambda e: e.saved.source if e.saved else e.x.source,
    "kong.response.get_status": _get_status,
    "kong.response.set_header": _set_header,
    "kong.response.set_headers": _set_headers,
    "kong.response.set_raw_body": _body_filter_only,
    "kong.response.set_status": _set_status,
    "kong.service.response.get_header": _service_header,
    "kong.service.response.get_headers": _service_headers,
    "kong.service.response.get_raw_body": _service_raw_body,
    "kong.service.response.get_status": _service_status,
}
