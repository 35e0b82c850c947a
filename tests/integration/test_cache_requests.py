"""Requests to the plugin on a real Redis: settings, time, leaving clients, tenants at once, calls to Kong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from cache_rig import KEY, Rig, fresh_stores, load_plugin, status, use_small_models
from tenantgate import llm
from tenantgate.cache import service as cache_service
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.kong.testing import FakeKong
from tenantgate.store.redis_nodes import Node

ASKED, ALIKE = "please tell me what a sextant is made of", "please tell me what a sextant is made of now"
MOST_ON_MISS, MOST_ON_HIT = 5, 4
Trips = Callable[[Callable[[], FakeKong]], tuple[int, FakeKong]]


@pytest.fixture(autouse=True, params=["own", "others'"])
def _stored_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this process knows what it has stored; if not, it is to it as what other nodes store."""
    fresh_stores(monkeypatch, recent=100 if request.param == "own" else 0)


@pytest.fixture
def rig(redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Rig:
    use_small_models(monkeypatch)
    return Rig(redis_server.port)


def body_of(kong: FakeKong) -> Any:
    assert kong.exit is not None
    return kong.exit.json


def text_of(kong: FakeKong) -> str:
    return str(body_of(kong)["choices"][0]["message"]["content"])


# -- trips to Redis --------------------------------------------------------------------------------------


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    """How often Redis was asked by a call, and what that gave."""
    count, original, own = [0], Node.ask, threading.get_ident()

    def counting(node: Node, *args: Any) -> Any:
        count[0] += threading.get_ident() == own  # threads of the process ask for other reasons
        return original(node, *args)

    monkeypatch.setattr(Node, "ask", counting)

    def of(call: Callable[[], FakeKong]) -> tuple[int, FakeKong]:
        before = count[0]
        given = call()
        return count[0] - before, given

    return of


def test_a_miss_and_a_hit_take_one_trip(rig: Rig, trips: Trips) -> None:
    took, kong = trips(lambda: rig.access(ASKED))
    assert (took, status(kong)) == (1, "Miss")
    rig.log(kong)
    for asked, similar in ((ALIKE, True), (ASKED, False)):
        took, kong = trips(partial(rig.access, asked))
        assert (took, status(kong)) == (1, "Hit")
        assert kong.exit is not None
        assert ("x-cache-similarity" in kong.exit.headers) is similar


def test_an_exact_answer_that_is_not_wanted_costs_another_trip(
    rig: Rig, trips: Trips, later: Callable[[float], None]
) -> None:
    rig.ask(ASKED)
    later(200)
    took, kong = trips(lambda: rig.access(ASKED, headers={"Cache-Control": "max-age=100"}))
    assert (took, status(kong)) == (2, "Refresh")


def test_what_went_from_redis_is_asked_for_alone_once(rig: Rig, trips: Trips, store: redis.Redis) -> None:
    rig.ask(ASKED)
    store.flushall()
    trips(lambda: rig.access(ASKED))
    took, kong = trips(lambda: rig.access(ASKED))
    assert (took, status(kong)) == (1, "Miss")


# -- calls to Kong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"stream": True},
        {"headers": {"Cache-Control": "no-cache"}},
        {"headers": {"Cache-Control": "only-if-cached"}},
        {"n": 2},
        {"body": b"{"},
        {"tenant": None},
        {"headers": {"Cache-Control": "no-store"}},
    ],
)
def test_a_request_that_goes_on_costs_five_calls_at_most(rig: Rig, how: dict[str, Any]) -> None:
    assert len(rig.access(ASKED, **how).calls) <= MOST_ON_MISS


@pytest.mark.parametrize("asked", [ASKED, ALIKE])
@pytest.mark.parametrize("how", [{}, {"stream": True}, {"headers": {"Cache-Control": "max-age=60"}}])
def test_a_hit_costs_four_calls_at_most(rig: Rig, asked: str, how: dict[str, Any]) -> None:
    rig.ask(ASKED)
    hit = rig.access(asked, **how)
    assert status(hit) == "Hit"
    assert len(hit.calls) <= MOST_ON_HIT


