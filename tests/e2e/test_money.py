"""Budgets and limits on tokens on a whole gateway: what requests hold, what is told, and what they are charged."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tenantgate.devhost.client import Client, Reply
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.ledger import Used
from tenantgate.limits.core.rules import Counted, Rule, Window
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.core.records import ModelPolicy, Routing, read_record, write_record
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

from gateway import Gateway
from support import lazily, until

if TYPE_CHECKING:
    import openai
else:
    openai = lazily("openai")

pytestmark = pytest.mark.e2e

TOKEN = 10**6
"""Nano-dollars of a token of the dear models."""


class Spending:
    """The tenant, and what its budgets' counters say."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.client = gateway.endpoint("spending")
        host, _, port = gateway.stack.redis_url.partition("//")[2].partition("/")[0].partition(":")
        self._ledger = RedisLedger(connect(RedisConfig(host=host, port=int(port), timeout_ms=2000)))

    def chat(self, model: str, prompt: str = "", **params: object) -> Reply:
        return self.client.chat(prompt or self.gateway.fresh(), model=model, **params)

    def room(self, budget: str) -> tuple[int, int]:
        """Nano-dollars that are used and held."""
        rule = Rule(name=budget, counted=Counted.COST, most=0, window=Window(unit="month"))
        (room,) = self._ledger.rooms(
            TenantId("spending"), [Used(counter_name(rule, ""), rule.window, 0, rule.counted)]
        )
        return room.used, room.held

    def settled(self, budget: str, beyond: int = 0) -> int:
        """What is used of a budget once nothing is held of it and more than that is used."""
        used, _ = until(
            lambda: self.room(budget), lambda room: room[1] == 0 and room[0] > beyond, what="a budget's room"
        )
        return int(used)


@pytest.fixture
def spending(gateway: Gateway) -> Iterator[Spending]:
    with gateway.redis() as store:
        store.flushall()
    return Spending(gateway)


def cost(reply: Reply) -> int:
    usage = reply.json["usage"]
    return int(usage["total_tokens"]) * TOKEN


def test_a_budget_is_used_up_by_what_replies_cost(spending: Spending) -> None:
    prompt = spending.gateway.fresh()
    first = spending.chat("finite", prompt)
    assert first.status == 200
    assert first.headers["x-ai-ratelimit-limit-month-finite"] == "0.05"
    assert spending.settled("finite") == cost(first)
    # An answer from the cache costs nothing.
    assert spending.chat("finite", prompt).cache == "Hit"
    assert spending.settled("finite") == cost(first)
    second = spending.chat("finite")
    assert second.status == 200
    assert spending.settled("finite", cost(first)) == cost(first) + cost(second)
    refused = spending.chat("finite")
    assert refused.status == 429
    assert refused.json["error"]["code"] == "budget_exhausted"
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-ai-ratelimit-remaining-month-finite"] == "0"
    assert not [name for name in refused.headers if "streamed" in name or "falling" in name]


def test_streams_are_charged_to_their_end_or_as_held(spending: Spending) -> None:
    stream = {"stream": True, "max_tokens": 500}
    assert spending.chat("streamed", **stream).status == 200
    whole = spending.settled("streamed")
    assert 20 * TOKEN < whole < 100 * TOKEN
    body = json.dumps(
        {"model": "streamed", "messages": [{"role": "user", "content": spending.gateway.fresh()}], **stream}
    )
    with spending.gateway.stack.mock_behaviour(chunk_ms=300):
        with spending.client.opened(body.encode()) as response:
            assert response.status == 200
            assert response.read1(10)
        assert spending.settled("streamed", whole) >= whole + 500 * TOKEN


def test_what_a_provider_says_of_the_gateways_account_stays_here(spending: Spending) -> None:
    theirs = {"X-RateLimit-Remaining-Requests": "77", "anthropic-ratelimit-tokens-limit": "88"}
    with spending.gateway.stack.mock_behaviour(headers={**theirs, "X-RateLimit-Limit-Tokens": "99"}):
        reply = spending.chat("counted", headers={"X-End-User": "dee"})
    assert reply.status == 200
    found = {name: value for name, value in reply.headers.items() if "ratelimit-" in name}
    assert found["x-ratelimit-remaining-requests"] == "0"
    assert found["x-ratelimit-limit-requests"] == "1"
    assert not {"77", "88", "99"} & set(found.values())


def test_a_provider_that_is_not_reached_costs_nothing(spending: Spending) -> None:
    with spending.gateway.stack.mock_behaviour(status=500):
        assert spending.chat("streamed").status == 500
    until(lambda: spending.room("streamed"), lambda room: room == (0, 0), what="a budget's room")


def test_what_no_engine_has_seen_is_charged_by_the_next(spending: Spending) -> None:
    gateway, replies = spending.gateway, [spending.chat("streamed")]
    serving = gateway.serving()
    for pid in gateway.engines():
        os.kill(pid, signal.SIGKILL)
    try:
        while "x-ai-ratelimit-limit-month-streamed" in replies[-1].headers:
            replies.append(spending.chat("streamed"))
    finally:
        gateway.whole_again(serving)
    replies.append(spending.chat("streamed"))
    assert {reply.status for reply in replies} == {200}
    paid = sum(cost(reply) for reply in replies)
    until(lambda: spending.room("streamed"), (paid, 0).__eq__, what="a budget's room")


