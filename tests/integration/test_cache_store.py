"""The indexes of a tenant's entries in a real Redis: limits, expiry, sweeping."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import pytest
import redis

from tenantgate.cache import sweeping as cache_sweeping
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import Found, RefusedError, UnavailableError
from tenantgate.cache.redis_store import RedisCache
from tenantgate.cache.sweeping import Sweeper
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

from support import until

ACME = TenantId("acme")
KEYS = Keys(ACME)
SET = KEYS.bucket("0" * 32)


@pytest.fixture
def cache(redis_server: RedisServer, store: redis.Redis) -> RedisCache:
    return RedisCache(connect(RedisConfig(port=redis_server.port), timeout_ms=2000))


def vector(seed: int) -> bytes:
    made = np.random.default_rng(seed).normal(size=16)
    return (made / np.linalg.norm(made)).astype("<f4").tobytes()


def put(
    cache: RedisCache,
    name: str,
    value: bytes = b"v",
    *,
    ttl_s: int = 100,
    most: int = 100,
    most_bytes: int = 1 << 20,
    found: bool = False,
) -> bool:
    bucket = SET if found else None
    return cache.store(KEYS, name, value, ttl_s=ttl_s, max_entries=most, max_bytes=most_bytes, bucket=bucket)


def names(store: redis.Redis) -> set[str]:
    return {k.decode().rpartition(":")[2] for k in store.scan_iter(KEYS.entry("*").replace("{", "[{]"))}


def booked(store: redis.Redis) -> int:
    return int(store.hget(KEYS.sizes, "total") or 0)


def test_what_is_stored_is_found(cache: RedisCache, store: redis.Redis) -> None:
    assert put(cache, "a", b"value", found=True)
    assert cache.get(KEYS, "a") == b"value"
    (near,) = cache.neighbours(KEYS, SET, 4).neighbours
    assert (near.name, near.value) == ("a", b"value")
    assert cache.get(KEYS, "b") is None
    assert cache.neighbours(KEYS, SET + "x", 4) == Found()


def test_of_the_neighbours_the_latest_to_expire_come_first(cache: RedisCache) -> None:
    for i in range(20):
        put(cache, f"n{i}", ttl_s=100 + i, found=True)
    near = cache.neighbours(KEYS, SET, 3).neighbours
    assert [n.name for n in near] == ["n19", "n18", "n17"]


def test_everything_expires(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a", ttl_s=100, found=True)
    put(cache, "b", ttl_s=50, found=True)
    for key in store.scan_iter():
        assert 0 < store.ttl(key) <= 100
    assert store.ttl(SET) > 50  # a shorter life doesn't shorten the set's


def test_storing_again_replaces(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a", b"x" * 1000, found=True)
    put(cache, "a", b"y" * 10)
    assert booked(store) < 500
    assert store.zcard(SET) == 0
    assert store.zcard(KEYS.index) == 1


def test_too_many_entries_make_the_ones_go_that_expire_first(cache: RedisCache, store: redis.Redis) -> None:
    for i, ttl in enumerate((50, 10, 90, 70)):
        put(cache, f"n{i}", ttl_s=ttl, most=3, found=True)
    assert names(store) == {"n0", "n2", "n3"}
    assert store.zcard(SET) == 3


def test_too_many_bytes_make_room(cache: RedisCache, store: redis.Redis) -> None:
    for i in range(10):
        put(cache, f"n{i}", b"x" * 1000, ttl_s=100 + i, most_bytes=5000)
    assert names(store) == {"n7", "n8", "n9"}
    assert booked(store) <= 5000


def test_an_entry_beyond_the_tenants_bytes_is_refused_and_nothing_goes(
    cache: RedisCache, store: redis.Redis
) -> None:
    put(cache, "a", most_bytes=2000)
    assert not put(cache, "b", b"x" * 3000, most_bytes=2000)
    assert names(store) == {"a"}


def test_one_tenant_never_makes_room_for_another(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a")
    other = Keys(TenantId("globex"))
    for i in range(5):
        cache.store(other, f"n{i}", b"v", ttl_s=10, max_entries=1, max_bytes=1 << 20)
    assert cache.get(KEYS, "a") == b"v"


def test_a_name_whose_entry_is_gone_goes_when_it_is_met(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a", found=True)
    put(cache, "b", found=True)
    store.delete(KEYS.entry("a"))  # as Redis does when memory is short
    assert [n.name for n in cache.neighbours(KEYS, SET, 4).neighbours] == ["b"]
    assert store.zcard(SET) == 1


def test_what_expired_is_swept_by_the_next_store(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "long", ttl_s=100, found=True)
    for i in range(3):
        put(cache, f"n{i}", ttl_s=1, found=True)
    until(lambda: names(store), lambda found: found == {"long"}, what="expiry")
    until(lambda: put(cache, "new", ttl_s=100), lambda _: store.zcard(KEYS.index) == 2, what="sweep")
    assert store.zcard(SET) == 1
    assert set(store.hkeys(KEYS.sizes)) == {b"long", b"new", b"total"}


def test_forgetting_removes_entry_name_and_booking(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a", found=True)
    assert cache.forget(KEYS, "a")
    assert not cache.forget(KEYS, "a")
    assert booked(store) == 0
    assert names(store) == set()
    assert store.zcard(SET) == 0


@pytest.mark.parametrize("key", [KEYS.index, KEYS.sizes, SET])
def test_a_foreign_type_under_an_index_refuses_and_is_left_alone(
    cache: RedisCache, store: redis.Redis, key: str
) -> None:
    store.set(key, "foreign")
    with pytest.raises(RefusedError, match="WRONGTYPE"):
        put(cache, "a", found=True)
    assert store.get(key) == b"foreign"
    assert names(store) == set()


def test_scripts_are_loaded_again_after_redis_forgot_them(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a", found=True)
    store.script_flush()
    assert put(cache, "b", found=True)
    assert cache.neighbours(KEYS, SET, 1).neighbours[0].name == "b"


def expired(cache: RedisCache, store: redis.Redis, count: int) -> None:
    """So many entries whose time is over, and one that lives."""
    for i in range(count):
        put(cache, f"old{i}", found=True, most=10_000)
    put(cache, "lives", found=True, most=10_000)
    store.zadd(KEYS.index, {f"old{i}": 1 for i in range(count)})
    store.delete(*(KEYS.entry(f"old{i}") for i in range(count)))


def test_a_sweep_removes_what_expired_and_nothing_else(cache: RedisCache, store: Any) -> None:
    expired(cache, store, 10)
    assert cache.sweep(KEYS, most=6, every_ms=60_000) == (6, 5)
    assert cache.sweep(KEYS, most=6, every_ms=60_000) == (4, 1)
    assert cache.sweep(KEYS, most=6, every_ms=60_000) == (0, 1)
    store.zadd(KEYS.index, {"lives": 1})
    assert cache.sweep(KEYS, most=6, every_ms=60_000) == (0, 1), "it was done just now, by whomever"
    assert cache.sweep(Keys(TenantId("other")), most=6, every_ms=60_000) == (0, 0)
    assert 59_000 < store.pttl(KEYS.swept) <= 60_000
    assert store.zrange(KEYS.index, 0, -1) == [b"lives"]
    sizes = store.hgetall(KEYS.sizes)
    assert set(sizes) == {b"lives", b"total"}
    assert sizes[b"total"] == sizes[b"lives"].partition(b"|")[0]
    assert store.zcard(SET) == 1


def test_a_full_redis_is_swept(cache: RedisCache, store: Any) -> None:
    expired(cache, store, 3)
    store.config_set("maxmemory-policy", "noeviction")
    store.config_set("maxmemory", "1")
    try:
        assert cache.sweep(KEYS, most=9, every_ms=60_000) == (3, 1)
        assert cache.sweep(Keys(TenantId("other")), most=9, every_ms=60_000) == (0, 0)
    finally:
        store.config_set("maxmemory", "256mb")
        store.config_set("maxmemory-policy", "allkeys-lru")


def test_the_sweeper_sweeps_in_small_steps_each_tenant_that_was_seen(
    cache: RedisCache, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_sweeping, "_PAUSE_S", 0.0)
    expired(cache, store, 150)
    sweeper = Sweeper(cache)
    sweeper.note(ACME, 0)
    sweeper.sweep(time.monotonic() + 1e9)
    assert store.zcard(KEYS.index) == 151, "0: never"
    monkeypatch.setattr(sweeper._thread, "wake", lambda: None)  # swept by hand
    sweeper.note(ACME, 60)
    sweeper.sweep(time.monotonic())
    assert store.zcard(KEYS.index) == 151, "not yet"
    sweeper.sweep(time.monotonic() + 61)
    assert store.zcard(KEYS.index) == 1
    assert ACME in sweeper._due, "one lives"
    store.zadd(KEYS.index, {"lives": 1})
    store.delete(KEYS.swept)
    sweeper.sweep(time.monotonic() + 1000)
    assert not sweeper._due


@pytest.mark.parametrize("error", [UnavailableError("redis: gone"), TypeError("unforeseen")])
def test_a_tenant_whose_sweep_fails_is_not_tried_in_vain(
    cache: RedisCache, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(keys: Keys, **how: int) -> tuple[int, int]:
        raise error

    monkeypatch.setattr(cache, "sweep", fail)
    sweeper = Sweeper(cache)
    monkeypatch.setattr(sweeper._thread, "wake", lambda: None)  # swept by hand
    sweeper.note(ACME, 60)
    with contextlib.suppress(TypeError):
        sweeper.sweep(time.monotonic() + 61)
    assert not sweeper._due
    sweeper.note(ACME, 60)
    assert ACME in sweeper._due, "its next request brings it back"


def test_the_sweepers_thread_does_it_by_itself(cache: RedisCache, store: Any) -> None:
    expired(cache, store, 3)
    sweeper = Sweeper(cache)
    sweeper.note(ACME, 1)
    until(lambda: store.zcard(KEYS.index), lambda n: n == 1, what="entries in the index")
    sweeper._thread.stop(10)  # one lives: it would go on without this Redis
