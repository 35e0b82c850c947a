"""The cache's entries in Redis: three operations of one trip each, short time-outs, a circuit breaker.

An entry is a string with a time to live. Its vector lies in the vector set of its partition (Redis 8), its size
and expiry in two books of the tenant, by which the oldest make room. The scripts beside this file keep the
three together.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenantgate.cache.breaker import Breaker
from tenantgate.errors import EdgeError
from tenantgate.kong import logs, metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantgate.cache.config import RedisConfig
    from tenantgate.cache.partition import Keys

__all__ = ["Neighbour", "RedisCache", "RefusedError", "UnavailableError", "connect"]

_log: Final = logging.getLogger("tenantgate.cache")

_CONNECTIONS: Final = 64
_QUIET_S: Final = 10.0  # between two log lines about the same kind of failure
_TRY_VECTORS_S: Final = (
    60.0  # after which a Redis without vector sets is asked again, in case it was replaced
)

_failures: Final = metrics.counter(
    "tenantgate_cache_redis_failures_total", "Calls to Redis that failed, by kind.", ("kind",)
)
_breaker_open: Final = metrics.gauge(
    "tenantgate_cache_breaker_open", "1 while requests pass because this Redis failed several times in a row.",
    ("redis",),
)  # fmt: skip


class UnavailableError(EdgeError):
    """Redis doesn't answer."""


class RefusedError(UnavailableError):
    """Redis lives, and answered with an error: another type under the key, no memory, a command it lacks."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry near a vector; `similarity` is the cosine, from -1 to 1, and `value` still sealed."""

    name: str
    similarity: float
    value: bytes


def connect(config: RedisConfig, *, timeout_ms: int | None = None) -> redis.Redis:
    """A client that tries once and gives up after its time-out; no connection is made yet."""
    timeout_s = (timeout_ms or config.timeout_ms) / 1000
    return redis.Redis(
        host=config.host,
        port=config.port,
        db=config.database,
        username=config.username,
        password=config.password,
        ssl=config.ssl,
        ssl_cert_reqs="required" if config.ssl_verify else "none",
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),  # the client's default tries again for seconds
        max_connections=_CONNECTIONS,
        health_check_interval=0,
        driver_info=None,
        protocol=2,
    )


def _script(name: str) -> str:
    return resources.files("tenantgate.edge").joinpath("lua", f"{name}.lua").read_text("utf-8")


class RedisCache:
    """The store of one Redis; thread-safe. `client` answers requests, `writer` stores after them."""

    def __init__(self, client: redis.Redis, writer: redis.Redis | None = None) -> None:
        self._client, self._writer = client, writer or client
        where = client.get_connection_kwargs()
        self._name = f"{where.get('host')}:{where.get('port')}/{where.get('db')}"
        _breaker_open.set(0.0, redis=self._name)
        self._similar = client.register_script(_script("similar"))
        self._store = self._writer.register_script(_script("store"))
        self._forget = self._writer.register_script(_script("purge"))
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._no_vectors_until = 0.0
        self._logged: dict[str, float] = {}

    @property
    def open(self) -> bool:
        """Whether the breaker holds requests back."""
        return self._breaker.open

    @property
    def has_vectors(self) -> bool:
        """Whether Redis has vector sets, as far as is known."""
        return time.monotonic() >= self._no_vectors_until

    def get(self, key: str) -> bytes | None:
        """An entry as it was sealed, or None.

        Raises:
            UnavailableError: Redis failed, or the breaker is open.
            RefusedError: for example because another type lies under `key`.
        """
        value = self._ask(lambda: self._client.get(key))
        return value if isinstance(value, bytes) else None

    def similar(self, keys: Keys, vectors: str, vector: bytes, count: int) -> list[Neighbour]:
        """The nearest entries, the nearest first.

        Raises:
            UnavailableError: Redis failed, or the breaker is open.
            RefusedError: it is older than 8 (`has_vectors` tells), or another type lies under `vectors`.
        """
        found = self._ask(lambda: self._similar(keys=[vectors], args=[vector, count, keys.entry("")]))
        try:
            triples = zip(found[::3], found[1::3], found[2::3], strict=True)
            # VSIM's scores are (1 + cosine) / 2.
            return [Neighbour(name.decode(), 2 * float(score) - 1, value) for name, score, value in triples]
        except (TypeError, ValueError, AttributeError):
            raise self._failed(RefusedError, "unexpected answer") from None

    def store(
        self,
        keys: Keys,
        name: str,
        value: bytes,
        *,
        ttl_s: int,
        max_entries: int,
        max_bytes: int,
        vector: tuple[str, bytes] | None = None,
    ) -> bool:
        """Store an entry, with its vector in the set that is named before it; False if it is too large.

        Raises:
            UnavailableError: Redis failed, or is full.
        """
        where = [keys.entry(name), keys.index, keys.sizes]
        args: list[Any] = [value, ttl_s, name, keys.entry(""), max_entries, max_bytes]
        if vector is not None and self.has_vectors:
            where.append(vector[0])
            args.append(vector[1])
        return bool(self._write(lambda: self._store(keys=where, args=args)) == b"stored")

    def forget(self, keys: Keys, name: str) -> bool:
        """Remove one entry; whether there was one.

        Raises:
            UnavailableError: Redis failed.
        """
        return bool(
            self._write(lambda: self._forget(keys=[keys.index, keys.sizes], args=[name, keys.entry("")]))
        )

    def _ask(self, call: Callable[[], Any]) -> Any:
        with self._lock:
            if not self._breaker.allows(time.monotonic()):
                raise UnavailableError("redis: breaker open")
        try:
            answer = self._call(call)
        except RefusedError:
            self._note(ok=True)  # it lives; the answer is about this key or command
            raise
        except UnavailableError:
            self._note(ok=False)
            raise
        self._note(ok=True)
        return answer

    def _write(self, call: Callable[[], Any]) -> Any:
        # Writes have time, so they say nothing about how requests fare; but they needn't try in vain.
        if self._breaker.open:
            raise UnavailableError("redis: breaker open")
        return self._call(call)

    def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except redis.ResponseError as error:
            if "unknown" in (text := str(error).lower()) and "command" in text:
                self._no_vectors_until = time.monotonic() + _TRY_VECTORS_S
                raise self._failed(RefusedError, "no vector sets: the similar level is off") from None
            raise self._failed(RefusedError, _code(error)) from None
        except (redis.RedisError, OSError, ValueError) as error:
            raise self._failed(UnavailableError, type(error).__name__) from None

    def _failed(self, cls: type[UnavailableError], kind: str) -> UnavailableError:
        now = time.monotonic()
        _failures.inc(kind=kind.partition(":")[0])
        if now - self._logged.get(kind, -_QUIET_S) >= _QUIET_S:
            self._logged[kind] = now
            logs.event(_log, logging.WARNING, "redis failed", kind=kind, redis=self._name)
        return cls(f"redis: {kind}")

    def _note(self, *, ok: bool) -> None:
        with self._lock:
            before = self._breaker.open
            if ok:
                self._breaker.succeeded()
            else:
                self._breaker.failed(time.monotonic())
            after = self._breaker.open
        if before != after:
            _breaker_open.set(float(after), redis=self._name)
            logs.event(_log, logging.WARNING, "redis breaker", open=after, redis=self._name)


def _code(error: redis.ResponseError) -> str:
    """The error's code, as ``WRONGTYPE``, or its class: the text may quote an argument."""
    code = str(error).split(" ", 1)[0]
    return code if code.isupper() and code.isalpha() else type(error).__name__
