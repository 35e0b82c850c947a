"""The store on a real Redis when its indexes are damaged, when it is full, when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import Found, RefusedError, UnavailableError
from tenantgate.cache.redis_store import RedisCache
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import Node, connect
from tenantgate.tenant import TenantId

ACME = TenantId("acme")
KEYS = Keys(ACME)
SET = KEYS.bucket("0" * 32)
OTHER_SET = KEYS.bucket("1" * 32)


def made(port: int) -> RedisCache:
    return RedisCache(connect(RedisConfig(port=port), timeout_ms=2000))


@pytest.fixture
def cache(redis_server: RedisServer, store: redis.Redis) -> RedisCache:
    return made(redis_server.port)


def vector(seed: int, size: int = 16) -> bytes:
    drawn = np.random.default_rng(seed).normal(size=size)
    return (drawn / np.linalg.norm(drawn)).astype("<f4").tobytes()


def put(
    cache: RedisCache,
    name: str,
    value: bytes = b"v",
    *,
    ttl_s: int = 100,
    most: int = 100,
    most_bytes: int = 1 << 20,
    found: bool = False,
    bucket: str = SET,
    keys: Keys = KEYS,
) -> bool:
    where = bucket if found else None
    return cache.store(keys, name, value, ttl_s=ttl_s, max_entries=most, max_bytes=most_bytes, bucket=where)


def kept(cache: RedisCache, *names: str) -> set[str]:
    return {name for name in names if cache.get(KEYS, name) is not None}


def indexes_agree(store: Any) -> None:
    """Whether index, sizes and buckets name the same entries, and the sum is the sum."""
    sizes = {k.decode(): v.decode() for k, v in store.hgetall(KEYS.sizes).items()}
    total = int(sizes.pop("total", "0"))
    assert total == sum(int(booked.partition("|")[0]) for booked in sizes.values())
    assert {name.decode() for name in store.zrange(KEYS.index, 0, -1)} == set(sizes)
    for bucket in (SET, OTHER_SET):
        held = {n for n, booked in sizes.items() if booked.partition("|")[2] == bucket}
        assert store.zcard(bucket) == len(held)


# -- indexes -----------------------------------------------------------------------------------------------


def test_any_course_of_stores_leaves_indexes_that_agree(cache: RedisCache, store: redis.Redis) -> None:
    draw = np.random.default_rng(3)
    for _ in range(150):
        name = f"n{draw.integers(12)}"
        match int(draw.integers(4)):
            case 0:
                cache.forget(KEYS, name)
            case 1:
                put(cache, name, b"x" * int(draw.integers(2000)), most=8, most_bytes=9000)
            case choice:
                bucket = SET if choice == 2 else OTHER_SET
                put(
                    cache,
                    name,
                    b"x" * int(draw.integers(2000)),
                    most=8,
                    most_bytes=9000,
                    found=True,
                    ttl_s=int(draw.integers(50, 100)),
                    bucket=bucket,
                )
        indexes_agree(store)
        assert store.zcard(KEYS.index) <= 8
        assert int(store.hget(KEYS.sizes, "total") or 0) <= 9000


@pytest.mark.parametrize("lost", [KEYS.index, KEYS.sizes])
def test_an_index_that_redis_let_go_does_not_stop_the_storing(
    cache: RedisCache, store: redis.Redis, lost: str
) -> None:
    # With `allkeys-lru`, which the embedded host sets, either index can go alone.
    for i in range(4):
        put(cache, f"n{i}", b"x" * 1000, most_bytes=5200)
    store.delete(lost)
    for i in range(4):
        assert put(cache, f"new{i}", b"x" * 1000, most_bytes=5200)
        assert kept(cache, f"new{i}"), "reported as stored, and is not there"
    assert len(kept(cache, *(f"new{i}" for i in range(4)))) >= 3


def test_an_entry_that_redis_let_go_is_forgotten_like_others(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a", found=True)
    store.delete(KEYS.entry("a"))
    assert not cache.forget(KEYS, "a")
    indexes_agree(store)
    assert store.zcard(KEYS.index) == 0


def test_an_entry_as_large_as_the_tenants_room_is_stored(cache: RedisCache, store: redis.Redis) -> None:
    size = 1000 + 256  # value, booking
    put(cache, "old", most_bytes=size)
    assert put(cache, "a", b"x" * 1000, most_bytes=size, found=True)
    assert kept(cache, "a", "old") == {"a"}
    assert not put(cache, "b", b"x" * 1001, most_bytes=size, found=True)
    assert kept(cache, "a", "b") == {"a"}


def test_one_entry_may_be_all(cache: RedisCache, store: redis.Redis) -> None:
    for i in range(5):
        # Each lives shorter than the one before, so by expiry it would be the next to go.
        assert put(cache, f"n{i}", ttl_s=100 - i, most=1)
        assert kept(cache, *(f"n{j}" for j in range(5))) == {f"n{i}"}
    indexes_agree(store)


def test_limits_that_were_lowered_are_reached(cache: RedisCache, store: redis.Redis) -> None:
    for i in range(20):
        put(cache, f"n{i}", found=True)
    put(cache, "last", most=5)
    assert store.zcard(KEYS.index) == 5
    indexes_agree(store)


# -- buckets ---------------------------------------------------------------------------------------------


def test_buckets_are_searched_apart(cache: RedisCache) -> None:
    put(cache, "a", found=True, bucket=SET)
    put(cache, "b", found=True, bucket=OTHER_SET)
    assert [n.name for n in cache.neighbours(KEYS, SET, 4).neighbours] == ["a"]
    assert [n.name for n in cache.neighbours(KEYS, OTHER_SET, 4).neighbours] == ["b"]


def test_no_more_neighbours_than_asked_for(cache: RedisCache) -> None:
    for i in range(10):
        put(cache, f"n{i}", found=True)
    assert [len(cache.neighbours(KEYS, SET, count).neighbours) for count in (1, 4, 32)] == [1, 4, 10]


def test_where_there_is_the_very_entry_no_neighbours_are_looked_for(cache: RedisCache) -> None:
    put(cache, "a", b"mine", found=True)
    put(cache, "b", found=True)
    assert cache.neighbours(KEYS, SET, 4, exact="a") == Found(b"mine")
    found = cache.neighbours(KEYS, SET, 4, exact="c")
    assert (found.entry, found.neighbours[0].name) == (None, "b")


def test_an_entry_may_move_to_another_bucket(cache: RedisCache, store: redis.Redis) -> None:
    put(cache, "a", found=True, bucket=SET)
    put(cache, "a", found=True, bucket=OTHER_SET)
    assert cache.neighbours(KEYS, SET, 4) == Found()
    indexes_agree(store)


# -- full and foreign ------------------------------------------------------------------------------------


@pytest.fixture
def full(store: Any) -> Iterator[Callable[[], None]]:
    policy = store.config_get("maxmemory-policy")["maxmemory-policy"]

    def fill() -> None:
        store.config_set("maxmemory-policy", "noeviction")
        store.config_set("maxmemory", "1")

    yield fill
    store.config_set("maxmemory", "256mb")
    store.config_set("maxmemory-policy", policy)


@pytest.mark.parametrize("seed", [None, 2])
def test_a_full_redis_serves_both_levels_and_refuses_to_store(
    cache: RedisCache, store: redis.Redis, full: Callable[[], None], seed: int | None
) -> None:
    put(cache, "a", b"value", found=True)
    full()
    with pytest.raises(RefusedError):
        put(cache, "b", found=True)
    assert cache.get(KEYS, "a") == b"value"
    assert [n.name for n in cache.neighbours(KEYS, SET, 4).neighbours] == ["a"]
    assert cache.forget(KEYS, "a")  # what makes room still works
    indexes_agree(store)
    assert not cache.open


def foreign(store: redis.Redis, key: str) -> None:
    store.delete(key)
    store.rpush(key, "foreign")


@pytest.mark.parametrize("key", [KEYS.index, KEYS.sizes])
def test_a_foreign_index_does_not_touch_reading(cache: RedisCache, store: redis.Redis, key: str) -> None:
    put(cache, "a", b"value", found=True)
    foreign(store, key)
    assert cache.get(KEYS, "a") == b"value"
    assert [n.name for n in cache.neighbours(KEYS, SET, 4).neighbours] == ["a"]


def test_a_foreign_entry_refuses_without_opening_the_breaker(cache: RedisCache, store: redis.Redis) -> None:
    foreign(store, KEYS.entry("a"))
    for _ in range(10):
        with pytest.raises(RefusedError, match="WRONGTYPE"):
            cache.get(KEYS, "a")
    assert not cache.open


def test_an_error_tells_its_code_and_nothing_of_the_call(cache: RedisCache, store: redis.Redis) -> None:
    foreign(store, SET)
    with pytest.raises(RefusedError) as caught:
        put(cache, "a", b"canary", found=True)
    assert str(caught.value) == "redis: WRONGTYPE"
    assert caught.value.__cause__ is None


# -- gone ------------------------------------------------------------------------------------------------


class Counted:
    """How often this thread asked a Redis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, own = 0, threading.get_ident()
        original: Any = Node.ask

        def counting(node: Node, *args: Any) -> Any:
            self.calls += threading.get_ident() == own
            return original(node, *args)

        monkeypatch.setattr(Node, "ask", counting)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The store's clock, moved by hand."""
    now = [1000.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr("tenantgate.cache.redis_store.time", Clock)
    return now


def fails(cache: RedisCache) -> None:
    with pytest.raises(UnavailableError) as caught:
        cache.get(KEYS, "a")
    assert not isinstance(caught.value, RefusedError)


def test_after_three_failures_redis_is_asked_once_a_pause(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    cache, counted = made(free_port()), Counted(monkeypatch)
    for asked in (1, 2, 3):
        assert not cache.open
        fails(cache)
        assert counted.calls == asked
    assert cache.open
    for _ in range(50):
        fails(cache)
    with pytest.raises(UnavailableError):
        cache.neighbours(KEYS, SET, 4)
    with pytest.raises(UnavailableError):
        put(cache, "a")
    with pytest.raises(UnavailableError):
        cache.forget(KEYS, "a")
    assert counted.calls == 3
    for later in (4, 5, 6):
        clock[0] += 1.1
        for _ in range(10):
            fails(cache)
        assert counted.calls == later


def test_writes_that_fail_do_not_open_it(clock: list[float]) -> None:
    cache = made(free_port())
    for _ in range(10):
        with pytest.raises(UnavailableError):
            put(cache, "a")
    assert not cache.open


def test_a_killed_redis_is_found_again_when_it_is_back(tmp_path: Path, clock: list[float]) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        cache = made(server.port)
        put(cache, "a", found=True)
        server.kill()
        for _ in range(4):
            fails(cache)
        assert cache.open
        server.start()
        fails(cache)  # held back until the pause is over
        clock[0] += 1.1
        assert cache.get(KEYS, "a") is None  # nothing was written to disk
        assert put(cache, "a", found=True)  # closed again, and its scripts are loaded anew
        assert [n.name for n in cache.neighbours(KEYS, SET, 4).neighbours] == ["a"]
    finally:
        server.stop()
