"""The plugin on a real Redis, with Kong played in this process: what is answered, stored, and left alone."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import redis
from kong_pdk.pdk import Kong

from cache_rig import Rig, fresh_stores, load_plugin, no_models, small_models, status, use_small_models
from tenantgate import llm
from tenantgate.cache import models as cache_models
from tenantgate.cache import service as cache_service
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import NO_STATES
from tenantgate.cache.core.testing import HashingEmbedder, WordVerifier
from tenantgate.cache.models import CacheModels, Models
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.kong import Answered, Host
from tenantgate.kong.testing import FakeKong
from tenantgate.models.ports import BUILT_IN, LARGE, Reading
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

from support import until

HOSTILE = ["a:b", "{x}", "a b", "\U0001f980", "x" * 10_240, "*", "acme\n"]


@pytest.fixture(autouse=True)
def _knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_stores(monkeypatch)


@pytest.fixture
def rig(redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Rig:
    use_small_models(monkeypatch)
    return Rig(redis_server.port)


def text_of(kong: FakeKong) -> str:
    assert kong.exit is not None
    return str(kong.exit.json["choices"][0]["message"]["content"])


# -- levels ----------------------------------------------------------------------------------------------


def test_a_miss_then_an_exact_hit(rig: Rig) -> None:
    miss = rig.ask("What is a sextant?")
    assert status(miss) == "Miss"
    hit = rig.ask("What is a sextant?")
    assert (status(hit), text_of(hit)) == ("Hit", "An answer.")
    assert hit.exit is not None
    assert hit.exit.status == 200
    assert hit.exit.headers["x-cache-key"] == miss.reply_headers["X-Cache-Key"]
    assert 290 < int(hit.exit.headers["x-cache-ttl"]) <= 300
    assert int(hit.exit.headers["age"]) < 10
    assert "x-cache-similarity" not in hit.exit.headers


def test_a_similar_question_hits_with_its_similarity(rig: Rig) -> None:
    rig.ask("please tell me what a good sextant is made of")
    hit = rig.ask("please tell me what a good sextant is made of now")
    assert hit.exit is not None
    assert 0.6 < float(hit.exit.headers["x-cache-similarity"]) < 1


class Noting(HashingEmbedder, WordVerifier):
    """An embedder that makes states, and a verifier that notes which it gets."""

    fingerprint = "noting"

    def __init__(self, more: int = 0) -> None:
        super().__init__()
        self.states: list[dict[str, bytes]] = []
        self.reads = 0
        self._more = b"." * more

    def read(self, text: str) -> Reading:
        self.reads += 1
        return Reading(self.embed(text), b"\0states of " + text.encode() + self._more)

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        self.states.append(dict(states))
        return super().score(a, b, similarity)

    def truncates(self, *_texts: str) -> bool:
        return False


@pytest.mark.parametrize("headers", [{}, {"Cache-Control": "no-cache"}])
def test_the_verifier_is_told_what_the_embedder_made_of_both_texts(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    models, noting = small_models(), Noting()
    monkeypatch.setattr(
        cache_service.MODELS, "get", lambda *_names: CacheModels(noting, noting, models.calibration)
    )
    stored, asked = "what a good sextant is made of", "what a good sextant is made of now"
    rig.ask(stored, headers=headers)
    rig.ask("what an old sextant is made of", tenant="globex")

    hit = rig.ask(asked)

    assert (status(hit), text_of(hit)) == ("Hit", "An answer.")
    assert noting.states == [{text: b"\0states of " + text.encode() for text in (asked, stored)}]


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("how many cars did we sell in the year 2023", "how many cars did we sell in the year 2024"),
        ("please find me a good hotel with breakfast", "please find me a good hotel without breakfast"),
        ("what would the weather be in Oslo now", "what would the weather be in Rome now"),
        ("is a sextant made of brass", "do lions sleep in trees"),
    ],
)
def test_a_near_miss_or_another_question_is_not_served(rig: Rig, stored: str, asked: str) -> None:
    rig.ask(stored)
    assert status(rig.ask(asked)) == "Miss"


def test_the_second_neighbour_is_read_where_a_rule_excludes_the_first(rig: Rig) -> None:
    rig.ask("please tell me how the old clock of 1820 works")
    rig.ask("tell me how the old clock works")
    assert status(rig.access("please tell me how the old clock works")) == "Hit"


def test_without_models_the_exact_level_works_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    no_models(monkeypatch)
    rig.ask("What is a sextant?")
    assert status(rig.ask("What is a sextant?")) == "Hit"
    assert status(rig.ask("What is a sextant now?")) == "Miss"


def test_what_is_stored_while_a_verifier_loads_is_found_once_it_has(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading = threading.Event()

    def load(_embedder: str, verifier: str) -> CacheModels:
        if verifier == LARGE:
            assert loading.wait(10)
        return small_models()

    monkeypatch.setattr(cache_models, "_load", load)
    found = Models()
    monkeypatch.setattr(cache_service, "MODELS", found)
    found.load(BUILT_IN, BUILT_IN)
    rig = Rig(redis_server.port, {"verifier": LARGE})
    asked = "please tell me what a good sextant is made of"
    assert status(rig.ask(asked)) == "Miss"
    assert status(rig.ask(asked + " now")) == "Miss", "nobody can read them yet"
    loading.set()
    until(lambda: found.get(BUILT_IN, LARGE), bool, what="the models")
    assert status(rig.ask(asked + " now")) == "Hit"


def test_where_a_verifier_cannot_be_had_nothing_is_found_by_similarity(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Models()
    monkeypatch.setattr(cache_service, "MODELS", found)
    found.builds.built.put((BUILT_IN, BUILT_IN), small_models())
    found.builds.built.put((BUILT_IN, LARGE), None)
    rig = Rig(redis_server.port, {"verifier": LARGE})
    assert status(rig.ask("What is a sextant?")) == "Miss"
    assert status(rig.ask("What is a sextant?")) == "Hit"
    assert not [key for key in store.scan_iter() if store.type(key) == b"zset" and b":n:" in key]


def test_a_bound_that_no_score_keeps_switches_similarity_off(
    redis_server: RedisServer, rig: Rig, store: redis.Redis
) -> None:
    strict = Rig(redis_server.port, {"max_wrong_rate": 0.0001})
    strict.ask("please tell me what a good sextant is made of")
    assert status(strict.ask("please tell me what a good sextant is made of now")) == "Miss"
    assert status(strict.ask("please tell me what a good sextant is made of")) == "Hit"
    assert not list(store.scan_iter("*:v:*"))


def test_a_text_that_is_read_in_part_only_never_hits_by_similarity(rig: Rig) -> None:
    beginning = "word " * 600
    rig.ask(beginning + "one thing")
    assert status(rig.ask(beginning + "another thing")) == "Miss"
    assert status(rig.ask(beginning + "one thing")) == "Hit"


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_hits_exactly_only(rig: Rig, store: redis.Redis, text: str) -> None:
    rig.ask(text)
    assert status(rig.ask(text)) == "Hit"
    assert not list(store.scan_iter("*:v:*"))


def image(url: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": url}}]


def test_images_are_compared_to_the_letter(rig: Rig) -> None:
    rig.ask(image("data:1"))
    assert status(rig.ask(image("data:1"))) == "Hit"
    assert status(rig.ask(image("data:2"))) == "Miss"


def test_exact_caching_can_be_switched_off(redis_server: RedisServer, rig: Rig) -> None:
    similar_only = Rig(redis_server.port, {"exact_caching": False})
    similar_only.ask("what is a sextant")
    hit = similar_only.ask("what is a sextant")
    assert hit.exit is not None
    assert float(hit.exit.headers["x-cache-similarity"]) > 0.99


# -- who -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["globex", "ACME", "acme ", *HOSTILE])
def test_no_other_tenant_gets_it(rig: Rig, other: str) -> None:
    rig.ask("What is a sextant?")
    assert status(rig.access("What is a sextant?", tenant=other)) == "Miss"
    assert status(rig.access("What is a sextant made of?", tenant=other)) == "Miss"


@pytest.mark.parametrize("tenant", HOSTILE)
def test_odd_tenants_are_served_like_others(rig: Rig, tenant: str) -> None:
    rig.ask("What is a sextant?", tenant=tenant)
    assert status(rig.ask("What is a sextant?", tenant=tenant)) == "Hit"


def test_without_a_tenant_nothing_is_read_or_stored(rig: Rig, store: redis.Redis) -> None:
    for _ in range(2):
        assert status(rig.ask("What is a sextant?", tenant=None)) == "Bypass"
    assert store.dbsize() == 0


def test_routes_are_apart_unless_they_share_a_namespace(redis_server: RedisServer, rig: Rig) -> None:
    rig.ask("What is a sextant?")
    other = Rig(redis_server.port, {"route_id": "route-2"})
    assert status(other.ask("What is a sextant?")) == "Miss"
    one, two = (Rig(redis_server.port, {"route_id": r, "namespace": "route-1"}) for r in ("a", "b"))
    assert status(one.ask("What is a sextant?")) == "Miss"
    assert status(two.ask("What is a sextant?")) == "Hit"


def test_what_a_request_is_for_keeps_answers_apart_whatever_the_namespace(
    redis_server: RedisServer, rig: Rig
) -> None:
    def ask(name: str, namespace: str) -> FakeKong:
        kong = FakeKong(consumer="acme", body=llm.write({"messages": [{"role": "user", "content": "q"}]}))
        cache = Rig(redis_server.port, {"namespace": namespace}).plugin.service()
        host = Host(Kong(kong, lua_style=False).kong, "access", deadline_ms=60_000)
        host.route_name = name
        with contextlib.suppress(Answered):
            cache.access(host)
        if kong.exit is None:
            rig.log(kong)
        return kong

    asked = [("llm.p.m.acme", "one"), ("llm.p.m.acme", "two"), ("llm.p.other.acme", "one"), ("", "one")]
    assert [status(ask(*each)) for each in asked] == ["Miss", "Hit", "Miss", "Miss"]


def test_another_conversation_or_parameter_is_a_miss(rig: Rig) -> None:
    def about(city: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"Tell me of {city}"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "and in winter?"},
        ]

    rig.ask(messages=about("Oslo"))
    assert status(rig.ask(messages=about("Oslo"))) == "Hit"
    assert status(rig.ask(messages=about("Rome"))) == "Miss"
    assert status(rig.ask(messages=about("Oslo"), temperature=1)) == "Miss"


# -- delivery --------------------------------------------------------------------------------------------


def noted(kong: FakeKong, reason: str | None = "stop", *, end: bool = True) -> FakeKong:
    """What the rendered Lua notes of a stream."""
    if reason:
        kong.shared[cache_service.FINISH_REASON] = reason
    if end:
        kong.shared[cache_service.STREAM_END] = True
    return kong


def test_a_stream_is_stored_from_its_log_and_replayed_both_ways(rig: Rig) -> None:
    miss = noted(rig.access("What is a sextant?", stream=True))
    assert (status(miss), miss.exit) == ("Miss", None)
    rig.log(miss, reason=None)
    streamed = rig.ask("What is a sextant?", stream=True)
    assert streamed.exit is not None
    assert streamed.exit.headers["content-type"].startswith("text/event-stream")
    assert streamed.exit.body.endswith(b"data: [DONE]\n\n")
    assert text_of(rig.ask("What is a sextant?")) == "An answer."


def test_a_stream_that_the_client_did_not_ask_for_is_stored_as_one(rig: Rig) -> None:
    kong = noted(rig.access("What is a sextant?"))
    rig.log(kong, reason=None, kind="text/event-stream")
    assert text_of(rig.ask("What is a sextant?")) == "An answer."


@pytest.mark.parametrize(("reason", "end"), [("length", True), (None, True), ("stop", False)])
def test_a_stream_whose_end_was_not_seen_is_not_stored(rig: Rig, reason: str | None, end: bool) -> None:
    kong = noted(rig.access("What is a sextant?", stream=True), reason, end=end)
    rig.log(kong, reason="stop")
    assert status(rig.access("What is a sextant?", stream=True)) == "Miss"


def test_a_plain_answer_is_replayed_as_a_stream_with_usage(rig: Rig) -> None:
    rig.ask("What is a sextant?")
    hit = rig.ask("What is a sextant?", stream=True, stream_options={"include_usage": True})
    assert hit.exit is not None
    events = [json.loads(e[6:]) for e in hit.exit.body.decode().split("\n\n")[:-2]]
    assert (
        "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"]) == "An answer."
    )
    assert events[-1]["choices"] == []
    assert "content-encoding" not in hit.exit.headers


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"status": 500}, {}),
        ({"reason": "length"}, {}),
        ({"reason": "content_filter"}, {}),
        ({"reason": None}, {}),
        ({}, {"content": ""}),
        ({}, {"refusal": "no"}),
        ({"reason": "tool_calls"}, {"tool_calls": [{"id": "c", "function": {}}]}),
    ],
)
def test_what_is_not_a_whole_answer_is_not_stored(
    rig: Rig, how: dict[str, Any], message: dict[str, Any]
) -> None:
    kong = rig.access("What is a sextant?")
    rig.log(kong, **how, **message)
    assert status(rig.access("What is a sextant?")) == "Miss"


def test_tool_calls_are_replayed_where_they_are_stored(redis_server: RedisServer, rig: Rig) -> None:
    calling = Rig(redis_server.port, {"store_tool_calls": True})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calling.log(calling.access("What is a sextant?"), reason="tool_calls", content=None, tool_calls=[call])
    hit = calling.access("What is a sextant?")
    assert hit.exit is not None
    choice = hit.exit.json["choices"][0]
    assert (choice["finish_reason"], choice["message"]["tool_calls"]) == ("tool_calls", [call])


def test_what_the_embedder_made_does_not_count_against_the_answers_limit(
    redis_server: RedisServer, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, noting = small_models(), Noting(more=4096)
    monkeypatch.setattr(
        cache_service.MODELS, "get", lambda *_names: CacheModels(noting, noting, models.calibration)
    )
    small = Rig(redis_server.port, {"max_entry_bytes": 1024})
    small.ask("what a good sextant is made of")
    assert status(small.access("what a good sextant is made of now")) == "Hit"


def test_an_answer_that_is_too_large_is_not_stored(redis_server: RedisServer, rig: Rig) -> None:
    small = Rig(redis_server.port, {"max_entry_bytes": 1024}, answer="x" * 2000)
    small.ask("What is a sextant?")
    assert status(small.ask("What is a sextant?")) == "Miss"


KEPT = "tenantgate_tenant_semantic_cache_kept"


def test_a_log_without_its_access_stores_nothing(rig: Rig, store: redis.Redis) -> None:
    kept = rig.access("What is a sextant?").shared[KEPT]
    for value in (
        None,
        "",
        kept[:-1],
        kept + "x",
        kept.replace("acme", "\xff\xff\xff\xff"),
        {"a": 1},
        b"\x80",
        7,
    ):
        rig.log(FakeKong(consumer="acme", shared={KEPT: value}))
    # What a client sends never gets there.
    body, headers = llm.write({KEPT: kept, "messages": []}), {KEPT: kept, KEPT.replace("_", "-"): kept}
    rig.log(FakeKong(consumer="acme", body=body, headers=headers))
    rig.log(rig.access("q", headers={**headers, **control("no-store")}))
    assert store.dbsize() == 0


def test_the_log_phase_may_run_in_another_process(
    rig: Rig, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, noting = small_models(), Noting()
    monkeypatch.setattr(
        cache_service.MODELS, "get", lambda *_names: CacheModels(noting, noting, models.calibration)
    )
    asked = rig.access("What is a good sextant made of?")
    fresh_stores(monkeypatch)
    other = Rig(redis_server.port)
    other.log(FakeKong(consumer="acme", shared={KEPT: asked.shared[KEPT]}))
    assert noting.reads == 0  # what is asked once needs no model
    assert status(other.ask("What is a good sextant made of?")) == "Hit"
    assert status(other.ask("what is a good sextant made of")) == "Hit"
    assert noting.reads == 2
    assert noting.states[0].keys() == {"What is a good sextant made of?", "what is a good sextant made of"}


# -- Cache-Control ---------------------------------------------------------------------------------------


def control(value: str) -> dict[str, str]:
    return {"Cache-Control": value}


def test_no_store_neither_reads_nor_stores(rig: Rig, store: redis.Redis) -> None:
    assert status(rig.ask("What is a sextant?", headers=control("no-store"))) == "Bypass"
    assert store.dbsize() == 0
    rig.ask("What is a sextant?")
    assert status(rig.ask("What is a sextant?", headers=control("no-store"))) == "Bypass"


@pytest.mark.parametrize("directive", ["no-cache", "max-age=0"])
def test_a_refresh_stores_anew_for_both_levels(rig: Rig, directive: str) -> None:
    asked, alike = "please tell me what a sextant is made of", "please tell me what a sextant is made of now"
    rig.ask(asked)
    rig.answer = "A newer answer."
    assert status(rig.ask(asked, headers=control(directive))) == "Refresh"
    assert text_of(rig.ask(asked)) == "A newer answer."
    assert text_of(rig.ask(alike)) == "A newer answer."


def test_an_entry_that_is_not_fresh_enough_is_refreshed(rig: Rig) -> None:
    rig.ask("What is a sextant?")
    assert status(rig.ask("What is a sextant?", headers=control("min-fresh=9999"))) == "Refresh"
    assert status(rig.ask("What is a sextant?", headers=control("max-age=9999"))) == "Hit"


def test_only_if_cached_is_answered_here(rig: Rig) -> None:
    got = rig.access("What is a sextant?", headers=control("only-if-cached"))
    assert got.exit is not None
    assert (got.exit.status, got.exit.json["error"]["code"]) == (504, "only_if_cached")
    rig.ask("What is a sextant?")
    assert status(rig.access("What is a sextant?", headers=control("only-if-cached"))) == "Hit"


# -- bodies, calls, metrics ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 413),
        (b'{"messages": []}', 400),
        (b'{"messages": [{}], "n": 2}', 400),
        (b"0" * (1 << 20), 400),
    ],
)
def test_a_body_that_is_no_chat_is_refused_or_goes_past_unread(
    rig: Rig, redis_server: RedisServer, store: redis.Redis, body: bytes, code: int
) -> None:
    refused = rig.access(body=body)
    assert refused.exit is not None
    assert (refused.exit.status, refused.sent_body) == (code, None)
    loose = Rig(redis_server.port, {"strict_requests": False})
    kong = loose.access(body=body)
    assert (status(kong), kong.exit) == ("Bypass", None)
    loose.log(kong)
    assert store.dbsize() == 0


def test_a_body_of_a_megabyte_is_cached(rig: Rig) -> None:
    text = "a long story " * 80_000
    rig.ask(text)
    assert status(rig.ask(text)) == "Hit"


def test_calls_to_kong_are_few(rig: Rig) -> None:
    miss = rig.access("What is a sextant?")
    assert miss.methods() == [
        "request.get_headers",
        "request.get_raw_body",
        "client.get_consumer",
        "ctx.shared.set",
        "response.set_headers",
    ]
    rig.log(miss)
    assert miss.methods()[5:] == ["ctx.shared.get", "log.serialize"]
    exact, similar = rig.access("What is a sextant?"), rig.access("what is a sextant")
    for hit in (exact, similar):
        assert status(hit) == "Hit"
        assert len(hit.calls) == 4
    assert len(rig.access("q", tenant=None).calls) == 4
    spelt = rig.access(body=b'{ "messages": [{"role": "user", "content": "What is a sextant?"}] }')
    assert (status(spelt), len(spelt.calls)) == ("Hit", 5)
    assert spelt.sent_body == b'{"messages":[{"role":"user","content":"What is a sextant?"}]}'


def test_trips_to_redis_are_few(rig: Rig, store: redis.Redis) -> None:
    def trips() -> int:
        return int(store.info("stats")["total_commands_processed"])

    rig.ask("What is a sextant?")  # connects and loads the scripts
    before = trips()
    rig.access("What is a sextant?")
    between = trips()
    rig.access("what is a sextant")
    after = trips()
    # One is INFO itself. The similar level's script counts as itself, how many there are, its search, the
    # plan and what it reads.
    assert between - before == 2
    assert after - between <= 7


def test_requests_are_counted_by_tenant_and_outcome(rig: Rig) -> None:
    rig.ask("What is a sextant?", tenant="counted")
    rig.ask("What is a sextant?", tenant="counted")
    lines = metrics.exposition().splitlines()
    assert 'tenantgate_cache_tenant_requests_total{tenant="counted",status="hit"} 1' in lines
    assert 'tenantgate_cache_tenant_requests_total{tenant="counted",status="miss"} 1' in lines


def test_nothing_readable_lies_in_redis(rig: Rig, store: redis.Redis) -> None:
    rig.answer = "Canary-Pelican"
    rig.ask("What is a Canary-Flamingo?")
    dumped = b"".join(key + (store.dump(key) or b"") for key in store.scan_iter())
    assert b"Canary" not in dumped
    assert b"sextant" not in dumped


def test_the_plugin_describes_itself() -> None:
    module = load_plugin()
    assert module.priority == 794
    assert {name for field in module.Schema for name in field} >= {"cache_ttl", "max_wrong_rate", "redis"}


# -- guards ----------------------------------------------------------------------------------------------

GUARDED = {"guards": ["tenant-guardrails", "tenant-response-guardrails"]}


def let_pass(rig: Rig, verdict: dict[str, Any] | None, text: str = "What is a sextant?") -> FakeKong:
    body = llm.write({"messages": [{"role": "user", "content": text}]})
    shared = {"tenantgate_tenant_guardrails": json.dumps(verdict)} if verdict else {}
    return FakeKong(consumer="acme", body=body, headers={}, shared=shared).run(rig.plugin, "access")


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ({"action": "pass"}, "Hit"),
        ({"action": "alert"}, "Hit"),
        ({"action": "mask", "recover": True}, "Bypass"),
        (None, "Bypass"),
    ],
)
def test_an_answer_is_served_only_to_what_the_guard_let_pass(
    rig: Rig, verdict: dict[str, Any] | None, expected: str
) -> None:
    rig.ask("What is a sextant?")
    guarded = Rig(rig.port, GUARDED)
    found = let_pass(guarded, verdict)
    assert status(found) == expected
    if expected == "Hit":
        assert len(found.calls) == 5


@pytest.mark.parametrize(
    ("verdict", "stored"),
    [
        ({"action": "mask"}, False),
        ({"action": "pass", "recovered": 1}, False),
        ({"action": "pass", "rules": {"cards": {"mode": "block", "exempted": 1}}}, False),
        ({"action": "alert"}, True),
        (None, True),
    ],
)
def test_a_reply_that_a_guard_has_changed_is_not_stored(
    rig: Rig, verdict: dict[str, Any] | None, stored: bool
) -> None:
    guarded = Rig(rig.port, GUARDED)
    miss = guarded.access("What is a sextant?")
    if verdict:
        miss.shared["tenantgate_tenant_response_guardrails"] = json.dumps(verdict)
    guarded.log(miss)
    assert (status(rig.ask("What is a sextant?")) == "Hit") is stored


# -- what expired ------------------------------------------------------------------------------------------


def test_the_plugin_sweeps_tenants_with_requests_in_the_background(
    redis_server: RedisServer, rig: Rig, store: Any
) -> None:
    short = Rig(redis_server.port, {"sweep_interval": 1, "cache_ttl": 1})
    short.ask("What is a sextant?")
    index = Keys(TenantId("acme")).index
    assert store.zcard(index) == 1
    store.persist(index)  # as if other entries lived longer: only the sweep takes this one out
    swept = metrics.counter("tenantgate_cache_swept_total", "")
    before = swept.value()
    until(swept.value, lambda n: n > before, what="sweep")  # counted after Redis has done it
    assert (swept.value(), store.exists(index)) == (before + 1, 0)
