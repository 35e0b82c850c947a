"""The cache's entries in Redis: operations of one round trip each, short time-outs, a circuit breaker.

An entry is a string with a time to live. Its name lies in the sorted set of its bucket, its size and expiry in two
indexes of the tenant, by which the oldest make room. The scripts beside this file keep the three together.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis
from redis.exceptions import ClusterDownError

from tenantgate.cache.core.ports import (
    Found,
    Held,
    HeldBackError,
    Leased,
    LeaseWish,
    Neighbour,
    RefusedError,
    UnavailableError,
)
from tenantgate.cache.core.recent_names import RecentNames
from tenantgate.cache.stage_metrics import Measured, Stage
from tenantgate.store.breaker import Breaker
from tenantgate.store.redis_limits import within
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantgate.cache.core.partition import Keys
    from tenantgate.store.redis_nodes import Node, Nodes

__all__ = ["Known", "OwnLease", "RedisCache"]

T = TypeVar("T")
_log: Final = logging.getLogger("tenantgate.cache")

_NO_WISH: Final = -1  # in place of the ms that a lease still holds
_TICK_MS: Final = 100  # that a Redis with nothing else to do may be late in ending a wait (`hz 10`)
_LATE_S: Final = 0.05  # that its answer may take then
_QUIET_S: Final = 10.0  # between two log lines about the same kind of failure

_RECENT: Final = 20_000  # names, 4 MB

_failures: Final = metrics.counter(
    "tenantgate_cache_redis_failures_total", "Calls to Redis that failed, by kind.", ("kind",)
)
_breaker_open: Final = metrics.gauge(
    "tenantgate_cache_breaker_open",
    "1 while requests pass because this Redis failed several times in a row.",
    ("redis",),
)


@dataclass(frozen=True, slots=True)
class Known:
    """The state of a bound: its version (0: none yet), its evidence as it is stored, and an entry, still sealed."""

    version: int
    evidence: bytes | None
    entry: bytes | None


@dataclass(frozen=True, slots=True)
class OwnLease:
    """A lease that was given, its token, what it holds. Who comes late to wait finds for `linger_ms` that it went."""

    token: str
    value: str
    linger_ms: int


def _script(name: str) -> str:
    return resources.files("tenantgate.cache").joinpath("redis_scripts", f"{name}.lua").read_text("utf-8")


class RedisCache:
    """The store of one Redis or one cluster; thread-safe.

    `nodes` answer requests, `writer` stores after them, `waiter` has connections on which Redis is long in answering.
    """

    def __init__(self, nodes: Nodes, writer: Nodes | None = None, waiter: Nodes | None = None) -> None:
        self._nodes, self._writer, self._waiter = nodes, writer or nodes, waiter or nodes
        maker = redis.Redis()  # never connects: a script only needs an encoding
        self._similar = maker.register_script(_script("similar"))
        self._store = maker.register_script(_script("store"))
        self._forget = maker.register_script(_script("purge"))
        self._sweep = maker.register_script(_script("sweep"))
        self._evidence = maker.register_script(_script("evidence"))
        self._learn = maker.register_script(_script("learn"))
        self._lease = maker.register_script(_script("lease"))
        self._let_go = maker.register_script(_script("let_go"))
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()
        self._logged: dict[tuple[str, str], float] = {}
        self._recent = RecentNames(_RECENT)

    @property
    def open(self) -> bool:
        """Whether a breaker holds requests back: each node has its own."""
        return any(breaker.open for breaker in self._breakers.values())

    def expects(self, name: str) -> bool:
        """Whether this process has stored or found the entry lately, or a breaker is open."""
        return name in self._recent or self.open

    def get(self, keys: Keys, name: str) -> bytes | None:
        """An entry as it was sealed, or None.

        Raises:
            UnavailableError: Redis failed, or the breaker is open.
            RefusedError: for example because another type lies under the entry's key.
        """
        key = keys.entry(name)
        with Measured(Stage.EXACT):
            value = self._ask(key, lambda client: client.get(key))
        if isinstance(value, bytes):
            self._recent.add(name)
            return value
        self._recent.discard(name)
        return None

    def neighbours(
        self,
        keys: Keys,
        bucket: str,
        count: int,
        *,
        exact: str | None = None,
        plan: str | None = None,
        wish: LeaseWish | None = None,
    ) -> Found:
        """The entry with the name `exact`, as `get` gives it; if there is none, entries of the bucket under this key.

        These are at most `count`, the latest to expire first; with them comes the plan under the key `plan`. `wish` is
        for the lease of the exact entry.

        Raises:
            UnavailableError: Redis failed, or the breaker is open.
            RefusedError: for example because another type lies under the key.
        """
        where = [bucket, plan or keys.bound(""), *([] if exact is None else [keys.entry(exact)])]
        args: list[Any] = [count, keys.entry("")]
        if exact is not None and wish is not None:
            where.append(keys.lease(exact))
            args += _wished(wish)
        call = partial(self._similar, keys=where, args=args)
        with Measured(Stage.SIMILAR):
            answer = self._ask(bucket, lambda client: call(client=client))
        try:
            match answer:
                case [entry, stored_plan, held, int(left_ms), *rest]:
                    pairs = zip(rest[::2], rest[1::2], strict=True)
                    near = tuple(Neighbour(name.decode(), value) for name, value in pairs)
                    if exact is not None and entry is not None:
                        self._recent.add(exact)
                    leased = None if left_ms == _NO_WISH else _leased(held, left_ms)
                    return Found(entry, near, stored_plan, leased)
        except (TypeError, ValueError, AttributeError):
            pass
        raise self._unexpected(self._nodes, bucket)

    def store(
        self,
        keys: Keys,
        name: str,
        value: bytes,
        *,
        ttl_s: int,
        max_entries: int,
        max_bytes: int,
        bucket: str | None = None,
        lease: OwnLease | None = None,
    ) -> bool:
        """Store an entry, and its name under the key `bucket`; False if it is larger than `max_bytes`.

        If it is stored, `lease` is let go of.

        Raises:
            UnavailableError: Redis failed, or is full.
        """
        where = [keys.entry(name), keys.index, keys.sizes]
        args: list[Any] = [value, ttl_s, name, keys.entry(""), max_entries, max_bytes]
        if lease is not None:
            where += [keys.lease(name), keys.let_go(lease.token)]
            args += [lease.value, lease.linger_ms]
        if bucket is not None:
            where.append(bucket)
        call = partial(self._store, keys=where, args=args)
        with Measured(Stage.STORE):
            answer = self._write(keys.index, lambda client: call(client=client))
        if answer != b"stored":
            return False
        self._recent.add(name)
        return True

    def lease(self, keys: Keys, name: str, wish: LeaseWish) -> Leased:
        """As `tenantgate.cache.core.coalescing.Leases.lease`.

        Raises:
            UnavailableError: Redis failed, or the breaker is open.
            RefusedError: for example because another type lies under a key.
        """
        lease = keys.lease(name)
        call = partial(self._lease, keys=[lease, keys.entry(name)], args=_wished(wish))
        match self._ask(lease, lambda client: call(client=client)):
            case [bytes(entry)]:
                return Leased(Held(entry))
            case [held, int(left_ms)]:
                return _leased(held, left_ms)
        raise self._unexpected(self._nodes, lease)

    def wait(self, keys: Keys, token: str, wait_ms: int) -> None:
        """As `tenantgate.cache.core.coalescing.Leases.wait`, on a connection of its own.

        Raises:
            UnavailableError: Redis failed, or was late by more than `_LATE_S`.
        """
        key, block_ms = keys.let_go(token), max(1, wait_ms - _TICK_MS)
        node = self._node(self._waiter, key)
        call = partial(_read_one, key=key, block_ms=block_ms)
        with within((block_ms + _TICK_MS) / 1000 + _LATE_S):
            self._call(node.name, lambda: node.ask(call))

    def let_go(self, keys: Keys, name: str, lease: OwnLease) -> bool:
        """Let go of the lease of the entry `name`, and wake who waits for it; whether there was this lease.

        Raises:
            UnavailableError: Redis failed.
        """
        where = [keys.lease(name), keys.let_go(lease.token)]
        call = partial(self._let_go, keys=where, args=[lease.value, lease.linger_ms])
        return bool(self._write(where[0], lambda client: call(client=client)))

    def evidence(self, keys: Keys, state: str, name: str | None) -> Known:
        """What is known under the key `state`, and the entry with this name, if one is named and there.

        Raises:
            UnavailableError: Redis failed.
        """
        call = partial(self._evidence, keys=[state, *([] if name is None else [keys.entry(name)])])
        match self._write(state, lambda client: call(client=client)):
            case [version, evidence, entry]:
                return Known(int(version or 0), evidence, entry)
            case [version, evidence]:  # an answer of Redis ends at the first nothing of Lua
                return Known(int(version or 0), evidence, None)
        raise self._unexpected(self._writer, state)

    def learn(self, state: str, version: int, evidence: str, plan: str, summary: str, *, ttl_s: int) -> bool:
        """Write what is known under the key `state`; False if it is no longer at `version`, and nothing was written.

        Raises:
            UnavailableError: Redis failed, or is full.
        """
        call = partial(self._learn, keys=[state], args=[version, evidence, plan, summary, ttl_s])
        return bool(self._write(state, lambda client: call(client=client)))

    def forget(self, keys: Keys, name: str) -> bool:
        """Remove one entry; whether there was one.

        Raises:
            UnavailableError: Redis failed.
        """
        call = partial(self._forget, keys=[keys.index, keys.sizes], args=[name, keys.entry("")])
        return bool(self._write(keys.index, lambda client: call(client=client)))

    def sweep(self, keys: Keys, *, most: int, every_ms: int) -> tuple[int, int]:
        """Remove what expiry leaves, names in buckets and index entries, of at most `most` entries.

        Nothing is done if that was less than `every_ms` ago, by any process.

        Returns:
            How many it removed, and how many entries are left.

        Raises:
            UnavailableError: Redis failed.
        """
        args: list[Any] = [keys.entry(""), most, every_ms]
        call = partial(self._sweep, keys=[keys.index, keys.sizes, keys.swept], args=args)
        match self._write(keys.index, lambda client: call(client=client)):
            case [int(removed), int(left)]:
                return removed, left
        raise self._unexpected(self._writer, keys.index)

    def _ask(
        self, key: str, call: Callable[[Any], Any], meanwhile: Callable[[], object] | None = None
    ) -> Any:
        node = self._node(self._nodes, key)
        with self._lock:
            if node.name not in self._breakers:
                self._breakers[node.name] = Breaker()
                _breaker_open.set(0.0, redis=node.name)
            if not self._breakers[node.name].allows(time.monotonic()):
                raise HeldBackError("redis: breaker open")
        try:
            answer = self._call(node.name, lambda: node.ask(call, meanwhile))
        except RefusedError:
            self._note(node.name, ok=True)  # it lives; the answer is about this key or command
            raise
        except UnavailableError:
            self._note(node.name, ok=False)
            raise
        self._note(node.name, ok=True)
        return answer

    def _write(self, key: str, call: Callable[[Any], Any]) -> Any:
        # Writes have time, so they say nothing about how requests fare; but they needn't try in vain.
        node = self._node(self._writer, key)
        breaker = self._breakers.get(node.name)
        if breaker is not None and breaker.open:
            raise HeldBackError("redis: breaker open")
        return self._call(node.name, lambda: node.ask(call))

    def _node(self, nodes: Nodes, key: str) -> Node:
        return self._call("", lambda: nodes.node(key))

    def _call(self, name: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except ClusterDownError:
            raise self._failed(UnavailableError, "CLUSTERDOWN", name) from None
        except redis.ResponseError as error:
            raise self._failed(RefusedError, _code(error), name) from None
        except (redis.RedisError, OSError, ValueError) as error:
            raise self._failed(UnavailableError, type(error).__name__, name) from None

    def _unexpected(self, nodes: Nodes, key: str) -> UnavailableError:
        return self._failed(RefusedError, "unexpected answer", self._node(nodes, key).name)

    def _failed(self, cls: type[UnavailableError], kind: str, name: str) -> UnavailableError:
        now = time.monotonic()
        _failures.inc(kind=kind.partition(":")[0])
        if now - self._logged.get((kind, name), -_QUIET_S) >= _QUIET_S:
            self._logged[kind, name] = now
            logs.event(_log, logging.WARNING, "redis failed", kind=kind, redis=name)
        return cls(f"redis: {kind}")

    def _note(self, name: str, *, ok: bool) -> None:
        with self._lock:
            breaker = self._breakers[name]
            before = breaker.open
            if ok:
                breaker.succeeded()
            else:
                breaker.failed(time.monotonic())
            after = breaker.open
        if before != after:
            _breaker_open.set(float(after), redis=name)
            logs.event(_log, logging.WARNING, "redis breaker", open=after, redis=name)


def _wished(wish: LeaseWish) -> list[Any]:
    return [wish.value, wish.life_ms, wish.stale_s * 1000]


def _leased(held: bytes | None, left_ms: int) -> Leased:
    return Leased(None if held is None else Held(None, held, left_ms))


def _read_one(client: Any, *, key: str, block_ms: int) -> Any:
    return client.xread({key: "0"}, count=1, block=block_ms)


def _code(error: redis.ResponseError) -> str:
    """The error's code, as ``WRONGTYPE``, or its class: the text may quote an argument."""
    code = str(error).split(" ", 1)[0]
    return code if code.isupper() and code.isalpha() else type(error).__name__
