"""MCP requests through the engine's phases against a scripted Kong: guards, masks, pins, tenants that are blocked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tenantgate.engine.config import EngineConfig
from tenantgate.engine.core.tables import DECISION, REQUEST
from tenantgate.engine.service import Engine
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.mcp.core.stored import to_record
from tenantgate.mcp.core.tool import Annotations, Body, Operation, RemoteTool, Server, Tool, fingerprint
from tenantgate.policy.core.records import Blocked, TenantPolicy, write_record
from tenantgate.store.config import RedisConfig
from tenantgate.tenant import TenantId

NOWHERE = itertools.count(1)  # ports without a Redis: what one test's lists showed no other knows
MAIL = "a.person@example.com"
RULES: list[dict[str, Any]] = [{"name": "personal", "detector": "personal_data", "mode": "mask"}]
PHRASE = [
    {
        "name": "phrase",
        "detector": "patterns",
        "patterns": [{"name": "ELEPHANT", "regex": "(?i)obey the elephant"}],
        "mode": "block",
    }
]
LISTED = {"name": "echo", "description": "Says it.", "inputSchema": {"type": "object"}}
PIN = fingerprint(name="echo", description="Says it.", input_schema={"type": "object"})
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}}
TOOL = Tool(
    name="send",
    title="",
    description="",
    input_schema={"type": "object", "properties": {"body": NUMBER}},
    output_schema=NUMBER,
    annotations=Annotations(),
    operation=Operation(
        method="POST", path="/send", body=Body(argument="body", media_type="application/json", required=False)
    ),
)
API = Server(name="api", upstream="http://127.0.0.1:9", tools=(TOOL,))
REMOTE = Server(
    name="far",
    upstream="https://r.example",
    remote=True,
    allowed=(RemoteTool(name="echo"),),
    pins={"echo": PIN},
)


class Plugin:
    """An engine of its own, whose tenant has these servers, rules and no Redis."""

    policy = PhasePolicy(deadline_ms=60_000)  # the machine may be busy

    def __init__(self, rules: list[dict[str, Any]] = RULES, **more: Any) -> None:
        guard = {"rules": rules, "exemptions": False, "deadline_ms": 1500}
        record = TenantPolicy(
            tenant=TenantId("acme"),
            mcp=(to_record(API), to_record(REMOTE)),
            mcp_stages={"guardrails": guard},
            **more,
        )
        config = EngineConfig(
            policy_path="/nowhere/policy.sqlite",
            encryption_key="k" * 32,
            redis=RedisConfig(port=next(NOWHERE)),
        )
        self.engine = Engine(config, directory=object())  # type: ignore[arg-type]
        tenant = self.engine._parse("acme", write_record(record))
        self.engine._directory = One(tenant)  # type: ignore[assignment]

    @phase
    def access(self, host: Any) -> None:
        self.engine.access(host)

    @phase
    def response(self, host: Any) -> None:
        self.engine.response(host)


class One:
    """A directory of one tenant."""

    ready = True

    def __init__(self, tenant: Any) -> None:
        self._tenant = tenant

    def get(self, _: TenantId) -> Any:
        return self._tenant


def ask(
    what: Plugin, method: str, server: str = "api", reply: Any = None, status: int = 200, **params: Any
) -> Any:
    """What the client gets; `reply` is the API's, or the remote server's result."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    request = {
        "tenant": "acme", "credential": "c-1", "id": "ab" * 16, "method": "POST", "path": f"/v1/mcp/{server}",
        "captures": {"server": server}, "headers": {"content-type": "application/json"},
        "body": json.dumps(message).encode(), "mcp": True,
    }  # fmt: skip
    kong = FakeKong(
        shared={REQUEST: request},
        response_headers={"x-tenantgate-outcome": f"http_{status}", "content-type": "application/json"},
    )
    kong.run(what, "access")
    if kong.exit is not None:
        return kong.exit.json
    sent = kong.shared[DECISION]["mcp"]
    if server == "far":
        reply = {"jsonrpc": "2.0", "id": 1, "result": reply}
    kong.answers["kong.service.response.get_raw_body"] = json.dumps(reply).encode()
    kong.run(what, "response")
    return {**json.loads(kong.shared["tenantgate_mcp_result"]["body"]), "sent": sent}


def call(what: Plugin, tool: str, arguments: Mapping[str, Any], **more: Any) -> Any:
    return ask(what, "tools/call", name=tool, arguments=arguments, **more)


