"""Coalescing on a real Redis, stale answers and the mode cache_only, with Kong played in this process."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from cache_rig import Rig, fresh_stores, no_models, status, use_small_models
from tenantgate.cache import service as cache_service
from tenantgate.cache.core.coalescing import Seats
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import Held, LeaseWish, RefusedError, UnavailableError
from tenantgate.cache.redis_store import OwnLease, RedisCache
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.kong.host import Host
from tenantgate.kong.testing import FakeKong
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

from support import until

KEYS = Keys(TenantId("acme"))
TOKEN, OTHER = "0" * 32, "f" * 32
LONG_MS = 60_000
WISH = LeaseWish(TOKEN, "v", LONG_MS)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_stores(monkeypatch)
    monkeypatch.setattr(cache_service, "_WAIT_TIMEOUT_MS", 2 * LONG_MS)
    monkeypatch.setattr(cache_service, "_SEATS", Seats(8, 16))


@pytest.fixture
def cache(redis_server: RedisServer, store: redis.Redis) -> RedisCache:
    return RedisCache(connect(RedisConfig(port=redis_server.port), timeout_ms=2 * LONG_MS))


@pytest.fixture
def together() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def blocked(store: redis.Redis) -> int:
    return int(store.info("clients")["blocked_clients"])


def wait_for_waiters(store: redis.Redis, count: int) -> None:
    until(lambda: blocked(store), count.__eq__, what="clients that Redis has waiting")


@pytest.fixture(params=["alone", "with the lookup"])
def lead(cache: RedisCache, request: pytest.FixtureRequest) -> Callable[..., Held | None]:
    """Asks for a lease in the two ways that there are."""

    def ask(name: str = "n", value: str = "v", *, stale_s: int = 0) -> Held | None:
        wish = LeaseWish(TOKEN, value, LONG_MS, stale_s)
        if request.param == "alone":
            return cache.lease(KEYS, name, wish).held
        found = cache.neighbours(KEYS, KEYS.bucket(OTHER), 4, exact=name, wish=wish)
        if found.leased is None:
            return Held(found.entry)
        return found.leased.held

    return ask


# -- leases in Redis -------------------------------------------------------------------------------------------------


def test_a_lease_is_one_requests_until_it_lets_go(
    cache: RedisCache, store: redis.Redis, lead: Callable[..., Held | None]
) -> None:
    assert lead(value="mine") is None
    held = lead(value="theirs")
    assert held is not None
    assert (held.entry, held.value) == (None, b"mine")
    assert 0 < held.left_ms <= LONG_MS
    assert lead(name="another") is None
    assert 0 < store.pttl(KEYS.lease("n")) <= LONG_MS
    assert not cache.let_go(KEYS, "n", OwnLease(OTHER, "theirs", LONG_MS)), "it isn't its own"
    assert not store.exists(KEYS.let_go(OTHER))
    assert cache.let_go(KEYS, "n", OwnLease(TOKEN, "mine", LONG_MS))
    assert 0 < store.pttl(KEYS.let_go(TOKEN)) <= LONG_MS
    assert lead(value="theirs") is None
    assert not cache.let_go(KEYS, "n", OwnLease(TOKEN, "mine", LONG_MS)), "it has ended"


def test_an_entry_that_was_stored_since_is_given_in_place_of_a_lease(
    store: redis.Redis, lead: Callable[..., Held | None]
) -> None:
    store.set(KEYS.entry("n"), b"sealed", ex=100)
    assert lead() == Held(b"sealed")
    assert not store.exists(KEYS.lease("n"))
    assert lead(stale_s=200) is None, "it has expired and is only kept for errors"


def test_all_that_wait_are_woken_and_who_comes_late_does_not_wait(
    cache: RedisCache, store: redis.Redis, together: ThreadPoolExecutor
) -> None:
    cache.lease(KEYS, "n", WISH)
    waits = [together.submit(cache.wait, KEYS, TOKEN, LONG_MS) for _ in range(3)]
    wait_for_waiters(store, 3)
    cache.let_go(KEYS, "n", OwnLease(TOKEN, "v", LONG_MS))
    for each in waits:
        each.result(LONG_MS / 2000)
    together.submit(cache.wait, KEYS, TOKEN, LONG_MS).result(LONG_MS / 2000)


@pytest.mark.parametrize("bucket", [None, KEYS.bucket(OTHER)])
@pytest.mark.parametrize(
    ("held", "max_bytes", "gone"), [(b"v", 10_000, True), (b"another's", 10_000, False), (b"v", 10, False)]
)
def test_to_store_the_answer_lets_go_of_its_own_lease(
    cache: RedisCache, store: redis.Redis, bucket: str | None, held: bytes, max_bytes: int, gone: bool
) -> None:
    store.set(KEYS.lease("n"), held)
    lease = OwnLease(TOKEN, "v", LONG_MS)
    stored = cache.store(
        KEYS, "n", b"sealed", ttl_s=9, max_entries=9, max_bytes=max_bytes, bucket=bucket, lease=lease
    )
    assert stored is (max_bytes > 10)
    assert bool(store.exists(KEYS.lease("n"))) is not gone
    assert bool(store.exists(KEYS.let_go(TOKEN))) is gone
    assert (store.pttl(KEYS.let_go(TOKEN)) > 0) is gone
    assert store.zcard(KEYS.bucket(OTHER)) == (stored and bucket is not None)
    assert store.zcard(KEYS.index) == stored


def test_another_type_in_place_of_the_lease_keeps_no_answer_from_being_stored(
    cache: RedisCache, store: redis.Redis
) -> None:
    store.hset(KEYS.lease("n"), "a", "b")
    lease = OwnLease(TOKEN, "v", LONG_MS)
    assert cache.store(KEYS, "n", b"sealed", ttl_s=9, max_entries=9, max_bytes=10_000, lease=lease)
    assert store.get(KEYS.entry("n")) == b"sealed"


def test_nobody_waits_longer_than_it_says(cache: RedisCache) -> None:
    cache.wait(KEYS, TOKEN, 1)


@pytest.mark.parametrize("call", ["lease", "wait", "let_go"])
def test_another_type_under_a_key_is_an_error_like_others(
    cache: RedisCache, store: redis.Redis, call: str
) -> None:
    store.hset(KEYS.lease("n"), "a", "b")
    store.hset(KEYS.let_go(TOKEN), "a", "b")
    calls: dict[str, Callable[[], Any]] = {
        "lease": lambda: cache.lease(KEYS, "n", WISH),
        "wait": lambda: cache.wait(KEYS, TOKEN, LONG_MS),
        "let_go": lambda: cache.let_go(KEYS, "n", OwnLease(TOKEN, "v", LONG_MS)),
    }
    with pytest.raises(RefusedError):
        calls[call]()


def test_a_redis_that_is_gone_is_an_error_at_once() -> None:
    gone = RedisCache(connect(RedisConfig(port=free_port()), timeout_ms=2 * LONG_MS))
    with pytest.raises(UnavailableError):
        gone.wait(KEYS, TOKEN, LONG_MS)


# -- requests --------------------------------------------------------------------------------------------------------


def rig_of(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, *, wait_ms: int = LONG_MS, **config: Any
) -> Rig:
    use_small_models(monkeypatch)
    rig = Rig(redis_server.port, config)
    if wait_ms:  # longer than an operator may set, for busy machines
        rig.plugin.config = dataclasses.replace(rig.plugin.config, coalesce_max_wait_ms=wait_ms)
    return rig


@pytest.fixture
def rig(redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rig_of(redis_server, monkeypatch)


def following(
    rig: Rig, together: ThreadPoolExecutor, store: redis.Redis, *hows: dict[str, Any]
) -> list[Future[FakeKong]]:
    found = [together.submit(rig.access, "q", **how) for how in hows]
    wait_for_waiters(store, len(hows))
    return found


def test_equal_requests_get_the_answer_of_the_one_that_asked(
    rig: Rig, store: redis.Redis, together: ThreadPoolExecutor
) -> None:
    leader = rig.access("q")
    assert status(leader) == "Miss"
    followers = following(rig, together, store, {}, {"stream": True}, {"user": "another's accounting"})
    assert status(rig.access("another question")) == "Miss"
    assert status(rig.access("q", tenant="globex")) == "Miss"
    assert status(rig.access("q", headers={"Cache-Control": "no-cache"})) == "Refresh"
    assert not any(follower.done() for follower in followers)
    rig.log(leader)
    plain, streamed, other = [follower.result(LONG_MS / 2000) for follower in followers]
    for kong in (plain, streamed, other):
        assert status(kong) == "Coalesced"
        assert kong.exit is not None
        assert kong.exit.status == 200
        assert b"An answer." in kong.exit.body
    assert streamed.exit is not None
    assert streamed.exit.headers["content-type"].startswith("text/event-stream")
    assert plain.exit is not None
    assert (plain.exit.headers["age"], plain.exit.headers["x-cache-key"]) == (
        "0",
        leader.reply_headers["X-Cache-Key"],
    )
    assert status(rig.access("q")) == "Hit"


@pytest.mark.parametrize(
    "end",
    [
        {"status": 500},
        {"status": 429},
        {"reason": "length"},
        {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    ],
    ids=str,
)
def test_where_there_is_no_answer_for_others_each_asks_by_itself(
    rig: Rig, store: redis.Redis, together: ThreadPoolExecutor, end: dict[str, Any]
) -> None:
    leader = rig.access("q")
    followers = following(rig, together, store, {}, {})
    rig.log(leader, **end)
    assert [status(f.result(LONG_MS / 2000)) for f in followers] == ["Miss", "Miss"]


def test_a_log_phase_that_fails_lets_the_others_go_on(
    rig: Rig, store: redis.Redis, together: ThreadPoolExecutor
) -> None:
    leader = rig.access("q")
    followers = following(rig, together, store, {})
    leader.record = {"response": 7}
    leader.run(rig.plugin, "log")
    assert status(followers[0].result(LONG_MS / 2000)) == "Miss"


def test_a_leader_that_is_gone_holds_nobody_beyond_its_lease(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of(redis_server, monkeypatch, wait_ms=20)
    assert status(rig.access("q")) == "Miss"  # and its process is killed: no log phase
    assert status(rig.access("q")) == "Miss"


def test_no_more_wait_than_may(
    rig: Rig, store: redis.Redis, together: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_service, "_SEATS", Seats(1, 2))
    leader = rig.access("q")
    followers = following(rig, together, store, {})
    assert status(rig.access("q")) == "Miss"
    rig.log(leader)
    assert status(followers[0].result(LONG_MS / 2000)) == "Coalesced"


@pytest.mark.parametrize("models", [use_small_models, no_models])
def test_it_is_off_by_default(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, models: Any
) -> None:
    rig = rig_of(redis_server, monkeypatch, wait_ms=0)
    models(monkeypatch)
    for _ in range(2):
        assert status(rig.access("q")) == "Miss"
    assert not list(store.scan_iter(KEYS.lease("*").replace("{", "[{]")))


def test_a_miss_costs_no_more_round_trip_and_a_hit_neither(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commands() -> int:
        stats = store.info("commandstats")
        return sum(
            stats[f"cmdstat_{name}"]["calls"] for name in ("eval", "evalsha") if f"cmdstat_{name}" in stats
        )

    def counted(wait_ms: int) -> list[int]:
        rig = rig_of(redis_server, monkeypatch, wait_ms=wait_ms, namespace=f"n{wait_ms}")
        rig.ask("a first one, for what is learnt of Redis once")
        rig.ask("q")
        counts = [commands()]
        for text in ("r", "q"):
            rig.access(text)
            counts.append(commands())
        return [after - before for before, after in itertools.pairwise(counts)]

    assert counted(0) == counted(LONG_MS) == [1, 0]


# -- while no provider can be asked ----------------------------------------------------------------------------------


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the cache's clock be so far ahead."""
    monkeypatch.setattr(cache_service, "time", SimpleNamespace(time=lambda: time.time() + seconds))


