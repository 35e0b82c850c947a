"""What the provider receives is what the guard has read, whatever the client sends; or the request is refused."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import bodies
from bodies import MAIL, SECRET, said
from tenantgate.devhost.client import Client, Reply
from tenantgate.llm import Document, read

from gateway import MODEL, Gateway

pytestmark = pytest.mark.e2e

ERROR = {"message", "type", "param", "code"}
TENANTS = ("blocking", "alerting", "acme", "compressing")


@pytest.fixture
def gateway(gateway: Gateway) -> Iterator[Gateway]:
    """The gateway, whose mock provider keeps the bodies that it is sent."""
    with gateway.stack.mock_behaviour(keep_bodies=True):
        gateway.stack.mock_forget()
        yield gateway


def sent(gateway: Gateway) -> list[bytes]:
    """What the provider was sent since it was asked last."""
    found = gateway.stack.mock_bodies()
    gateway.stack.mock_forget()
    return found


def as_sent(body: Any) -> Any:
    """A document after ai-proxy: model and stream are set, streams asked for usage, and one parameter is left out."""
    made = {"stream": False, **body, "model": MODEL}
    if made["stream"]:
        given = body.get("stream_options")
        made["stream_options"] = {**(given if isinstance(given, dict) else {}), "include_usage": True}
    made.pop("top_k", None)
    return numbers(made)


def contents(body: Any) -> str:
    return json.dumps([message.get("content") for message in body["messages"]])


def numbers(value: Any) -> Any:
    """Numbers as doubles, flags as they are."""
    if isinstance(value, dict):
        return {k: numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [numbers(v) for v in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def send(client: Client, body: bytes, **headers: str) -> Reply:
    return client.send(body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def refused(reply: Reply, status: int) -> dict[str, Any]:
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (status, "application/json")
    error: dict[str, Any] = reply.json["error"]
    assert set(error) >= ERROR
    assert error["code"]
    return error


@pytest.mark.parametrize("tenant", TENANTS)
def test_what_two_parsers_could_read_differently_goes_nowhere(gateway: Gateway, tenant: str) -> None:
    client = gateway.client(tenant)
    for name, (body, status, code) in bodies.REFUSED.items():
        assert refused(client.send(body), status)["code"] == code, name
    for name, (body, param) in bodies.MISTYPED.items():
        assert refused(client.send(body), 400)["param"] == param, name
    for kind, fine in bodies.TYPES.items():
        reply = send(client, said(f'"{gateway.fresh()}"'), Content_Type=kind)
        assert reply.status == (200 if fine else 415), kind
    assert len(sent(gateway)) == sum(bodies.TYPES.values())
    refused(send(client, said(), Content_Encoding="gzip"), 415)
    refused(client.send(b""), 400)
    assert sent(gateway) == []


@pytest.mark.parametrize("name", bodies.KEPT | bodies.REWRITTEN)
def test_the_provider_gets_the_document_that_was_read(gateway: Gateway, name: str) -> None:
    raw = (bodies.KEPT | {k: v[0] for k, v in bodies.REWRITTEN.items()})[name]
    reply = gateway.client("alerting").send(raw, headers={"Cache-Control": "no-cache"})
    assert reply.status == 200
    found = read(raw)
    assert isinstance(found, Document)
    (body,) = sent(gateway)
    assert numbers(json.loads(body)) == as_sent(found.body)


def test_a_card_in_any_spelling_is_no_number_for_the_guard_and_a_card_for_the_provider(
    gateway: Gateway,
) -> None:
    client = gateway.client("alerting")
    for spelt in ("4111111111111111e0", "4.111111111111111e15", "4111111111111111.0", "411111111111111.1e1"):
        assert client.send(said(more=f',"x":{spelt}'), headers={"Cache-Control": "no-cache"}).status == 200
        found = read(said(more=f',"x":{spelt}'))
        assert isinstance(found, Document)
        assert found.body["x"] == 4111111111111111
        assert b"4111111111111111" in sent(gateway)[0]


def test_whatever_is_sent_the_provider_gets_what_was_read_or_nothing(gateway: Gateway) -> None:
    clients = [gateway.client(tenant) for tenant in ("blocking", "alerting")]
    outcomes = set()

    @given(bodies.mutated())
    @settings(
        max_examples=int(os.environ.get("BODIES", "60")),
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(raw: bytes) -> None:
        for client in clients:
            reply = client.send(raw, headers={"Cache-Control": "no-cache"})
            outcomes.add(reply.status)
            found, got = read(raw), sent(gateway)
            assert reply.status in (200, 400, 413), reply.status
            assert reply.status == 200 or (got == [] and set(reply.json["error"]) >= ERROR)
            for body in got:
                assert isinstance(found, Document)
                assert numbers(json.loads(body)) == as_sent(found.body)
                assert client is not clients[0] or SECRET not in contents(json.loads(body))
            assert isinstance(found, Document) or reply.status != 200

    check()
    assert outcomes >= {200, 400}


def test_forms_never_pass(gateway: Gateway) -> None:
    hidden = json.dumps(
        {"messages": [{"role": "user", "content": "hello"}], "x": f"&messages={MAIL}&messages=b"}
    )
    boundary = f'--b\r\nContent-Disposition: form-data; name="messages"\r\n\r\n{MAIL}\r\n--b--\r\n'
    for tenant in TENANTS:
        client = gateway.client(tenant)
        for body, kind in (
            (hidden, "application/x-www-form-urlencoded"),
            (urllib.parse.urlencode({"messages": MAIL}), "application/x-www-form-urlencoded; charset=utf-8"),
            (boundary, "multipart/form-data; boundary=b"),
            (boundary, "application/json; multipart/form-data; boundary=b"),
        ):
            assert (
                refused(send(client, body.encode(), Content_Type=kind), 415)["code"]
                == "unsupported_media_type"
            )
    assert sent(gateway) == []


def test_what_compression_takes_out_joins_nothing_that_the_guard_has_not_read(gateway: Gateway) -> None:
    for tags in ("<LLMLINGUA></LLMLINGUA>", "<LLMLINGUA> </LLMLINGUA>", "<LLMLINGUA>", "</LLMLINGUA>"):
        prompt = f"my key {SECRET[:10]}{tags}{SECRET[10:]} " + "and so on and on. " * 80
        gateway.client("pressing").chat(prompt)
        for body in sent(gateway):
            assert SECRET.encode() not in body


def test_the_clients_headers_and_query_end_at_the_gateway(gateway: Gateway) -> None:
    client, canary = gateway.client("acme"), "canary-pelican"
    names = (
        "Cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "OpenAI-Organization",
        "OpenAI-Project",
        "anthropic-beta",
        "anthropic-version",
        "traceparent",
        "tracestate",
        "baggage",
        "User-Agent",
        "Referer",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "Forwarded",
        "Via",
        "TE",
        "Accept",
        "Accept-Language",
        "X-Request-ID",
        "X_Under_Score",
        "X-Anything",
        "Proxy-Authorization",
        "From",
        "Range",
        "If-Match",
        "Expect-CT",
        "X-Consumer-Custom-ID",
    )
    headers = dict.fromkeys(names, canary)
    flood = {f"A{i}": "1" for i in range(80)}
    client = Client(client.url + f"?{canary}={canary}&api-version=1", client.key, client.model)
    reply = client.chat(gateway.fresh(), headers={**flood, **headers, "X-Last": canary})
    assert reply.status == 200
    (record,) = gateway.stack.mock_requests()
    assert canary not in json.dumps({k: v for k, v in record.items() if k != "body"})
    assert record["query"] == ""
    told = {name.lower() for name in record["headers"]}
    assert told <= {
        "host",
        "content-length",
        "content-type",
        "accept",
        "accept-encoding",
        "user-agent",
        "connection",
        "x-real-ip",
        "x-kong-request-id",
    }


def test_errors_of_the_gateway_itself_have_openais_shape(gateway: Gateway) -> None:
    client = gateway.client("acme")
    stranger = Client(client.url, "nobody's", client.model)
    nowhere = Client(client.url.replace("/mock/", "/nowhere/"), client.key, client.model)
    for accept in ("application/json", "text/event-stream", "text/html", "*/*"):
        for who, status, code in (
            (stranger, 401, "invalid_api_key"),
            (gateway.client("acme", key_of="globex"), 403, "permission_denied"),
            (nowhere, 404, "unknown_url"),
        ):
            assert refused(who.chat("hi", headers={"Accept": accept}), status)["code"] == code
        assert (
            refused(client.chat("hi", model="another", headers={"Accept": accept}), 400)["code"]
            == "invalid_request"
        )
        streamed = client.chat("hi", stream=True, model="another", headers={"Accept": accept})
        assert refused(streamed, 400)["code"] == "invalid_request"
        large = client.send(b'{"messages":"' + b"a" * (5 << 20) + b'"}', headers={"Accept": accept})
        assert refused(large, 413)["code"] == "request_too_large"
    assert "names the model mock-small" in client.chat("hi", model="another").json["error"]["message"]
    assert sent(gateway) == []


@pytest.mark.parametrize(
    "path", ["/v1/moderations", "/nobody/openai/gpt-4o-mini/models?limit=2", "/v1/responses/"]
)
def test_an_operation_that_isnt_there_has_it_too(gateway: Gateway, path: str) -> None:
    client = gateway.client("acme")
    url = urllib.parse.urljoin(client.url, path)
    for method in ("GET", "POST"):
        reply = Client(url, client.key, client.model).send(said(), method=method)
        assert refused(reply, 404)["code"] == "unknown_url"


def test_other_paths_of_the_gateway_keep_kongs_error(gateway: Gateway) -> None:
    client = gateway.client("acme")
    reply = Client(urllib.parse.urljoin(client.url, "/shop/carts?x=/models"), client.key, client.model).send(
        b"{}"
    )
    assert reply.status == 404
    assert "error" not in reply.json


def test_a_request_line_that_nginx_refuses_has_an_answer(
    request: pytest.FixtureRequest, gateway: Gateway
) -> None:
    if not request.config.getoption("--kong-bin"):
        pytest.skip("what nginx refuses, the embedded host takes")
    at = urllib.parse.urlsplit(gateway.client("acme").url)
    for line in (b"POST /v1/chat/completions%00 HTTP/1.1", b"GET /shop/%00 HTTP/1.1"):
        with socket.create_connection((at.hostname or "", at.port or 0), timeout=20) as connection:
            connection.sendall(line + b"\r\nHost: x\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_body_without_a_length_is_read_and_too_large_like_any_other(gateway: Gateway) -> None:
    client = gateway.client("acme")
    at = urllib.parse.urlsplit(client.url)
    for pieces, status in (([said()[:20], said()[20:]], 200), ([b"a" * 65536] * 90, 413)):
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
        headers = {"Content-Type": "application/json", "apikey": client.key}
        with contextlib.suppress(OSError):  # answered before the body's end
            connection.request("POST", at.path, iter(pieces), headers, encode_chunked=True)
        response = connection.getresponse()
        body = json.loads(response.read())
        assert response.status == status
        assert status == 200 or body["error"]["code"] == "request_too_large"
        connection.close()


def test_limits_and_failures_have_it_too_and_keep_their_headers(gateway: Gateway) -> None:
    limited = gateway.client("limited")
    replies = [limited.chat(gateway.fresh()) for _ in range(2)]
    assert refused(replies[1], 429)["code"] == "rate_limit_exceeded"
    assert replies[1].headers["retry-after"]
    assert replies[1].headers["x-ratelimit-remaining-hour"] == "0"
    to = gateway.client("unreachable")
    url = to.url.replace("/mock/", "/openai-compatible/")
    assert refused(Client(url, to.key, to.model).chat("hi"), 502)["code"] == "bad_gateway"


@pytest.mark.parametrize("stream", [False, True])
def test_a_providers_error_is_the_providers(gateway: Gateway, stream: bool) -> None:
    with gateway.stack.mock_behaviour(status=429):
        reply = gateway.client("alerting").chat(gateway.fresh(), stream=stream)
    assert reply.status == 429
    assert reply.json["error"]["message"] == "the mock provider was told to fail"


def test_a_text_too_long_to_be_checked_is_refused_with_the_reason(gateway: Gateway) -> None:
    reply = gateway.client("blocking").chat("all the same " * 90_000)
    error = refused(reply, 413)
    assert (error["code"], error["param"]) == ("request_too_large", "messages")
    assert "250000 at most" in error["message"]
    assert gateway.client("alerting").chat("all the same " * 30_000).status == 200


def test_a_blocked_reply_names_its_request(gateway: Gateway) -> None:
    reply = gateway.client("replying").chat("say 4111 1111 1111 1111 to me", stream=True)
    assert refused(reply, 400)["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "bearer "])
def test_the_case_of_bearer_does_not_count(gateway: Gateway, scheme: str) -> None:
    client = gateway.client("acme")
    at = urllib.parse.urlsplit(client.url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    headers = {"Content-Type": "application/json", "Authorization": f"{scheme} {client.key}"}
    connection.request("POST", at.path, said(f'"{gateway.fresh()}"'), headers)
    assert connection.getresponse().status == 200
    connection.close()
