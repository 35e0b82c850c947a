"""What a tenant's application sees of the cache, through a whole gateway."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenantgate.devhost.client import Reply

from gateway import Gateway
from support import until, whole_lines

pytestmark = pytest.mark.e2e


def ask_until_hit(gateway: Gateway, tenant: str, prompt: str, **how: object):
    """Storing happens after the answer, so the first repeat may come too early."""
    client = gateway.client(tenant)
    return until(lambda: client.chat(prompt, **how), lambda r: r.cache == "Hit", what="cache status")


def test_a_repeat_is_served_from_the_cache_word_for_word(gateway: Gateway) -> None:
    prompt = gateway.fresh()
    first = gateway.client("acme").chat(prompt)
    assert (first.status, first.cache) == (200, "Miss")
    hit = ask_until_hit(gateway, "acme", prompt)
    assert hit.text == first.text
    assert hit.json["object"] == "chat.completion"
    assert int(hit.headers["age"]) >= 0
    assert 0 < int(hit.headers["x-cache-ttl"]) <= 3600
    assert hit.headers["x-cache-key"]


def test_a_paraphrase_is_served_with_its_similarity(gateway: Gateway) -> None:
    first = gateway.client("acme").chat("How do I reset my online banking password?")
    ask_until_hit(gateway, "acme", "How do I reset my online banking password?")
    hit = gateway.client("acme").chat("How can I reset my online banking password?")
    assert (hit.cache, hit.text) == ("Hit", first.text)
    assert 0.8 < float(hit.headers["x-cache-similarity"]) < 1


@pytest.mark.parametrize(
    ("stored", "near_miss"),
    [
        ("How many cars did we sell in 2023?", "How many cars did we sell in 2024?"),
        ("Find me a hotel with breakfast", "Find me a hotel without breakfast"),
        ("How do I convert 30 miles to kilometers?", "How do I convert 30 kilometers to miles?"),
        ("What is the capital of Austria?", "What is the capital of Australia?"),
        ("Can I cancel my order after it ships?", "Can I cancel my order before it ships?"),
        ("Why is my card not declined?", "Why is my card declined?"),
    ],
)
def test_a_near_miss_goes_to_the_provider(gateway: Gateway, stored: str, near_miss: str) -> None:
    ask_until_hit(gateway, "acme", stored)
    got = gateway.client("acme").chat(near_miss)
    assert got.cache == "Miss"


def test_another_tenant_never_gets_it(gateway: Gateway) -> None:
    prompt = gateway.fresh()
    ask_until_hit(gateway, "acme", prompt)
    other = gateway.client("globex").chat(prompt)
    assert (other.status, other.cache) == (200, "Miss")


def test_another_conversation_never_gets_it(gateway: Gateway) -> None:
    def about(city: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"What is {city} like in summer?"},
            {"role": "assistant", "content": "Warm."},
            {"role": "user", "content": "And in winter?"},
        ]

    client = gateway.client("acme")
    until(lambda: client.chat("", messages=about("Oslo")), lambda r: r.cache == "Hit", what="cache status")
    assert client.chat("", messages=about("Rome")).cache == "Miss"


@pytest.mark.parametrize("change", [{"temperature": 0.9}, {"max_tokens": 7}, {"seed": 3}])
def test_another_parameter_asks_anew(gateway: Gateway, change: dict[str, object]) -> None:
    prompt = gateway.fresh()
    ask_until_hit(gateway, "acme", prompt)
    assert gateway.client("acme").chat(prompt, **change).cache == "Miss"


def test_a_stream_flows_on_a_miss_and_is_replayed_as_stream_and_as_json(gateway: Gateway) -> None:
    prompt = gateway.fresh("Tell me about item {n} in a few sentences, please.")
    miss = gateway.client("acme").chat(prompt, stream=True)
    assert (miss.status, miss.cache) == (200, "Miss")
    assert miss.headers["content-type"].startswith("text/event-stream")
    assert len(miss.events) > 2
    streamed = ask_until_hit(gateway, "acme", prompt, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.text == miss.text
    assert streamed.events[-1]["choices"][0]["finish_reason"] == "stop"
    plain = gateway.client("acme").chat(prompt)
    assert (plain.cache, plain.text) == ("Hit", miss.text)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_with_more_than_its_text_is_not_stored_without_it(gateway: Gateway, stream: bool) -> None:
    prompt = gateway.fresh()
    with gateway.stack.mock_behaviour(refusal=True):
        first = gateway.client("acme").chat(prompt, stream=stream)
    assert (first.status, first.cache) == (200, "Miss")
    assert b"as far as I go" in first.body
    ask_until_hit(gateway, "acme", gateway.fresh())  # what was to be stored before this is by now
    assert gateway.client("acme").chat(prompt).cache == "Miss"


@pytest.mark.parametrize("directive", ["no-store", "no-cache"])
def test_cache_control_is_obeyed(gateway: Gateway, directive: str) -> None:
    prompt = gateway.fresh()
    ask_until_hit(gateway, "acme", prompt)
    got = gateway.client("acme").chat(prompt, headers={"Cache-Control": directive})
    assert got.status == 200
    assert got.cache in {"Bypass", "Refresh"}


def test_only_if_cached_never_reaches_the_provider(gateway: Gateway) -> None:
    got = gateway.client("acme").chat(gateway.fresh(), headers={"Cache-Control": "only-if-cached"})
    assert got.status == 504


def test_a_tenant_without_the_plugin_sees_none_of_it(gateway: Gateway) -> None:
    got = gateway.client("plain").chat(gateway.fresh())
    assert (got.status, got.cache) == (200, None)


def test_nothing_readable_lies_in_redis(gateway: Gateway) -> None:
    canary = "Canary-Zq81-Flamingo"
    ask_until_hit(gateway, "acme", f"What do you know about {canary}?")
    with gateway.redis() as store:
        for key in store.scan_iter():
            assert canary.encode() not in key
            if store.type(key) == b"string":
                assert canary.encode() not in (store.get(key) or b"")
            elif store.type(key) == b"hash":
                assert canary not in repr(store.hgetall(key))


def test_nothing_readable_lies_in_the_logs(gateway: Gateway) -> None:
    canary = "Canary-Xw55-Pelican"
    ask_until_hit(gateway, "acme", f"What do you know about {canary}?")
    gateway.client("acme").send(f'{{"messages": "{canary}"'.encode())
    for log in gateway.stack.logs():
        assert canary not in log.read_text(errors="replace"), log


def test_equal_requests_at_once_ask_the_provider_once(gateway: Gateway) -> None:
    client, stack = gateway.client("coalescing"), gateway.stack

    def at_once() -> tuple[list[Reply], int]:
        prompt, before = gateway.fresh(), stack.mock_count()
        # Long enough for all to come while the first one waits for the provider.
        with stack.mock_behaviour(latency_ms=400), ThreadPoolExecutor(5) as pool:
            replies = list(pool.map(lambda n: client.chat(prompt, stream=n % 2 == 1), range(5)))
        return replies, stack.mock_count() - before

    # On a busy machine the answer may take longer than anybody waits; then they all ask.
    replies, asked = until(at_once, lambda found: found[1] == 1, what="requests to the provider")
    assert asked == 1
    assert Counter(r.cache for r in replies) == {"Miss": 1, "Coalesced": 4}
    assert {(r.status, r.text) for r in replies} == {(200, replies[0].text)}
    assert [r.headers["content-type"].partition(";")[0] for r in replies] == [
        "application/json", "text/event-stream", "application/json", "text/event-stream", "application/json",
    ]  # fmt: skip
    wanted = next(r for r in replies if r.cache == "Coalesced").headers["x-kong-request-id"]
    lines = until(
        lambda: [line for line in whole_lines(stack.audit_dir / "audit.jsonl") if wanted.encode() in line],
        bool,
        what="record",
    )
    record = json.loads(lines[0])
    assert (record["response"]["cache_status"], record["outcome"]) == ("Coalesced", "cached")
