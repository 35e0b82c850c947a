"""The cache's entries in Redis: three operations of one trip each, short time-outs, a circuit breaker.

An entry is a string with a time to live. Its vector lies in the vector set of its partition (Redis 8), its size
and expiry in two books of the tenant, by which the oldest make room. The scripts beside this file keep the
three together.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from tenantgate.cache.config import RedisConfig
    from tenantgate.cache.partition import Keys

__all__ = ["Neighbour", "RedisCache", "UnavailableError", "connect"]

_CONNECTIONS: Final = 64


class UnavailableError(EdgeError):
    """Redis doesn't answer, or not with what was asked for."""


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
        self._similar = client.register_script(_script("similar"))
        self._store = self._writer.register_script(_script("store"))
        self._forget = self._writer.register_script(_script("purge"))
        self._breaker = Breaker()
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether the breaker holds requests back."""
        return self._breaker.open

    def get(self, key: str) -> bytes | None:
        """An entry as it was sealed, or None.

        Raises:
            UnavailableError: Redis failed, or the breaker is open.
        """
        value = self._ask(lambda: self._client.get(key))
        return value if isinstance(value, bytes) else None

    def similar(self, keys: Keys, vectors: str, vector: bytes, count: int) -> list[Neighbour]:
        """The nearest entries, the nearest first.

        Raises:
            UnavailableError: Redis failed, is older than 8, or the breaker is open.
        """
        found = self._ask(lambda: self._similar(keys=[vectors], args=[vector, count, keys.entry("")]))
        triples = zip(found[::3], found[1::3], found[2::3], strict=True)
        # VSIM's scores are (1 + cosine) / 2.
        return [Neighbour(name.decode(), 2 * float(score) - 1, value) for name, score, value in triples]

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
        args: list[Any] = [
            value,
            ttl_s,
            int(time.time() * 1000),
            name,
            keys.entry(""),
            max_entries,
            max_bytes,
        ]
        if vector is not None:
            where.append(vector[0])
            args.append(vector[1])
        try:
            return bool(self._store(keys=where, args=args) == b"stored")
        except (redis.RedisError, OSError) as error:
            raise UnavailableError(f"redis: {_kind(error)}") from None

    def forget(self, keys: Keys, name: str) -> bool:
        """Remove one entry; whether there was one."""
        try:
            return bool(self._forget(keys=[keys.index, keys.sizes], args=[name, keys.entry("")]))
        except (redis.RedisError, OSError) as error:
            raise UnavailableError(f"redis: {_kind(error)}") from None

    def _ask(self, call: Any) -> Any:
        with self._lock:
            if not self._breaker.allows(time.monotonic()):
                raise UnavailableError("redis: breaker open")
        try:
            answer = call()
        except redis.ResponseError as error:
            # It lives; the answer is about this key or command (WRONGTYPE, unknown VSIM), not about Redis.
            self._note(ok=True)
            raise UnavailableError(f"redis: {_kind(error)}") from None
        except (redis.RedisError, OSError, ValueError) as error:
            self._note(ok=False)
            raise UnavailableError(f"redis: {_kind(error)}") from None
        self._note(ok=True)
        return answer

    def _note(self, *, ok: bool) -> None:
        with self._lock:
            if ok:
                self._breaker.succeeded()
            else:
                self._breaker.failed(time.monotonic())


def _kind(error: Exception) -> str:
    """The error's class, and for Redis' own errors their code: their text may quote an argument."""
    if isinstance(error, redis.ResponseError):
        code = str(error).split(" ", 1)[0]
        return code if code.isupper() and code.isalpha() else type(error).__name__
    return type(error).__name__