def test_a_redis_that_is_gone_costs_no_call_more(rig: Rig) -> None:
    assert len(Rig(free_port()).access(ASKED).calls) <= MOST_ON_MISS


def test_a_hit_leaves_nothing_for_its_log(rig: Rig, store: redis.Redis) -> None:
    rig.ask(ASKED)
    hit = rig.access(ASKED)
    store.flushall()
    rig.log(hit)
    assert store.dbsize() == 0


# -- settings --------------------------------------------------------------------------------------------

BAD = [
    {},
    {"encryption_key": "short"},
    {"encryption_key": KEY, "cache_ttl": 0},
    {"encryption_key": KEY, "cache_ttl": "soon"},
    {"encryption_key": KEY, "max_wrong_rate": 2},
    {"encryption_key": KEY, "redis": {"port": 0}},
    {"encryption_key": KEY, "redis": "here"},
]


@pytest.mark.parametrize("config", BAD)
def test_a_bad_config_passes(config: dict[str, Any]) -> None:
    kong = FakeKong(consumer="acme", body=b'{"messages": [{"role": "user", "content": "q"}]}')
    kong.run(load_plugin().Plugin(config), "access")
    assert kong.exit is None


@pytest.mark.parametrize("config", BAD)
def test_a_bad_config_rejects_where_asked_to(config: dict[str, Any]) -> None:
    kong = FakeKong(consumer="acme", body=b'{"messages": [{"role": "user", "content": "canary-pelican"}]}')
    kong.run(load_plugin().Plugin({**config, "on_error": "reject"}), "access")
    assert kong.exit is not None
    assert kong.exit.status == 503
    assert set(kong.exit.json["error"]) == {"message", "type", "param", "code"}
    assert b"pelican" not in kong.exit.body
    assert KEY.encode() not in kong.exit.body


def test_reject_lets_what_is_no_failure_pass(redis_server: RedisServer, rig: Rig) -> None:
    strict = Rig(redis_server.port, {"on_error": "reject"})
    ways: list[dict[str, Any]] = [{"tenant": None}, {"n": 2}, {"headers": {"Cache-Control": "no-store"}}]
    for how in ways:
        kong = strict.access(ASKED, **how)
        assert (status(kong), kong.exit) == ("Bypass", None)


@pytest.mark.parametrize("role", ["", "system ", "7", "System"])
@pytest.mark.parametrize("settings", [{}, {"ignore_system_prompts": True}])
def test_no_message_makes_the_cache_fail(
    redis_server: RedisServer, rig: Rig, settings: dict[str, Any], role: object
) -> None:
    strict = Rig(redis_server.port, {"on_error": "reject", **settings})
    odd = {"role": role or "x", "content": [{"a": [role]}]}
    messages = [odd, {"role": "user"}, {"role": "user", "content": "q"}]
    assert status(strict.ask(messages=messages)) == "Miss"
    assert status(strict.ask(messages=messages)) == "Hit"
    assert status(strict.ask(messages=messages[::-1])) == "Miss"


