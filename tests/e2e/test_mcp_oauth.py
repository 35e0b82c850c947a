"""Access tokens in the place of keys, and what tells a client where to get one (RFC 9728)."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from gateway import Gateway, Running
from issuer import access_token
from support import until

pytestmark = pytest.mark.e2e

METADATA = "https://ai.example.com/.well-known/oauth-protected-resource/v1/mcp/api"
ENDPOINT = "/v1/mcp/api"
Send: TypeAlias = Callable[..., tuple[int, dict[str, str], Any]]
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.fixture
def send(gateway: Gateway) -> Send:
    if isinstance(gateway.stack, Running):
        pytest.skip("the issuer's keys are known only where the tests start the gateway themselves")
    address = urllib.parse.urlsplit(gateway.client("tooling").url).netloc

    def made(raw: bytes, path: str = ENDPOINT, verb: str = "POST", **headers: str) -> Any:
        connection = http.client.HTTPConnection(address, timeout=30)
        try:
            connection.request(verb, path, raw, {"Content-Type": "application/json", **headers})
            reply = connection.getresponse()
            body = json.loads(reply.read())
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, body
        finally:
            connection.close()

    return made


def call(tool: str, **arguments: object) -> bytes:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": "a-1", "method": "tools/call", "params": params}).encode()


@pytest.mark.parametrize("path", ["", "/v1/mcp", "/v1/mcp/api", "/v1/mcp/nobodys"])
def test_the_metadata_says_where_tokens_come_from(send: Send, path: str) -> None:
    status, headers, found = send(b"", f"/.well-known/oauth-protected-resource{path}", "GET")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert found == {
        "resource": f"https://ai.example.com{path or '/v1/mcp'}",
        "authorization_servers": ["https://login.example.com"],
        "bearer_methods_supported": ["header"],
    }


@pytest.mark.parametrize("shown", ["", "Bearer nobody", "nobody"])
def test_without_a_key_a_client_learns_where_to_get_a_token(send: Send, shown: str) -> None:
    status, headers, _ = send(PING, Authorization=shown)
    assert (status, headers["www-authenticate"]) == (401, f'Bearer resource_metadata="{METADATA}"')


def test_a_token_is_as_good_as_a_key(send: Send) -> None:
    shown = {"Authorization": f"Bearer {access_token()}"}
    assert send(PING, **shown)[0] == 200
    status, _, found = send(call("get_weather", city="Bern"), **shown)
    assert (status, found["result"]["isError"]) == (200, False)
    poisoned = send(call("get_weather", city="poisoned"), **shown)[2]["result"]
    assert (poisoned["isError"], "password" in json.dumps(poisoned)) == (True, False)
    seen = send(call("get_seen"), **shown)[2]
    assert "eyJ" not in json.dumps(seen)  # the API doesn't get it
    # No list of access names this caller, until its scopes do.
    assert send(call("place_order", body={"item": "x"}), **shown)[2]["error"]["message"] == "Unknown tool"


def test_who_shows_a_token_asks_models_without_a_key(send: Send, gateway: Gateway) -> None:
    shown = {"Authorization": f"Bearer {access_token()}"}
    question = gateway.fresh("Who pays for {n}?")
    status, _, found = send(call("ask-mock-small", prompt=question), "/v1/mcp/models", **shown)
    assert (status, found["result"]["isError"]) == (200, False)
    assert question in found["result"]["structuredContent"]["text"]

    def records() -> list[dict[str, Any]]:
        files = gateway.stack.audit_dir.rglob("audit*.jsonl")
        lines = [line for file in files for line in file.read_text("utf-8").splitlines() if question in line]
        return [record for line in lines if "request" in (record := json.loads(line))]

    made = until(records, lambda seen: len(seen) == 2, what="the records of both")
    assert {record["tenant"] for record in made} == {"tooling"}
    assert len({record["key"]["id"] for record in made}) == 1


@pytest.mark.parametrize(
    "changes", [{"exp": 1}, {"aud": "x"}, {"org": "acme"}, {"org": None}, {"iss": "https://evil.example"}]
)
def test_no_other_token_is_taken(send: Send, changes: dict[str, object]) -> None:
    status, headers, found = send(PING, Authorization=f"Bearer {access_token(**changes)}")
    assert (status, found["error"]["code"]) == (401, -32600)
    assert headers["www-authenticate"].startswith(
        f'Bearer resource_metadata="{METADATA}", error="invalid_token"'
    )


def test_a_token_opens_nothing_else(send: Send) -> None:
    shown = {"Authorization": f"Bearer {access_token()}"}
    assert send(b'{"model":"x","messages":[]}', "/v1/chat/completions", **shown)[0] == 401
    # A tenant's name in a header says nothing.
    named = {"X-Consumer-Custom-ID": "tooling", "X-Consumer-Username": "tenant_tooling"}
    assert send(PING, Authorization="Bearer eyJ.a.b", **named)[0] == 401
