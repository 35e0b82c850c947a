"""kong.request, kong.client, kong.router, and kong.service.request, which changes what goes upstream."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from tenantgate.devhost import lua
from tenantgate.devhost.entities import Consumer, Credential
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.pdk_event import (
    BEFORE_CONTENT,
    CHANGING_EVERY_TRY,
    CHANGING_REQUEST,
    Event,
    Function,
    PdkError,
    absent,
    first,
    header_table,
    header_values,
    limit,
    put_header,
    text,
)
from tenantgate.devhost.record import headers_table

__all__ = ["REQUEST", "encode_args"]


def _of(get: Callable[[Exchange], Any]) -> Function:
    return lambda e: absent(get(e.live()))


def _get_headers(e: Event, most: Any = None) -> Any:
    return e.saved.request_headers if e.saved else headers_table(e.x.headers.items(), limit(most))


def _get_header(e: Event, name: Any) -> Any:
    return first(_get_headers(e), name)


def _get_query(e: Event, _most: Any = None) -> Any:
    return e.live().query()


def _get_query_arg(e: Event, name: Any) -> Any:
    value = e.live().query().get(text(name), lua.MISSING)
    return value[0] if isinstance(value, list) else value


def _get_raw_body(e: Event, most: Any = None) -> Any:
    x = e.live(*BEFORE_CONTENT)
    x.body_read = True
    if x.body_on_disk and (most is None or most < 0 or 0 < most < len(x.body)):
        return lua.MISSING
    return x.body


def _get_body(e: Event, mimetype: Any = None, _most_args: Any = None, most: Any = None) -> Any:
    raw = _get_raw_body(e, most)
    kind = str(mimetype or e.x.headers.get("Content-Type", "")).lower()
    if raw is lua.MISSING or not kind.startswith("application/json"):
        return lua.MISSING
    value = lua.decode(raw)
    return value if isinstance(value, (dict, list)) else lua.MISSING


def _get_uri_captures(e: Event) -> Any:
    return {"unnamed": [], "named": dict(e.x.match.captures) if e.x.match else {}}


def _entity(get: Callable[[Exchange], Any]) -> Function:
    def found(e: Event) -> Any:
        holder = get(e.x)
        return lua.MISSING if holder is None else dict(holder.entity)

    return found


# -- kong.service.request


def _set_header(e: Event, name: Any, value: Any) -> Any:
    x = e.live(*CHANGING_EVERY_TRY)
    if text(name, "header").lower() == "host" and x.upstream:
        x.upstream.host_header = header_values(name, value)[0]
    put_header(x.headers, name, value)
    return lua.MISSING


def _set_headers(e: Event, headers: Any) -> Any:
    e.only(*CHANGING_REQUEST)
    for name, values in header_table(headers).items():
        _set_header(e, name, values)
    return lua.MISSING


def _add_header(e: Event, name: Any, value: Any) -> Any:
    x = e.live(*CHANGING_REQUEST)
    for v in header_values(name, value):
        x.headers.add(text(name, "header"), v)
    return lua.MISSING


def _clear_header(e: Event, name: Any) -> Any:
    e.live(*CHANGING_REQUEST).headers.popall(text(name, "header"), None)
    return lua.MISSING


def _set_raw_body(e: Event, body: Any) -> Any:
    x = e.live(*CHANGING_EVERY_TRY)
    if not isinstance(body, (str, bytes)):
        raise PdkError("body must be a string")
    x.body, x.body_changed, x.body_read = lua.to_bytes(body), True, True
    x.headers["Content-Length"] = str(len(x.body))
    return lua.MISSING


def _set_body(e: Event, args: Any, mime: Any = None) -> Any:
    x = e.live(*CHANGING_REQUEST)
    kind = str(mime or x.headers.get("Content-Type", ""))
    if kind.partition(";")[0].strip() != "application/json":
        raise PdkError("unsupported content type " + kind)
    _set_raw_body(e, lua.encode(args))
    x.headers["Content-Type"] = kind
    return True


def _set_path(e: Event, path: Any) -> Any:
    x = e.live(*CHANGING_EVERY_TRY)
    if not text(path, "path").startswith("/"):
        raise PdkError("path must start with /")
    if x.upstream:
        x.upstream.path = text(path)
    return lua.MISSING


def _set_scheme(e: Event, scheme: Any) -> Any:
    x = e.live(*CHANGING_EVERY_TRY)
    if text(scheme, "scheme") not in ("http", "https"):
        raise PdkError("the embedded host has no upstream scheme but http and https")
    if x.upstream:
        x.upstream.scheme = text(scheme)
    return lua.MISSING


def _set_raw_query(e: Event, query: Any) -> Any:
    e.live(*CHANGING_REQUEST).args = text(query, "query")
    return lua.MISSING


def _authenticate(e: Event, consumer: Any = None, credential: Any = None) -> Any:
    x = e.live(Phase.ACCESS)
    x.consumer, x.credential = None, None
    if isinstance(consumer, dict):
        known = {name: absent_text(consumer.get(name)) for name in ("username", "custom_id")}
        x.consumer = Consumer(
            id=text(consumer.get("id"), "id"), groups=frozenset(), entity=dict(consumer), **known
        )
    if isinstance(credential, dict) and x.consumer is not None:
        x.credential = Credential(
            id=text(credential.get("id"), "id"), consumer=x.consumer, created_at=0, key=""
        )
    return lua.MISSING


def absent_text(value: Any) -> str | None:
    """The text in a member of a table; None where there is none."""
    return None if value is None else text(value)


def _set_query(e: Event, args: Any) -> Any:
    e.live(*CHANGING_REQUEST).args = encode_args(args)
    return lua.MISSING


def encode_args(args: Any) -> str:
    """``ngx.encode_args``; an empty table of Lua's may have come as a list."""
    if not isinstance(args, dict):
        return ""
    pairs = [(n, v) for n, vs in args.items() for v in (vs if isinstance(vs, list) else [vs])]
    parts = [_quoted(n) if v is True else f"{_quoted(n)}={_quoted(v)}" for n, v in pairs if v is not False]
    return "&".join(parts)


