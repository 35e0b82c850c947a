"""What an operator may see and do of one tenant's entries in Redis: count them, look at them, remove them.

Every key is made by the tenant's `Keys`, so nothing here reaches another tenant.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import redis

from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.evidence import Evidence, Plan
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.cache.learning import MAC_DIGITS
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.store.sealing import TenantSealer

if TYPE_CHECKING:
    from tenantgate.tenant import TenantId

__all__ = ["Admin", "BoundStats", "Row", "Stats"]

_TIMEOUT_MS: Final = 5000  # an operator waits longer than a request
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class BoundStats:
    """What is known of one tenant's traffic for one bound and one set of models.

    `wrong` is the estimated share of the answers served by similarity that are wrong, `low` to `high` its interval of
    90 %; all None where none is served. `threshold` is the verifier's score that is needed, None where none is served.
    """

    max_wrong_rate: float
    threshold: float | None
    wrong: float | None
    low: float | None
    high: float | None
    hits: int
    compared: int
    probes: int
    probes_other: int
    """That contradicted the stored answer, or were about something else."""
    repeats: int
    """Answers to a repeated question that are remembered, and those of them that looked other."""
    repeats_other: int
    restarts: int
    history: tuple[tuple[int, float, str], ...]
    """Thresholds with the time (Unix seconds) from which they held, and why they moved; 1: none was served."""


@dataclass(frozen=True, slots=True)
class Stats:
    """One tenant's use of the cache. Times are in seconds, sizes in bytes as the cache counts them."""

    entries: int
    bytes: int
    expired: int
    """Index entries whose entry Redis has let go, and which the next store will remove."""
    buckets: int
    next_expiry_s: float | None
    last_expiry_s: float | None
    redis_memory: int
    redis_limit: int
    redis_policy: str
    bounds: tuple[BoundStats, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One entry. `bucket` is the end of its bucket's name, and `neighbours` how many others are in that."""

    name: str
    bytes: int
    ttl_s: float
    bucket: str | None
    neighbours: int | None
    question: str | None = None
    reply: str | None = None


class Admin:
    """One tenant's entries in one Redis.

    Raises:
        UnavailableError: from every method, if Redis doesn't answer or refuses.
    """

    def __init__(self, config: RedisConfig, tenant: TenantId) -> None:
        self._nodes = connect(config, timeout_ms=_TIMEOUT_MS)
        first = config.cluster_nodes[0] if config.cluster_nodes else None
        self._where = (
            f"redis cluster of {first.ip}:{first.port}" if first else f"redis {config.host}:{config.port}"
        )
        self._tenant = tenant
        self._keys = Keys(tenant)

    @property
    def _client(self) -> Any:
        """A client of the node on which all of the tenant's keys lie."""
        return self._nodes.node(self._keys.index).client

    def close(self) -> None:
        """Close the connections."""
        self._nodes.close()

    def stats(self) -> Stats:
        """Counts and times of all entries."""
        with self._guard():
            now = time.time()
            keys, client = self._keys, self._client
            live = int(client.zcount(keys.index, now * 1000, "+inf"))
            first = client.zrangebyscore(keys.index, now * 1000, "+inf", start=0, num=1, withscores=True)
            last = client.zrevrange(keys.index, 0, 0, withscores=True)
            sets = self._buckets()
            memory = client.info("memory")
            return Stats(
                entries=live,
                bytes=int(client.hget(keys.sizes, "total") or 0),
                expired=int(client.zcard(keys.index)) - live,
                buckets=len(sets),
                next_expiry_s=first[0][1] / 1000 - now if first else None,
                last_expiry_s=last[0][1] / 1000 - now if live else None,
                redis_memory=int(memory.get("used_memory", 0)),
                redis_limit=int(memory.get("maxmemory", 0)),
                redis_policy=str(memory.get("maxmemory_policy", "")),
                bounds=self._bounds(),
            )

    def purge(self) -> Counter[str]:
        """Remove all of the tenant's keys; how many of each kind (``entries``, ``buckets``, ``books``)."""
        removed: Counter[str] = Counter()
        with self._guard():
            # A request may store while this runs, so go round until a whole round finds nothing.
            for _ in range(10):
                found = 0
                page: list[bytes] = []
                for key in self._client.scan_iter(match=self._keys.pattern, count=_PAGE):
                    page.append(key)
                    if len(page) >= _PAGE:
                        found += self._unlink(page, removed)
                        page = []
                found += self._unlink(page, removed)
                if not found:
                    break
        return removed

    def inspect(self, *, most: int, sealer: TenantSealer | None = None) -> list[Row]:
        """The entries that expire first, at most `most`; their texts only where a `sealer` opens them.

        Args:
            most: how many.
            sealer: the tenant's; entries that it can't open come without text.
        """
        with self._guard():
            now = time.time()
            names = self._client.zrangebyscore(
                self._keys.index, now * 1000, "+inf", start=0, num=most, withscores=True
            )
            return [self._row(name, until / 1000 - now, sealer) for name, until in names]

    def _row(self, raw: bytes, ttl_s: float, sealer: TenantSealer | None) -> Row:
        name = raw.decode("ascii", "replace")
        counted = self._client.hget(self._keys.sizes, raw) or b"0|"
        size, _, bucket = counted.decode("utf-8", "replace").partition("|")
        question = reply = None
        if sealer is not None:
            key = self._keys.entry(name)
            plain = sealer.open(self._client.get(key) or b"", key=key.encode())
            entry = entries.decode(plain) if plain is not None else None
            if entry is not None:
                question, reply = entry.question, entry.reply.text
        return Row(
            name=name,
            bytes=int(size) if size.isdecimal() else 0,
            ttl_s=ttl_s,
            bucket=bucket.removeprefix(self._keys.bucket("")) or None,
            neighbours=self._neighbours(bucket) if bucket else None,
            question=question,
            reply=reply,
        )

    def _neighbours(self, bucket: str) -> int | None:
        if not bucket.startswith(self._keys.base):
            return None  # not ours: someone else wrote the index
        try:
            return max(0, int(self._client.zcard(bucket)) - 1)
        except redis.ResponseError:
            return None  # of another type

    def _bounds(self) -> tuple[BoundStats, ...]:
        found = []
        for key in sorted(self._client.scan_iter(match=f"{self._keys.bound('')}*", count=_PAGE)):
            evidence, plan, summary = self._client.hmget(key, "evidence", "plan", "summary")
            # Shown without the key, so without its check; lookups go by it only with the check.
            known = Evidence.from_json((evidence or b"")[MAC_DIGITS:])
            goes_by = Plan.from_json((plan or b"")[MAC_DIGITS:])
            try:
                limit, wrong, low, high = json.loads(summary or b"")
            except (ValueError, TypeError):
                continue  # not ours, or another version's
            needed = None if goes_by is None or math.isinf(goes_by.threshold) else goes_by.threshold
            found.append(
                BoundStats(
                    max_wrong_rate=limit,
                    threshold=needed,
                    wrong=wrong,
                    low=low,
                    high=high,
                    hits=known.hits,
                    compared=known.compared,
                    probes=known.probes,
                    probes_other=known.probes_other,
                    repeats=round(known.repeats_same + known.repeats_alike + known.repeats_other),
                    repeats_other=round(known.repeats_other),
                    restarts=known.restarts,
                    history=tuple((c.at, c.threshold, c.why) for c in known.history),
                )
            )
        return tuple(found)

    def _buckets(self) -> list[bytes]:
        return list(self._client.scan_iter(match=f"{self._keys.bucket('')}*", count=_PAGE))

    def _unlink(self, page: list[bytes], removed: Counter[str]) -> int:
        # SCAN may give a key twice; and the pattern is checked once more before anything is removed.
        base = self._keys.base.encode()
        mine = sorted({key for key in page if key.startswith(base)})
        if not mine:
            return 0
        gone = int(self._client.unlink(*mine))
        for key in mine:
            kind = {b"e:": "entries", b"n:": "buckets"}.get(key[len(base) : len(base) + 2], "books")
            removed[kind] += 1
        return gone

    def _guard(self) -> _Guard:
        return _Guard(self._where)


class _Guard:
    """Turns Redis' exceptions, whose texts may quote an argument or a password, into ours."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, redis.ResponseError):
            code = str(error).split(" ", 1)[0]
            reason = code if code.isupper() and code.isalpha() else type(error).__name__
            raise UnavailableError(f"{self._where}: {reason}") from None
        if isinstance(error, redis.RedisError | OSError):
            raise UnavailableError(f"{self._where}: {type(error).__name__}") from None
