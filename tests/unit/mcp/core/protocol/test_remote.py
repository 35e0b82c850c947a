"""Remote servers: what they are asked, and what of their answers goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.mcp.core.protocol.remote import listed_tools, remote_request, response_in, seen_in
from tenantgate.mcp.core.tool import RemoteTool, Server, fingerprint

ANSWER = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
TOOL = {"name": "echo", "description": "Says it.", "inputSchema": {"type": "object"}}


def remote(**more: Any) -> Server:
    return Server(
        name="r", upstream="https://mcp.example/mcp", remote=True, allowed=(RemoteTool(name="echo"),), **more
    )


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("application/json", json.dumps(ANSWER)),
        ("text/event-stream", f"event: message\ndata: {json.dumps(ANSWER)}\n\n"),
        (
            "text/event-stream",
            f'data: {{"jsonrpc":"2.0","method":"x"}}\r\n\r\ndata:{json.dumps(ANSWER)}\r\n\r\n',
        ),
        ("text/event-stream", f"data: {json.dumps(ANSWER)}\r\r"),
        ("text/event-stream; charset=utf-8", "data: {\ndata: " + json.dumps(ANSWER)[1:] + "\n\n"),
    ],
)
def test_an_answer_in_json_or_events(kind: str, raw: str) -> None:
    assert response_in(raw.encode(), kind) == ANSWER


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("application/json", b"<html>"),
        ("application/json", b'{"jsonrpc":"2.0","id":2,"result":{}}'),
        ("application/json", b'{"jsonrpc":"2.0","id":1,"result":[]}'),
        ("application/json", b'{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}'),
        ("text/event-stream", b"data: {\n\n"),
        ("", b""),
    ],
)
def test_what_is_no_answer(kind: str, raw: bytes) -> None:
    assert response_in(raw, kind) is None


def test_it_is_asked_in_its_revision() -> None:
    new = remote_request("2026-07-28", "tools/call", {"name": "echo"}, {"traceparent": "00-x"})
    old = remote_request("2025-06-18", "tools/list", {}, {})
    assert dict(new.headers)["Mcp-Name"] == "echo"
    assert json.loads(new.body)["params"]["_meta"]["traceparent"] == "00-x"
    assert "Mcp-Method" not in dict(old.headers)
    assert json.loads(old.body)["params"] == {}


def test_only_what_is_allowed_is_listed() -> None:
    result = {
        "tools": [
            {**TOOL, "name": "other"},
            "x",
            {"name": "echo"},
            {**TOOL, "_meta": {"x": 1}, "data": "x"},
            TOOL,
        ]
    }
    assert listed_tools(remote(), result, lambda _: True) == [TOOL]
    assert listed_tools(remote(), result, lambda _: False) == []
    assert listed_tools(remote(), {"tools": {}}, lambda _: True) == []


def test_a_description_that_changed_is_not_listed() -> None:
    pin = fingerprint(name="echo", description="Says it.", input_schema={"type": "object"})
    assert listed_tools(remote(pins={"echo": pin}), {"tools": [TOOL]}, lambda _: True) == [TOOL]
    changed = {**TOOL, "description": "Says it, and reads your mail."}
    for tools in ([changed], [TOOL, changed], [changed, TOOL]):
        assert listed_tools(remote(pins={"echo": pin}), {"tools": tools}, lambda _: True) == []
        assert seen_in(remote(pins={"echo": pin}), {"tools": tools})["echo"] != pin
    for odd in ({**TOOL, "inputSchema": "x"}, {"name": "echo"}):
        assert seen_in(remote(pins={"echo": pin}), {"tools": [TOOL, odd]}) == {"echo": ""}
    assert seen_in(remote(pins={"echo": pin}), {"tools": [TOOL, {"name": "free"}, 1]}) == {"echo": pin}
