"""``kong.log.serialize``: what log plugins are told of a request (`kong/pdk/log.lua`)."""

from __future__ import annotations

import copy
import time
from typing import Any, Final

from tenantgate.devhost.exchange import Exchange, multimap

__all__ = ["MODES", "headers_table", "response_headers", "serialize"]


MODES: Final = ("set", "add", "replace")
"""Modes of ``kong.log.set_serialize_value``: always, only a new entry, only one that there is."""


def headers_table(pairs: Any, limit: int = 100) -> dict[str, Any]:
    """Headers as ``ngx.req.get_headers`` gives them: lower case, lists for repeated ones."""
    return multimap([(n.lower(), v) for n, v in pairs], limit)


def response_headers(x: Exchange) -> dict[str, Any]:
    """The reply's headers as ``ngx.resp.get_headers`` gives them, with those that nginx adds itself."""
    table = headers_table(x.out.items())
    table["connection"] = "keep-alive"
    if "content-length" not in table and x.status not in (204, 304):
        table["transfer-encoding"] = "chunked"
    return table


def serialize(x: Exchange) -> dict[str, Any]:
    """The record so far; keys whose value is nil in Lua are left out."""
    request_headers = headers_table(x.headers.items())
    for secret in ("authorization", "proxy-authorization"):
        if secret in request_headers:
            request_headers[secret] = "REDACTED"
    upstream_uri = ""
    if x.upstream:
        upstream_uri = x.upstream.path
        if "?" not in upstream_uri and ("?" in x.uri or x.args):
            upstream_uri += "?" + x.args
    credential = x.credential
    root: dict[str, Any] = {
        "request": {
            "id": x.request_id,
            "uri": x.uri,
            "url": f"http://{x.host}:{x.server_port}{x.uri}",
            "querystring": x.query(),
            "method": x.method,
            "headers": request_headers,
            "size": x.request_size,
        },
        "upstream_uri": upstream_uri,
        "upstream_status": "" if x.upstream_status is None else x.upstream_status,
        "response": {"status": x.status, "headers": response_headers(x), "size": x.sent_bytes},
        "latencies": {
            "kong": x.kong_latency_ms or 0,
            "proxy": -1 if x.waiting_ms is None else x.waiting_ms,
            "request": int((time.time() - x.started) * 1000),
            "receive": x.receive_ms,
        },
        "tries": copy.deepcopy(x.tries) if x.match else None,
        # Kong looks for the consumer's id in a place where it never is.
        "authenticated_entity": credential and {"id": credential.id},
        "route": x.match and copy.deepcopy(dict(x.match.route.entity)),
        "service": x.match and copy.deepcopy(dict(x.match.route.service.entity)),
        "consumer": x.consumer and copy.deepcopy(dict(x.consumer.entity)),
        "client_ip": x.client_ip,
        "started_at": int(x.started * 1000),
        "source": {"service": "upstream"}.get(x.source, "kong"),
        "workspace": x.match and x.match.route.entity["ws_id"],
        "workspace_name": "default",
    }
    root = {k: v for k, v in root.items() if v is not None}
    for key, value, mode in x.serialize_values:
        _set(root, key, value, mode)
    return root


def _set(root: dict[str, Any], key: str, value: Any, mode: str) -> None:
    *parents, last = key.split(".")
    node = root
    for part in parents:
        if part not in node and mode == "replace":
            return
        below = node.setdefault(part, {})
        if not isinstance(below, dict):
            raise TypeError(f"The key '{key}' could not be used as a serialize value.")
        node = below
    if mode == "add" if last in node else mode == "replace":
        return
    if value is None:
        node.pop(last, None)
    else:
        node[last] = value
