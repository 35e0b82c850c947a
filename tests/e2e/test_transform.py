"""Requests as the tenant's policy wants them. On the embedded host, or the Kong of --kong-bin."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway import Gateway

pytestmark = pytest.mark.e2e


def sent(gateway: Gateway, question: str, **more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The body that the provider got, and the headers."""
    gateway.stack.mock_forget()
    headers = {"X-Team": "blue", "X-Other": "red", "X-End-User": "jane"}
    with gateway.stack.mock_behaviour(keep_bodies=True):
        reply = gateway.endpoint("transforming").chat(question, headers=headers, **more)
        assert reply.status == 200, reply.body
        assert reply.text
        (body,) = gateway.stack.mock_bodies()
        (record,) = gateway.stack.mock_requests()
    return json.loads(body), {name.lower(): value for name, value in record["headers"].items()}


@pytest.mark.parametrize("stream", [False, True])
def test_the_provider_gets_the_request_as_the_policy_wants_it(gateway: Gateway, stream: bool) -> None:
    question = gateway.fresh()
    body, headers = sent(
        gateway, question, model="mock-small", stream=stream, temperature=1.5, user="joe", seed=7
    )
    assert [m["content"] for m in body["messages"]] == ["Be kind.", question]
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.5, 0.9, 7)
    assert 50 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert body["user"].startswith("tg-")
    assert headers["x-team"] == "blue"
    assert "x-other" not in headers


def test_a_models_own_section_comes_before_the_tenants(gateway: Gateway) -> None:
    body, headers = sent(gateway, gateway.fresh(), model="mock-large", user="joe")
    assert "user" not in body
    assert "x-team" not in headers
    assert body["messages"][0]["content"] == "Be kind."


def test_the_cache_knows_a_changed_request_again(gateway: Gateway) -> None:
    client, question = gateway.endpoint("transforming"), gateway.fresh()
    assert client.chat(question, model="mock-small", temperature=1.5).cache == "Miss"
    # Both are lowered to the same.
    assert client.chat(question, model="mock-small", temperature=1.7).cache == "Hit"