def test_system_prompts_count_unless_they_are_ignored(redis_server: RedisServer, rig: Rig) -> None:
    def conversation(system: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": ASKED}]

    rig.ask(messages=conversation("be brief"))
    assert status(rig.ask(messages=conversation("be verbose"))) == "Miss"
    loose = Rig(redis_server.port, {"ignore_system_prompts": True, "namespace": "loose"})
    loose.ask(messages=conversation("be brief"))
    assert status(loose.ask(messages=conversation("be verbose"))) == "Hit"


def test_headers_that_reach_the_provider_keep_answers_apart(redis_server: RedisServer, rig: Rig) -> None:
    made = Rig(redis_server.port, {"upstream_headers": ["anthropic-beta"]})
    made.ask(ASKED, headers={"Anthropic-Beta": "a", "X-Other": "1"})
    asked: list[tuple[dict[str, Any], str]] = [
        ({"anthropic-beta": "a", "X-Other": "2"}, "Hit"),
        ({"anthropic-beta": "b"}, "Miss"),
        ({}, "Miss"),
        ({"anthropic-beta": ["a", "b"]}, "Miss"),
        ({"anthropic-beta": ""}, "Miss"),
        ({"anthropic-beta": "\udcff"}, "Miss"),
    ]
    for headers, expected in asked:
        assert status(made.access(ASKED, headers=headers)) == expected, headers


def test_routes_are_apart_where_kong_must_be_asked_for_them(redis_server: RedisServer, rig: Rig) -> None:
    everywhere = Rig(redis_server.port, {"route_id": None})

    def on(route: str) -> FakeKong:
        kong = FakeKong(consumer="acme", body=llm.write({"messages": [{"role": "user", "content": ASKED}]}))
        kong.answers["kong.router.get_route"] = {"id": route}
        kong.run(everywhere.plugin, "access")
        if kong.exit is None:
            everywhere.log(kong)
        return kong

    assert [status(on(route)) for route in ("r-1", "r-1", "r-2", "r-2")] == ["Miss", "Hit", "Miss", "Hit"]


def test_similarity_is_off_at_a_bound_of_nought(
    redis_server: RedisServer, rig: Rig, store: redis.Redis
) -> None:
    exact = Rig(redis_server.port, {"max_wrong_rate": 0})
    exact.ask(ASKED)
    assert status(exact.ask(ALIKE)) == "Miss"
    assert not list(store.scan_iter("*:v:*"))


def test_no_tenant_keeps_more_than_it_may(redis_server: RedisServer, rig: Rig, store: redis.Redis) -> None:
    small = Rig(redis_server.port, {"max_entries": 3, "max_wrong_rate": 0})
    for i in range(6):
        small.ask(f"question {i}", tenant="acme")
        small.ask(f"question {i}", tenant="globex")
    assert len(list(store.scan_iter("*[{]acme}:e:*"))) == len(list(store.scan_iter("*[{]globex}:e:*"))) == 3


# -- time ------------------------------------------------------------------------------------------------


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the service's clock on by seconds; Redis' own stands, so only the entry's age decides."""
    ahead = [0.0]

    clock = SimpleNamespace(
        time=lambda: time.time() + ahead[0], monotonic=time.monotonic, perf_counter=time.perf_counter
    )
    monkeypatch.setattr(cache_service, "time", clock)

    def move(seconds: float) -> None:
        ahead[0] += seconds

    return move


@pytest.mark.parametrize("asked", [ASKED, ALIKE])
@pytest.mark.parametrize(("control", "seconds"), [("", 294), ("max-age=100", 90), ("min-fresh=100", 190)])
def test_a_fresh_answer_is_served_with_its_age(
    rig: Rig, later: Callable[[float], None], asked: str, control: str, seconds: float
) -> None:
    rig.ask(ASKED)
    later(seconds)
    kong = rig.access(asked, headers={"Cache-Control": control})
    assert kong.exit is not None
    age, ttl = int(kong.exit.headers["age"]), int(kong.exit.headers["x-cache-ttl"])
    assert seconds <= age <= seconds + 5
    assert age + ttl in (299, 300)


@pytest.mark.parametrize("asked", [ASKED, ALIKE])
@pytest.mark.parametrize(
    ("control", "seconds"),
    [("", 301), ("max-age=100", 102), ("min-fresh=100", 202), ("only-if-cached, max-age=100", 102)],
)
def test_an_answer_that_is_too_old_is_not_served(
    rig: Rig, later: Callable[[float], None], asked: str, control: str, seconds: float
) -> None:
    rig.ask(ASKED)
    later(seconds)
    assert status(rig.access(asked, headers={"Cache-Control": control})) != "Hit"


def test_a_refresh_starts_the_age_anew(rig: Rig, later: Callable[[float], None]) -> None:
    rig.ask(ASKED)
    later(200)
    assert status(rig.ask(ASKED, headers={"Cache-Control": "no-cache"})) == "Refresh"
    hit = rig.access(ASKED, headers={"Cache-Control": "max-age=100"})
    assert status(hit) == "Hit"


def test_a_refresh_that_fails_leaves_the_older_answer(rig: Rig) -> None:
    rig.ask(ASKED)
    rig.log(rig.access(ASKED, headers={"Cache-Control": "no-cache"}), status=500)
    assert text_of(rig.access(ASKED)) == "An answer."


@pytest.mark.parametrize("control", ["no-store, only-if-cached", "no-cache, no-store", "No-Store"])
def test_no_store_wins(rig: Rig, store: redis.Redis, control: str) -> None:
    kong = rig.access(ASKED, headers={"Cache-Control": control})
    assert status(kong) == "Bypass"
    rig.log(kong)
    assert store.dbsize() == 0


# -- replies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stores_nothing(rig: Rig, store: redis.Redis, stream: bool) -> None:
    kong = rig.access(ASKED, stream=stream)
    kong.shared[cache_service.FINISH_REASON] = "stop"
    kong.shared[cache_service.STREAM_END] = True
    kong.record = {"response": {"status": 200, "headers": {}}}  # Kong writes no `ai` then
    kong.run(rig.plugin, "log")
    assert store.dbsize() == 0
    assert status(rig.access(ASKED)) == "Miss"


@pytest.mark.parametrize("text", ["🙂\r\n\r\ndata: [DONE]\n\n", "\ud800 alone", "x" * 100_000, " "])
def test_odd_answers_come_back_as_they_were(rig: Rig, text: str) -> None:
    rig.answer = text
    rig.ask(ASKED)
    assert text_of(rig.access(ASKED)) == text
    streamed = rig.access(ASKED, stream=True)
    assert streamed.exit is not None
    events = [json.loads(e.removeprefix(b"data: ")) for e in streamed.exit.body.split(b"\n\n")[:-2]]
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == text


def test_a_similar_hit_is_streamed_too(rig: Rig) -> None:
    rig.ask(ASKED)
    hit = rig.access(ALIKE, stream=True)
    assert hit.exit is not None
    assert hit.exit.headers["content-type"].startswith("text/event-stream")
    assert 0.6 < float(hit.exit.headers["x-cache-similarity"]) < 1


def test_two_hits_have_identifiers_of_their_own(rig: Rig) -> None:
    rig.ask(ASKED)
    first, second = (body_of(rig.access(ASKED))["id"] for _ in range(2))
    assert first != second
    assert first.startswith("chatcmpl-")


@pytest.mark.parametrize("n", [2, 0, 2.0])
def test_only_one_choice_is_ever_cached(rig: Rig, store: redis.Redis, n: object) -> None:
    assert status(rig.ask(ASKED, n=n)) == "Bypass"
    assert store.dbsize() == 0


# -- tenants ---------------------------------------------------------------------------------------------


def test_tenants_at_once_get_their_own_answers(rig: Rig, redis_server: RedisServer) -> None:
    wrong: list[tuple[str, str]] = []
    outcomes: list[str | None] = []
    tenants = ["acme", "a:b", "{x}", "{acme}", "a b", "🙂", "x" * 10_240, "acme:e:"]
    start = threading.Barrier(len(tenants))

    def work(tenant: str) -> None:
        own = Rig(redis_server.port, answer=f"for {tenant[:20]}")
        start.wait()
        for asked in (ASKED, ASKED, ALIKE, ALIKE):
            kong = own.ask(asked, tenant=tenant)
            outcomes.append(status(kong))
            if kong.exit is not None and text_of(kong) != own.answer:
                wrong.append((tenant, text_of(kong)))

    threads = [threading.Thread(target=work, args=(tenant,)) for tenant in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert outcomes.count("Miss") == len(tenants)
    assert outcomes.count("Hit") == 3 * len(tenants)


def test_nobody_reads_another_tenants_text_out_of_redis(rig: Rig, store: redis.Redis) -> None:
    rig.answer = "canary-pelican"
    for tenant in ("canary-heron inc", "canary/heron"):
        rig.ask("is a canary-flamingo pink", tenant=tenant, model="canary-model", user="canary-user")
    seen = b""
    client: Any = store
    for key in client.scan_iter():
        kind, found = client.type(key), []
        if kind == b"string":
            found = [client.get(key)]
        elif kind == b"hash":
            found = [part for pair in client.hgetall(key).items() for part in pair]
        else:
            assert kind == b"zset"
            found = client.zrange(key, 0, -1)
        seen += b"".join([key, *found])
    assert len(seen) > 500
    assert not any(word in seen for word in (b"pelican", b"flamingo", b"canary-model", b"canary-user"))
