"""Limits on a whole gateway: of a tenant, of a key, of a model; and without Redis."""

from __future__ import annotations

import pytest

from tenantgate.devhost.client import Client, Reply

from gateway import Gateway
from support import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def keys(gateway: Gateway) -> tuple[Client, Client]:
    """Clients with the tenant's two keys, nothing of which is counted yet."""
    with gateway.redis() as store:
        store.flushall()
    first = gateway.endpoint("metered")
    return first, Client(first.url, gateway.stack.environ["DECK_METERED_SECOND_API_KEY"], first.model)


def refused(reply: Reply, who: str) -> bool:
    found = reply.json["error"]
    assert (reply.status, found["type"], found["code"]) == (429, "requests", "rate_limit_exceeded")
    assert who in found["message"]
    assert int(reply.headers["retry-after"]) > 0
    assert reply.headers["ratelimit-remaining"] == "0"
    return True


def test_each_key_and_all_together(gateway: Gateway, keys: tuple[Client, Client]) -> None:
    first, second = keys
    for left in ("1", "0"):
        reply = first.chat(gateway.fresh(), model="small")
        assert reply.status == 200
        assert reply.headers["x-ratelimit-limit-hour"] == "2"
        assert reply.headers["x-ratelimit-remaining-hour"] == left
    assert refused(first.chat(gateway.fresh(), model="mock-small"), "this API key")
    assert second.chat(gateway.fresh(), model="mock/mock-small").status == 200
    assert refused(second.chat(gateway.fresh(), model="small"), "this account")
    # A refused request isn't counted: the second key has one left, which its model's own limit takes.
    assert second.chat(gateway.fresh(), model="mock-large").status == 200


def test_a_model_has_a_limit_of_its_own(gateway: Gateway, keys: tuple[Client, Client]) -> None:
    first, second = keys
    reply = first.chat(gateway.fresh(), model="mock-large")
    assert (reply.status, reply.headers["x-ratelimit-remaining-day"]) == (200, "0")
    assert refused(second.chat(gateway.fresh(), model="mock/mock-large"), "this model")
    by_path = gateway.endpoint("metered", "/v1/llm/mock/mock-large/chat/completions")
    assert refused(by_path.chat(gateway.fresh()), "this model")
    assert first.chat(gateway.fresh(), model="small").status == 200


def test_a_cached_answer_counts_too(gateway: Gateway, keys: tuple[Client, Client]) -> None:
    first, prompt = keys[0], gateway.fresh()
    assert [first.chat(prompt, model="small").status for _ in range(3)] == [200, 200, 429]


def test_other_tenants_are_not_counted(gateway: Gateway, keys: tuple[Client, Client]) -> None:
    assert [keys[0].chat(gateway.fresh(), model="small").status for _ in range(3)][-1] == 429
    reply = gateway.endpoint("acme").chat(gateway.fresh(), model="mock-small")
    assert reply.status == 200
    assert not [name for name in reply.headers if "ratelimit" in name]


def test_the_list_of_models_is_not_counted(gateway: Gateway, keys: tuple[Client, Client]) -> None:
    models = gateway.endpoint("metered", "/v1/models")
    assert {models.send(b"", method="GET").status for _ in range(5)} == {200}
    assert keys[0].chat(gateway.fresh(), model="small").status == 200


def test_without_redis_requests_pass_uncounted(gateway: Gateway, keys: tuple[Client, Client]) -> None:
    gateway.stack.kill_redis()
    try:
        replies = [keys[0].chat(gateway.fresh(), model="small") for _ in range(5)]
    finally:
        gateway.stack.start_redis()
    assert {reply.status for reply in replies} == {200}
    assert all("x-ratelimit-remaining-hour" not in reply.headers for reply in replies)
    until(lambda: keys[0].chat(gateway.fresh(), model="small").status, lambda s: s == 429, what="status")
