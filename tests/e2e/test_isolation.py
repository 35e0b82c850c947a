"""What a tenant can do to reach another one's models, cache or limits: nothing, by whatever part of a request."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Sequence

import pytest

from tenantgate.devhost.client import Client

from gateway import Gateway
from support import until

pytestmark = pytest.mark.e2e


def raw(client: Client, headers: Sequence[tuple[str, str]], body: bytes, path: str = "") -> tuple[int, str]:
    """Status and body of a request with exactly these headers, in this order, a name as often as given."""
    at = urllib.parse.urlsplit(client.url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    try:
        connection.putrequest("POST", path or at.path, skip_host=True)
        for name, value in (
            *headers,
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
        ):
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "name",
    [
        "smart",
        "fast",
        "mock-large",
        "mock/mock-large",
        "naming/mock/mock-large",
        "../naming/mock-large",
        "naming",
    ],
)
def test_another_tenants_model_by_the_body(gateway: Gateway, name: str) -> None:
    before = gateway.stack.mock_count()
    reply = gateway.endpoint("acme").chat(gateway.fresh(), model=name)
    assert reply.status in (403, 404)
    assert "smart" not in reply.json["error"]["message"].replace(f"model {name} ", "")
    assert gateway.stack.mock_count() == before


@pytest.mark.parametrize(
    "path",
    [
        "/naming/mock/mock-large/chat/completions",
        "/naming/mock/mock-small/chat/completions",
        "/%6eaming/mock/mock-small/chat/completions",
        "/naming%2fmock/mock/mock-small/chat/completions",
        "/acme/../naming/mock/mock-small/chat/completions",
        "/acme/mock/../../naming/mock/mock-small/chat/completions",
        "//naming/mock/mock-small/chat/completions",
        "/v1/llm/mock/mock-large/chat/completions",
        "/v1/llm/mock/mock-small%2f..%2fmock-large/chat/completions",
        "/v1/llm/naming/mock/mock-large/chat/completions",
        "/acme/mock/mock-large/chat/completions",
    ],
)
def test_another_tenants_model_by_the_path(gateway: Gateway, path: str) -> None:
    client, before = gateway.endpoint("acme"), gateway.stack.mock_count()
    body = json.dumps({"messages": [{"role": "user", "content": gateway.fresh()}]}).encode()
    status, said = raw(client, [("Host", "gateway"), ("apikey", client.key)], body, path)
    assert status in (400, 403, 404)
    assert "smart" not in said
    assert gateway.stack.mock_count() == before


CLAIMS = (
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "X-Authenticated-Groups",
    "X-Anonymous-Consumer",
    "X-Tenantgate-Tenant",
    "X-Tenantgate-Model",
    "X-Tenantgate-Decision",
    "X-Tenant-ID",
    "X-Forwarded-Prefix",
    "X-Forwarded-Path",
    "X-Original-URL",
    "X-HTTP-Method-Override",
    "OpenAI-Organization",
    "OpenAI-Project",
    "tenantgate_request",
    "tenantgate_decision",
)


def test_another_tenant_by_headers_and_query(gateway: Gateway) -> None:
    """The cache, the models and the limits stay those of the key."""
    question, claims = gateway.fresh(), dict.fromkeys(CLAIMS, "naming")
    owner = gateway.endpoint("naming")
    until(lambda: owner.chat(question, model="mock-small").cache, lambda c: c == "Hit", what="cache status")
    for query in ("", "?tenant=naming&consumer=naming&provider=mock&model=mock-large&apikey=naming"):
        acme = gateway.endpoint("acme", f"/v1/chat/completions{query}")
        asked = acme.chat(question, model="mock-small", headers=claims)
        assert (asked.status, asked.cache) == (200, "Miss" if not query else asked.cache)
        assert acme.chat(question, model="smart", headers=claims).status == 404
        listed = gateway.endpoint("acme", f"/v1/models{query}").send(b"", method="GET", headers=claims)
        assert [entry["id"] for entry in listed.json["data"]] == ["mock-small"]


def test_a_key_in_the_query_is_none(gateway: Gateway) -> None:
    client = gateway.endpoint("acme")
    for name in ("apikey", "key", "Authorization"):
        url = f"{client.url}?{name}={client.key}"
        assert Client(url, "", "").chat("hi", model="mock-small").status == 401


def test_two_keys(gateway: Gateway) -> None:
    """Of two in one header nobody is known, and `apikey` comes before Authorization, in whichever order they are."""
    acme, naming = gateway.endpoint("acme"), gateway.endpoint("naming")
    mine, other = ("apikey", acme.key), ("apikey", naming.key)
    bearer, others_bearer = ("Authorization", f"Bearer {acme.key}"), ("Authorization", f"Bearer {naming.key}")
    for headers, small, smart in (
        ([mine, other], 401, 401),
        ([other, mine], 401, 401),
        ([bearer, others_bearer], 400, 400),
        ([mine, others_bearer], 200, 404),
        ([others_bearer, mine], 200, 404),
        ([other, bearer], 200, 200),
        ([("apikey", f"{acme.key}, {naming.key}")], 401, 401),
    ):
        for model, expected in (("mock-small", small), ("smart", smart)):
            body = {"model": model, "messages": [{"role": "user", "content": gateway.fresh()}]}
            status, said = raw(acme, [("Host", "gateway"), *headers], json.dumps(body).encode())
            assert status == expected, said


def test_what_another_tenant_was_answered_is_asked_anew(gateway: Gateway) -> None:
    question = gateway.fresh()
    for tenant in ("acme", "globex", "naming"):
        client = gateway.endpoint(tenant)
        assert client.chat(question, model="mock-small").cache == "Miss"
        until(
            lambda client=client: client.chat(question, model="mock-small").cache,  # type: ignore[misc]
            lambda c: c == "Hit",
            what="cache status",
        )


def test_limits_of_others_stay_untouched(gateway: Gateway) -> None:
    with gateway.redis() as store:
        store.flushall()
    metered = gateway.endpoint("metered")
    claims = dict.fromkeys(CLAIMS, "metered")
    acme = gateway.endpoint("acme")
    for _ in range(4):
        assert acme.chat(gateway.fresh(), model="mock-small", headers=claims).status == 200
        assert gateway.endpoint("acme", "/metered/mock/mock-small/chat/completions").chat("hi").status == 403
    reply = metered.chat(gateway.fresh(), model="small", headers=dict.fromkeys(CLAIMS, "acme"))
    assert (reply.status, reply.headers["x-ratelimit-remaining-hour"]) == (200, "1")
