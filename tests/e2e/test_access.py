"""Who may use which route."""

from __future__ import annotations

import pytest

from tenantgate.devhost.client import Client

from gateway import Gateway

pytestmark = pytest.mark.e2e


def test_no_key_no_answer(gateway: Gateway) -> None:
    client = gateway.client("acme")
    got = Client(url=client.url, key="", model=client.model).chat("Hello")
    assert got.status == 401


def test_a_key_opens_its_own_tenants_paths_only(gateway: Gateway) -> None:
    assert gateway.client("acme", key_of="globex").chat("Hello").status == 403
    client = gateway.client("acme")
    nobodys = Client(client.url.replace("acme", "nobody"), client.key, client.model).chat("Hello")
    globexs = gateway.client("globex", key_of="acme").chat("Hello")
    # Whether the other one exists isn't told.
    assert (nobodys.status, nobodys.json["error"]["message"]) == (403, globexs.json["error"]["message"])


def test_the_gateway_names_each_request(gateway: Gateway) -> None:
    got = gateway.client("acme").chat(gateway.fresh())
    assert got.headers["x-request-id"]
    assert got.headers["x-kong-request-id"]


def test_the_credential_of_the_client_never_reaches_the_provider(gateway: Gateway) -> None:
    gateway.client("acme").chat(gateway.fresh(), headers={"Authorization": "Bearer client-made-this-up"})
    assert "client-made-this-up" not in gateway.stack.mock_headers_seen()