def no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the engine does it where none can be asked."""
    monkeypatch.setattr(Host, "stand_in", lambda _self, answer: answer())


STALE = {"cache_ttl": 60, "stale_if_error_s": 600}


@pytest.mark.parametrize("wait_ms", [0, LONG_MS])
def test_an_expired_answer_is_served_where_no_provider_can_be_asked(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, wait_ms: int
) -> None:
    rig = rig_of(redis_server, monkeypatch, wait_ms=wait_ms, **STALE)
    rig.ask("q")
    later(monkeypatch, 100)
    if wait_ms:  # Redis' clock isn't the cache's here
        (name,) = store.scan_iter(KEYS.entry("*").replace("{", "[{]"))
        store.expire(name, 560)
    miss = rig.access("q")
    assert status(miss) == "Miss", "a provider can be asked"
    rig.log(miss, status=503)
    no_provider(monkeypatch)
    kong = rig.access("q")
    assert status(kong) == "Stale"
    assert kong.exit is not None
    assert kong.exit.status == 200
    assert b"An answer." in kong.exit.body
    assert 100 <= int(kong.exit.headers["age"]) < 160
    assert kong.exit.headers["x-cache-ttl"] == "0"


@pytest.mark.parametrize(
    ("config", "seconds", "control", "text"),
    [
        (STALE, 700, "", "q"),
        (STALE, 100, "no-cache", "q"),
        (STALE, 100, "max-age=90", "q"),
        (STALE, 100, "min-fresh=1", "q"),
        (STALE, 100, "", "another question"),
        ({"cache_ttl": 60}, 100, "", "q"),
    ],
)
def test_what_is_no_stale_answer(
    redis_server: RedisServer,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    seconds: float,
    control: str,
    text: str,
) -> None:
    rig = rig_of(redis_server, monkeypatch, wait_ms=0, **config)
    rig.ask("q")
    later(monkeypatch, seconds)
    no_provider(monkeypatch)
    assert rig.access(text, headers={"Cache-Control": control}).exit is None


def test_a_guard_that_does_not_let_a_request_pass_gets_it_no_stale_answer(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig_of(redis_server, monkeypatch, wait_ms=0, namespace="n", **STALE).ask("q")
    later(monkeypatch, 100)
    no_provider(monkeypatch)
    guarded = rig_of(
        redis_server, monkeypatch, wait_ms=0, namespace="n", guards=["tenant-guardrails"], **STALE
    )
    assert guarded.access("q").exit is None


CLOSED = {"mode": "cache_only"}


def refused(kong: FakeKong) -> tuple[int, str, bool]:
    assert kong.exit is not None
    return kong.exit.status, kong.exit.json["error"]["code"], "retry-after" in kong.exit.headers


def test_cache_only_serves_what_is_there_and_refuses_the_rest(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig_of(redis_server, monkeypatch, wait_ms=0, namespace="n", **STALE).ask("q")
    closed = rig_of(redis_server, monkeypatch, namespace="n", **STALE, **CLOSED)
    assert status(closed.access("q")) == "Hit"
    for how in (
        {"text": "another question"},
        {"text": "q", "headers": {"Cache-Control": "no-store"}},
        {"text": "q", "headers": {"Cache-Control": "no-cache"}},
        {"text": "q", "tenant": None},
        {"text": "q", "n": 2},
    ):
        assert refused(closed.access(**how)) == (504, "cache_only", True)
    only = closed.access("another question", headers={"Cache-Control": "only-if-cached"})
    assert refused(only) == (504, "only_if_cached", False)
    later(monkeypatch, 100)
    assert status(closed.access("q")) == "Stale"


def test_cache_only_serves_what_would_otherwise_be_compared(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig_of(redis_server, monkeypatch, wait_ms=0, namespace="n").ask("q")
    closed = rig_of(redis_server, monkeypatch, namespace="n", probe_rate=0.5, **CLOSED)
    assert {status(closed.access("q")) for _ in range(20)} == {"Hit"}


@pytest.mark.parametrize(
    ("on_error", "found"),
    [("pass", (504, "cache_only", True)), ("reject", (503, "tenantgate_unavailable", False))],
)
def test_cache_only_lets_nothing_through_where_redis_is_gone(
    monkeypatch: pytest.MonkeyPatch, on_error: str, found: tuple[int, str, bool]
) -> None:
    use_small_models(monkeypatch)
    rig = Rig(free_port(), {**CLOSED, "on_error": on_error})
    assert refused(rig.access("q")) == found


def test_cache_only_lets_nothing_through_where_the_cache_fails(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of(redis_server, monkeypatch, **CLOSED)

    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(cache_service.SemanticCache, "_question", fail)
    assert refused(rig.access("q"))[:2] == (503, "tenantgate_unavailable")