def test_a_cheaper_model_answers_when_half_is_spent(spending: Spending) -> None:
    assert spending.chat("dear").json["model"] == "dear"
    spent = spending.settled("falling")
    reply = spending.chat("dear")
    assert (reply.status, reply.json["model"]) == (200, "cheap")
    assert reply.headers["x-tenantgate-degraded"] == "falling"
    assert spending.settled("falling", spent) == spent + cost(reply) // 100


def test_a_reply_is_shortened_to_what_is_left(spending: Spending) -> None:
    prompt = spending.gateway.fresh()
    with spending.gateway.stack.mock_behaviour(keep_bodies=True, finish_reason="length"):
        reply = spending.chat("tight", prompt, max_tokens=4000)
        asked = json.loads(spending.gateway.stack.mock_bodies()[-1])
    assert reply.status == 200
    assert 50 <= asked["max_tokens"] < 500
    # What our own limit has cut off is no answer for later.
    assert spending.chat("tight", prompt, max_tokens=100).cache == "Miss"


def test_numbers_are_those_that_the_provider_gets(spending: Spending) -> None:
    prompt = {"messages": [{"role": "user", "content": spending.gateway.fresh()}]}
    body = {"model": "tight", **prompt, "max_tokens": 100, "n": 6.0}
    with spending.gateway.stack.mock_behaviour(keep_bodies=True):
        packed = gzip.compress(json.dumps(body).encode())
        reply = spending.client.send(packed, headers={"Content-Encoding": "gzip"})
        asked = json.loads(spending.gateway.stack.mock_bodies()[-1])
    assert reply.status == 200
    assert asked["n"] * asked["max_tokens"] < 500


def test_completions_are_limited_where_they_say_nothing(spending: Spending) -> None:
    client = spending.gateway.endpoint("spending", "/v1/completions")
    body = {"model": "streamed", "prompt": spending.gateway.fresh()}
    with spending.gateway.stack.mock_behaviour(keep_bodies=True):
        assert client.send(json.dumps(body).encode()).status == 200
        assert json.loads(spending.gateway.stack.mock_bodies()[-1])["max_tokens"] == 16
    assert spending.settled("streamed") > 0


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_other_formats_are_limited_too(spending: Spending, path: str) -> None:
    prompt, client = spending.gateway.fresh(), spending.gateway.endpoint("spending", path)
    given = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 4000}
    if path == "/v1/responses":
        given = {"input": prompt, "max_output_tokens": 4000}
    with spending.gateway.stack.mock_behaviour(keep_bodies=True):
        reply = client.send(json.dumps({"model": "tight", **given}).encode())
        asked = json.loads(spending.gateway.stack.mock_bodies()[-1])
    assert reply.status == 200
    assert 50 <= asked["max_tokens"] < 500
    assert 20 * TOKEN < spending.settled("tight") < 100 * TOKEN


def test_keys_and_end_users_are_counted_apart(spending: Spending) -> None:
    first = spending.client
    second = Client(first.url, spending.gateway.stack.environ["DECK_SPENDING_SECOND_API_KEY"], first.model)

    def ask(client: Client, user: str) -> int:
        headers = {"X-End-User": user}
        return client.chat(spending.gateway.fresh(), model="counted", headers=headers).status

    assert [ask(first, "ann"), ask(first, "ann"), ask(second, "ann")] == [200, 429, 429]
    assert [ask(first, "bob"), ask(first, "cy"), ask(second, "cy")] == [200, 429, 200]


def test_a_full_provider_leaves_requests_to_the_next_and_then_to_nobody(spending: Spending) -> None:
    gateway = spending.gateway
    options = json.loads((gateway.stack.secrets_file.parent / "gateway.json").read_text())["options"]
    store = SqlitePolicyStore(Path(options["policy_path"]))
    before = store.record("spending") or b""
    policy = read_record("spending", before)
    (one,) = next(m for m in policy.models if m.model == "counted").targets
    targets = tuple(replace(one, id=f"{provider}/counted") for provider in ("mock", "other"))
    model = ModelPolicy(
        provider="tenantgate",
        model="either",
        route_name="llm.tenantgate.either.spending",
        targets=targets,
        routing=Routing(),
    )
    limit = {"name": "of-provider", "count": "requests", "limit": 1, "window": "1d", "per": "provider"}
    limits = (*policy.token_limits, {**limit, "match": {"models": ["either"]}})

    def publish(record: bytes) -> None:
        store.publish(
            {"spending": record}, expected=store.head(), note=PublishNote("a test", "", time.time())
        )

    publish(write_record(replace(policy, models=(*policy.models, model), token_limits=limits)))
    try:
        # Until the first one has ended it counts for both.
        for _ in range(2):
            until(lambda: spending.chat("either").status, lambda status: status == 200, what="an answer")
        refused = spending.chat("either")
        assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "this provider" in refused.json["error"]["message"]
    finally:
        publish(before)
        store.close()


def test_sdks_see_what_it_is(spending: Spending) -> None:
    spent = 0
    for _ in range(2):
        assert spending.chat("finite").status == 200
        spent = spending.settled("finite", spent)
    base = spending.client.url.partition("/chat/")[0]
    with (
        openai.OpenAI(base_url=base, api_key=spending.client.key, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as raised,
    ):
        client.chat.completions.create(
            model="finite", messages=[{"role": "user", "content": spending.gateway.fresh()}]
        )
    assert (raised.value.code, raised.value.type) == ("budget_exhausted", "insufficient_quota")