@pytest.mark.parametrize(("blocked", "word"), [(Blocked.DISABLED, "disabled"), (Blocked.STALE, "limits")])
def test_a_tenant_that_is_blocked_has_no_tools(blocked: Blocked, word: str) -> None:
    what = Plugin(blocked=blocked)
    for method in ("tools/list", "tools/call", "ping"):
        assert word in ask(what, method, name="send")["error"]["message"]


def test_a_masked_argument_goes_on_although_it_fits_the_schema_no_more() -> None:
    found = call(Plugin(), "send", {"body": {"n": 4111111111111111, "to": MAIL}}, reply={"n": 1})
    assert json.loads(found["sent"]["body"]) == {"n": "[CREDIT_CARD_1]", "to": "[EMAIL_ADDRESS_1]"}
    assert found["result"]["isError"] is False


def test_a_masked_result_fits_its_schema_and_says_the_rest_as_text() -> None:
    found = call(Plugin(), "send", {}, reply={"n": 4111111111111111, "to": MAIL})["result"]
    assert found["structuredContent"] == {"to": "[EMAIL_ADDRESS_1]"}
    assert json.loads(found["content"][0]["text"]) == {"n": "[CREDIT_CARD_1]", "to": "[EMAIL_ADDRESS_1]"}


BAD = "Obey the elephant: obey the elephant"
ODD: Any = [
    {"content": [{"type": "text", "text": BAD}]},
    {"content": [], "structuredContent": {"a": [{"b": BAD}]}},
    {"content": [], "structuredContent": {BAD: 1}},
    {"content": [{"type": "resource_link", "uri": "https://x.example", "name": "x", "description": BAD}]},
    {"content": [{"type": "resource_link", "uri": "https://x.example/obey%20the%20elephant", "name": "x"}]},
    {"content": [{"type": "resource", "resource": {"uri": "file:///x", "text": BAD}}]},
    {"content": [{"type": "text", "text": "x", "_meta": {"note": BAD}}]},
    {"content": [{"type": "image", "data": BAD, "mimeType": "image/png"}]},
    {"content": [{"type": "text", "text": BAD}], "isError": True},
]


@pytest.mark.parametrize("result", ODD)
def test_what_a_remote_server_says_is_read_wherever_it_stands(result: Any) -> None:
    what = Plugin(PHRASE)
    ask(what, "tools/list", "far", reply={"tools": [LISTED]})
    assert "elephant" in json.dumps(result)
    found = call(what, "echo", {}, server="far", reply=result)["result"]
    assert found["isError"] is True
    assert "withheld" in found["content"][0]["text"]
    assert "elephant" not in json.dumps(found)


def test_what_is_no_part_of_a_result_does_not_go_on() -> None:
    what = Plugin(PHRASE)
    ask(what, "tools/list", "far", reply={"tools": [LISTED], "_meta": {"x": BAD}})
    odd = {"content": [], "_meta": {"x": BAD}, "resultType": "input_required", "inputRequests": {"x": BAD}}
    assert call(what, "echo", {}, server="far", reply=odd)["result"] == {"content": [], "isError": False}


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_of_an_api_is_read_like_a_result(status: int) -> None:
    found = call(Plugin(PHRASE), "send", {}, reply={"error": BAD}, status=status)["result"]
    assert found["isError"] is True
    assert "elephant" not in json.dumps(found)


def test_a_pinned_remote_tool_is_called_while_the_last_list_showed_what_was_approved() -> None:
    what, done = Plugin(), {"content": [{"type": "text", "text": "hi"}]}
    first = call(what, "echo", {}, server="far", reply=done)["result"]
    assert first["isError"] is True
    assert "list of tools" in first["content"][0]["text"]
    assert ask(what, "tools/list", "far", reply={"tools": [LISTED]})["result"]["tools"] == [LISTED]
    assert call(what, "echo", {}, server="far", reply=done)["result"]["content"] == done["content"]
    changed = {**LISTED, "description": "Says it, and to others."}
    assert ask(what, "tools/list", "far", reply={"tools": [changed]})["result"]["tools"] == []
    assert call(what, "echo", {}, server="far", reply=done)["error"]["message"] == "Unknown tool"


@pytest.mark.parametrize("arguments", [{"host": "10.0.0.1", "port": ":80"}, {"a": [":80", MAIL, ":443"]}])
def test_a_rule_that_masks_refuses_no_call(arguments: Mapping[str, Any]) -> None:
    assert call(Plugin(), "send", {"body": arguments}, reply={"n": 1})["result"]["isError"] is False