def _quoted(value: Any) -> str:
    raw = lua.to_bytes(value) if isinstance(value, str) else lua.encode(value)
    return urllib.parse.quote(raw, safe="")


def _enable_buffering(e: Event) -> Any:
    e.live(*CHANGING_EVERY_TRY).ctx["buffered_proxying"] = True
    return lua.MISSING


REQUEST: Final[dict[str, Function]] = {
    "kong.client.authenticate": _authenticate,
    "kong.client.get_consumer": _entity(lambda x: x.consumer),
    "kong.client.get_credential": _entity(lambda x: x.credential),
    "kong.client.get_forwarded_ip": _of(lambda x: x.client_ip),
    "kong.client.get_forwarded_port": _of(lambda x: x.client_port),
    "kong.client.get_ip": _of(lambda x: x.client_ip),
    "kong.client.get_port": _of(lambda x: x.client_port),
    "kong.client.get_protocol": _of(lambda _x: "http"),
    "kong.request.get_body": _get_body,
    "kong.request.get_forwarded_host": _of(lambda x: x.host),
    "kong.request.get_forwarded_path": _of(lambda x: x.path),
    "kong.request.get_forwarded_port": _of(lambda x: x.server_port),
    "kong.request.get_forwarded_scheme": _of(lambda _x: "http"),
    "kong.request.get_header": _get_header,
    "kong.request.get_headers": _get_headers,
    "kong.request.get_host": _of(lambda x: x.host),
    "kong.request.get_http_version": _of(lambda x: float(x.http_version)),
    "kong.request.get_method": _of(lambda x: x.method),
    "kong.request.get_path": _of(lambda x: x.path),
    "kong.request.get_path_with_query": _of(lambda x: x.uri),
    "kong.request.get_port": _of(lambda x: x.server_port),
    "kong.request.get_query": _get_query,
    "kong.request.get_query_arg": _get_query_arg,
    "kong.request.get_raw_body": _get_raw_body,
    "kong.request.get_raw_path": _of(lambda x: x.path),
    "kong.request.get_raw_query": _of(lambda x: x.args),
    "kong.request.get_scheme": _of(lambda _x: "http"),
    "kong.request.get_start_time": lambda e: int(e.x.started * 1000),
    "kong.request.get_uri_captures": _get_uri_captures,
    "kong.router.get_route": _entity(lambda x: x.match and x.match.route),
    "kong.router.get_service": _entity(lambda x: x.match and x.match.route.service),
    "kong.service.request.add_header": _add_header,
    "kong.service.request.clear_header": _clear_header,
    "kong.service.request.enable_buffering": _enable_buffering,
    "kong.service.request.set_body": _set_body,
    "kong.service.request.set_header": _set_header,
    "kong.service.request.set_headers": _set_headers,
    "kong.service.request.set_path": _set_path,
    "kong.service.request.set_query": _set_query,
    "kong.service.request.set_raw_body": _set_raw_body,
    "kong.service.request.set_raw_query": _set_raw_query,
    "kong.service.request.set_scheme": _set_scheme,
}
