"""The policy directory in Redis: what others write there, what it loses, and its room."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from policy_rig import KEY, NOTE, put
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.policy.core.ports import Acknowledgement, DamagedError, UnavailableError
from tenantgate.policy.redis_store import RedisPolicyStore
from tenantgate.store.url import redis_config

HEAD = "tg:policy:1:{policy}:head"
VERSIONS, INDEX, CONTENTS, PROCESSES, UNDO = (
    f"tg:policy:1:{{policy}}:{name}" for name in ("versions", "index", "contents", "processes", "undo:2")
)


@pytest.fixture
def in_redis(redis_server: RedisServer, store: redis.Redis) -> Iterator[RedisPolicyStore]:
    del store  # empties it
    made = RedisPolicyStore(redis_config(redis_server.url), KEY)
    put(made, acme=b"strict", globex=b"1")
    put(made, acme=b"lax")
    put(made, acme=b"strict")
    yield made
    made.close()


def swap(client: Any) -> None:
    client.hset(INDEX, "acme", hashlib.sha256(b"lax").hexdigest())


def lower(client: Any) -> None:
    client.hset(VERSIONS, "3", client.hget(VERSIONS, "2"))
    client.set(HEAD, client.hget(VERSIONS, "2"))


def forge(client: Any) -> None:
    client.set(HEAD, client.get(HEAD).replace(b"[3,", b"[4,"))


@pytest.mark.parametrize(
    ("attack", "version"),
    [
        (swap, None),
        (lambda client: client.hdel(INDEX, "acme"), None),
        (lambda client: client.hset(INDEX, "new", hashlib.sha256(b"lax").hexdigest()), None),
        (lambda client: client.hset(INDEX, "acme", "no hash"), None),
        (lambda client: client.delete(INDEX), None),
        (lower, 3),
        (forge, None),
        (lambda client: client.set(HEAD, b"[4, 1.0, 2]"), None),
        (lambda client: client.set(HEAD, b"[" * 100_000), None),
        (lambda client: client.set(HEAD, b"{}"), None),
        (lambda client: client.set(HEAD, b""), None),
        (lambda client: client.hset(UNDO, "acme", hashlib.sha256(b"lax").hexdigest()), 1),
        (lambda client: client.delete(UNDO), 1),
        (lambda client: client.hset(VERSIONS, "2", client.hget(VERSIONS, "3")), 2),
    ],
)
def test_who_writes_to_redis_without_the_key_changes_no_rule(
    in_redis: RedisPolicyStore, store_client: Any, attack: Callable[[Any], object], version: int | None
) -> None:
    attack(store_client)
    with pytest.raises(DamagedError):
        in_redis.record("acme", version)


@pytest.fixture
def store_client(redis_server: RedisServer) -> Iterator[Any]:
    client = redis.Redis(port=redis_server.port)
    yield client
    client.close()


def test_another_gateways_key_opens_nothing(in_redis: RedisPolicyStore, redis_server: RedisServer) -> None:
    assert in_redis.record("acme") == b"strict"
    other = RedisPolicyStore(redis_config(redis_server.url), KEY + "x")
    with pytest.raises(DamagedError, match="MAC"):
        other.latest()
    with pytest.raises(DamagedError):
        other.publish({"acme": b"lax"}, expected=3, note=NOTE)
    other.close()


def test_what_was_staged_and_is_lost_is_staged_again(
    in_redis: RedisPolicyStore, store_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, times = in_redis._stage, []

    def losing(delta: Any, bodies: Any) -> str:
        key = stage(delta, bodies)
        times.append(key)
        if len(times) == 1:
            store_client.delete(key)
        if len(times) == 2:
            store_client.hdel(CONTENTS, *[h.hex() for h in bodies])
        return key

    monkeypatch.setattr(in_redis, "_stage", losing)
    assert put(in_redis, acme=b"new") == 4
    assert (len(times), in_redis.record("acme")) == (3, b"new")
    assert [key for key in store_client.scan_iter() if b"staged" in key and key.decode() != times[1]] == []


def test_a_full_redis_publishes_nothing(in_redis: RedisPolicyStore, store_client: Any) -> None:
    store_client.config_set("maxmemory-policy", "noeviction")
    store_client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(UnavailableError):
            put(in_redis, acme=b"new")
        assert (in_redis.head(), in_redis.record("acme")) == (3, b"strict")
    finally:
        store_client.config_set("maxmemory", "256mb")
        store_client.config_set("maxmemory-policy", "allkeys-lru")


def test_what_isnt_an_acknowledgement_is_dropped(in_redis: RedisPolicyStore, store_client: Any) -> None:
    for field, value in [("x", "y"), ('["n","p"]', "[1]"), ("[1,2]", "[1,2]"), ('["n","q"]', "[" * 9999)]:
        store_client.hset(PROCESSES, field, value)
    in_redis.acknowledge("n", "1", 3, 5.0)
    assert in_redis.acknowledgements() == [Acknowledgement("n", "1", 3, 5.0)]
    assert store_client.hlen(PROCESSES) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (redis.exceptions.AuthenticationError("WRONGPASS secret"), "refuses the user name or the password"),
        (redis.exceptions.NoPermissionError("User ops"), "gives its user too few rights"),
        (redis.exceptions.OutOfMemoryError("OOM"), "is full"),
        (redis.exceptions.TimeoutError("secret"), "gives no answer in time"),
        (redis.exceptions.ConnectionError("secret"), "can't be reached"),
        (redis.exceptions.ResponseError("ERR secret"), "refuses a command"),
        (OSError("secret"), "refuses a command"),
    ],
)
def test_what_keeps_redis_from_answering_is_said_without_its_words(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisPolicyStore(redis_config("redis://127.0.0.1:1"), KEY)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tenantgate.store.redis_nodes.Nodes.ask", fail)
    with pytest.raises(UnavailableError, match=said) as caught:
        store.latest()
    assert "secret" not in str(caught.value)
