"""Marked texts where they belong and where they don't: none is in a log, a key of Redis, a stored value or a metric."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from gateway import Gateway, Running

pytestmark = pytest.mark.e2e

MARK = "Zq81Flamingo"
SECRET = f"sk-proj-{MARK}abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"
CHATS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/completions")
SERVERS = ("/v1/mcp", "/v1/mcp/api", "/v1/mcp/kept", "/v1/mcp/far", "/v1/mcp/models")
TENANTS = ("tooling", "transforming", "spending", "recovering", "blocking")
HEADERS = {
    "X-End-User": MARK,
    "X-Other": MARK,
    "Cookie": MARK,
    "X-Mcp-Caller": MARK,
    "X-Tenantgate-Order": MARK,
    "traceparent": MARK,
}
CHAT: Any = {
    "model": "mock-small",
    "messages": [{"role": "system", "content": MARK}, {"role": "user", "content": f"Why {MARK}? {SECRET}"}],
    "input": f"{MARK} {SECRET}",
    "prompt": MARK,
    "user": MARK,
    "max_tokens": 5,
}
ASKED: list[Any] = [
    CHAT,
    {**CHAT, "model": MARK, "temperature": MARK},
    {**CHAT, "stream": True, "tools": [{MARK: MARK}]},
    {MARK: [MARK]},
]
CALLS: list[tuple[str, Any]] = [
    ("get_weather", {"city": f"{MARK} {SECRET}"}),
    ("get_weather", {"city": "nowhere", MARK: SECRET}),
    ("get_seen", {}),
    ("echo", {"text": f"{MARK} {SECRET}"}),
    ("say", {"text": MARK}),
    ("ask-mock-small", {"prompt": f"Why {MARK}?", "system": SECRET}),
    ("ask-mock-small", {"messages": [{"role": MARK, "content": MARK}]}),
    (MARK, {MARK: MARK}),
]


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": MARK, "method": method, "params": params}


def sent() -> Iterator[tuple[str, bytes]]:
    """Requests: paths and bodies."""
    torn = [f'{{"{MARK}": '.encode(), MARK.encode()]
    for path in CHATS:
        yield from ((path, raw) for raw in [*(json.dumps(body).encode() for body in ASKED), *torn])
    calls = [rpc("tools/call", name=name, arguments=arguments) for name, arguments in CALLS]
    calls += [rpc(MARK, **{MARK: MARK}), {**rpc("ping"), "jsonrpc": MARK}]
    calls += [rpc("initialize", protocolVersion=MARK, clientInfo={"name": MARK, "version": MARK})]
    for path in SERVERS:
        yield from ((path, raw) for raw in [*(json.dumps(call).encode() for call in calls), *torn])


def kept(store: redis.Redis) -> Iterator[bytes]:
    """All names in Redis, and what is under them."""
    readers: dict[Any, Any] = {
        b"string": store.get,
        b"hash": store.hgetall,
        b"list": lambda key: store.lrange(key, 0, -1),
        b"set": store.smembers,
        b"zset": lambda key: store.zrange(key, 0, -1),
        b"stream": store.xrange,
    }
    for key in store.scan_iter():
        yield key
        yield repr(readers[store.type(key)](key)).encode()


def metrics(gateway: Gateway) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(gateway.stack.run_folder / "tenantgate.metrics.socket"))
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.slow
def test_no_text_of_a_client_is_where_people_look(gateway: Gateway) -> None:
    if isinstance(gateway.stack, Running):
        pytest.skip("its files are out of reach")
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(gateway.client("acme").url).netloc)
    keys = [*(gateway.stack.key(tenant) for tenant in TENANTS), f"{MARK}-key", f"eyJ{MARK}.eyJ{MARK}.{MARK}"]
    statuses = set()
    for key in keys:
        for path, raw in sent():
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **HEADERS}
            connection.request("POST", path, raw, headers)
            reply = connection.getresponse()
            reply.read()
            statuses.add(reply.status)
    connection.close()
    assert {200, 400, 401} <= statuses
    for log in gateway.stack.logs():
        assert MARK not in log.read_text("utf-8", "replace"), log
    with gateway.redis() as store:
        assert not any(MARK.encode() in text for text in kept(store))
    assert MARK.encode() not in metrics(gateway)
    for file in gateway.stack.audit_dir.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
