"""The spool in Redis: a stream for each tenant of a node, so that records outlive the node's disk.

Keys, in braces the hash tag that keeps a tenant on one shard of a Redis Cluster::

    tg:audit:1:{tenant}:<node>:records   stream: id, position, record without its content
    tg:audit:1:{tenant}:<node>:contents  hash: entry id → content
    tg:audit:1:{tenant}:<node>:head      hash: seq, hash, position; cursor:<sink>, the last entry it has; gaps,
                                                the numbers that were dropped and that no record tells of yet
    tg:audit:1:<node>                    hash: checkpoint, and the gateway that it is of; tenant:<id> for each tenant
    tg:audit:1:<node>:owner              the one gateway that writes here, for a while

Two gateways that are given the same node's name would write into the same chains, each with positions of a journal of
its own. So one at a time may; what the other has to say waits in its journal.

An append is one script for each tenant, which ignores what is there already. How durable it is, is up to Redis:
``appendonly yes`` with ``appendfsync everysec`` may lose the last second with the machine, ``always`` nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import redis

from tenantgate.audit.chain import SHED, Numbers, merged, numbers_of, shed
from tenantgate.audit.ports import ConflictError, Entry, Gap, Head, Queued
from tenantgate.chat import canonical
from tenantgate.edge.redis_cache import connect
from tenantgate.errors import EdgeError
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.cache.config import RedisConfig

__all__ = ["StreamSpool"]

_KEEP_MS: Final = 86_400_000  # what all sinks have, for a replay
_AT_ONCE: Final = 200  # entries in one script
_FORGET: Final = 10_000  # entries dropped in one go
_CONTENTS: Final = 50  # contents fetched in one go
_READ_BYTES: Final = 8 << 20  # of records in one read, unless the first is larger
_OWNER_MS: Final = 30_000  # after which a gateway that says nothing has given up its place

_CONFLICT: Final = (
    "another gateway writes to this Redis under the same name: give each a gateway.audit.node of its own"
)

# KEYS: records, contents, head. ARGV: whether these are the last; five for each entry: position, seq, hash, record,
# content. What is there already must be these very entries.
_APPEND: Final = """
local last = tonumber(redis.call('HGET', KEYS[3], 'position') or '-1')
local seq = tonumber(redis.call('HGET', KEYS[3], 'seq') or '-1')
for i = 2, #ARGV, 5 do
  if tonumber(ARGV[i]) > last then
    if seq >= 0 and tonumber(ARGV[i + 1]) ~= seq + 1 then return redis.error_reply('CONFLICT') end
    local id = redis.call('XADD', KEYS[1], '*', 'position', ARGV[i], 'record', ARGV[i + 3])
    redis.call('HSET', KEYS[2], id, ARGV[i + 4])
    redis.call('HSET', KEYS[3], 'position', ARGV[i], 'seq', ARGV[i + 1], 'hash', ARGV[i + 2])
    last = tonumber(ARGV[i])
    seq = tonumber(ARGV[i + 1])
  end
end
if ARGV[1] == '1' and redis.call('HGET', KEYS[3], 'hash') ~= ARGV[#ARGV - 2] then
  return redis.error_reply('CONFLICT')
end
return last
"""

# KEYS: owner. ARGV: who, for how long.
_CLAIM: Final = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class _Keys:
    def __init__(self, tenant: TenantId, node: str) -> None:
        base = f"tg:audit:1:{{{tenant.slug}}}:{node}"
        self.records, self.contents, self.head = f"{base}:records", f"{base}:contents", f"{base}:head"


class StreamSpool:
    """`tenantgate.audit.ports.Spool` in Redis; one process at a time for a node, thread-safe.

    Attributes:
        taken_over: whether another gateway has written here before, whose positions aren't ours.

    Raises (all methods):
        EdgeError: Redis failed.
        ConflictError: another gateway writes here.
    """

    def __init__(
        self,
        config: RedisConfig,
        node: str,
        sinks: Sequence[str],
        *,
        max_records: int,
        keep_ms: int = _KEEP_MS,
        owner: str = "",
    ) -> None:
        """`owner` stands for this gateway, over its restarts; without one nothing may be appended."""
        self._redis: Any = connect(config, timeout_ms=max(1000, config.timeout_ms))
        # A node's name may hold anything; a key takes its digest then, so that no two names meet.
        plain = node if node.isascii() and node.replace("-", "").replace(".", "").isalnum() else _digest(node)
        self._node, self._root = plain, f"tg:audit:1:{plain}"
        self._sinks, self._max_records, self._keep_ms = tuple(sinks), max_records, keep_ms
        self._script = self._redis.register_script(_APPEND)
        self._claiming = self._redis.register_script(_CLAIM)
        self._owner = owner
        self._claim()
        before = self._ask(self._redis.hget, self._root, "owner") if owner else None
        self.taken_over = before is not None and before != owner.encode()
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._tenants: dict[TenantId, _Keys] = {}
        self._idle: dict[str, set[TenantId]] = {sink: set() for sink in self._sinks}
        self._turn = itertools.count()
        for name in self._ask(self._redis.hkeys, self._root):
            text = name.decode("utf-8", "surrogateescape")
            if text.startswith("tenant:"):
                self._keys(TenantId(text.removeprefix("tenant:")))

    def _keys(self, tenant: TenantId) -> _Keys:
        if tenant not in self._tenants:
            self._tenants[tenant] = _Keys(tenant, self._node)
        return self._tenants[tenant]

    def _claim(self) -> None:
        if self._owner and not self._ask(
            self._claiming, keys=[f"{self._root}:owner"], args=[self._owner, _OWNER_MS]
        ):
            raise ConflictError(_CONFLICT)

    @staticmethod
    def _ask(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return call(*args, **options)
        except redis.ResponseError as error:
            if "CONFLICT" in str(error):
                raise ConflictError(_CONFLICT) from None
            raise EdgeError(f"spool: redis: {type(error).__name__}") from None
        except (redis.RedisError, OSError) as error:
            raise EdgeError(f"spool: redis: {type(error).__name__}") from None

    def _piped(self, add: Callable[[Any], object]) -> list[Any]:
        def run() -> list[Any]:
            pipe = self._redis.pipeline(transaction=False)
            add(pipe)
            found: list[Any] = pipe.execute()
            return found

        return self._ask(run)  # type: ignore[no-any-return]

    # -- writing ------------------------------------------------------------------------------------------

    def heads(self) -> Mapping[TenantId, Head]:
        """The last entry of each tenant that has one."""
        tenants = list(self._tenants.items())
        found = self._piped(lambda p: [p.hmget(k.head, "seq", "hash", "position") for _, k in tenants])
        return {
            tenant: Head(int(seq), digest.decode(), int(position))
            for (tenant, _), (seq, digest, position) in zip(tenants, found, strict=True)
            if seq is not None
        }

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep the entries that are beyond their tenant's head."""
        by_tenant: dict[TenantId, list[Entry]] = {}
        for entry in entries:
            by_tenant.setdefault(entry.tenant, []).append(entry)
        for tenant, mine in by_tenant.items():
            keys = self._keys(tenant)
            field = f"tenant:{tenant}".encode("utf-8", "surrogateescape")
            self._ask(self._redis.hsetnx, self._root, field, 1)
            for start in range(0, len(mine), _AT_ONCE):
                argv: list[Any] = [int(start + _AT_ONCE >= len(mine))]
                for e in mine[start : start + _AT_ONCE]:
                    bare = shed(e.record)
                    content = canonical(json.loads(e.record).get("content"))
                    argv += [e.position, e.seq, e.hash, bare, content]
                self._ask(self._script, keys=[keys.records, keys.contents, keys.head], args=argv)
        with self._lock:
            for idle in self._idle.values():
                idle.difference_update(by_tenant)
        for listener in self._listeners:
            listener()

    def checkpoint(self) -> int | None:
        """The journal position up to which all is appended."""
        found = self._ask(self._redis.hget, self._root, "checkpoint")
        return int(found) if found is not None else None

    def set_checkpoint(self, position: int) -> None:
        """Note it."""
        self._ask(self._redis.hset, self._root, mapping={"checkpoint": position, "owner": self._owner})

    # -- reading ------------------------------------------------------------------------------------------

    def listen(self, appended: Callable[[], None]) -> None:
        """Call `appended` after each append, from the appending thread."""
        self._listeners.append(appended)

    def read(self, sink: str, limit: int) -> Sequence[Queued]:
        """The oldest entries of a tenant that this sink has not acknowledged, the tenants in turn."""
        with self._lock:
            waiting = [t for t in self._tenants if t not in self._idle.get(sink, set())]
        if not waiting:
            return []
        turn = next(self._turn) % len(waiting)
        for tenant in waiting[turn:] + waiting[:turn]:
            found = self._entries(tenant, self._cursor(tenant, sink), limit)
            if found:
                return found
            with self._lock:
                self._idle.setdefault(sink, set()).add(tenant)
        return []

    def _cursor(self, tenant: TenantId, sink: str) -> str:
        found = self._ask(self._redis.hget, self._keys(tenant).head, f"cursor:{sink}")
        return found.decode() if found else "0-0"

    def _entries(self, tenant: TenantId, after: str, limit: int) -> list[Queued]:
        keys = self._keys(tenant)
        rows = self._ask(lambda: self._redis.xrange(keys.records, f"({after}", "+", count=limit))
        if not rows:
            return []
        out: list[Queued] = []
        size = 0
        for start in range(0, len(rows), _CONTENTS):
            part = rows[start : start + _CONTENTS]
            contents = self._ask(self._redis.hmget, keys.contents, [row[0] for row in part])
            for (identifier, fields), content in zip(part, contents, strict=True):
                record = json.loads(fields[b"record"])
                record["content"] = SHED if content is None else json.loads(content)
                raw = canonical(record)
                size += len(raw)
                if out and size > _READ_BYTES:
                    return out
                out.append(Queued(identifier.decode(), tenant, str(record["id"]), raw))
        return out

    def all(self) -> Iterator[Queued]:
        """All entries that are there, tenant by tenant, for the commands."""
        for tenant in list(self._tenants):
            after = "0-0"
            while found := self._entries(tenant, after, 500):
                yield from found
                after = found[-1].cursor

    def replay(self, sink: str, since_ms: int) -> None:
        """Let a sink begin anew with the entries since a time, Unix milliseconds."""
        for keys in list(self._tenants.values()):
            self._ask(self._redis.hset, keys.head, f"cursor:{sink}", f"{max(0, since_ms)}-0")

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        """The sink has these."""
        last = {q.tenant: q.cursor for q in queued}

        def add(pipe: Any) -> None:
            for tenant, cursor in last.items():
                pipe.hset(self._keys(tenant).head, f"cursor:{sink}", cursor)

        self._piped(add)

    def backlog(self, sink: str) -> int:
        """How many entries this sink has not acknowledged, about: counted by the lengths of the streams."""
        with self._lock:
            waiting = [t for t in self._tenants if t not in self._idle.get(sink, set())]
        total = 0
        for tenant in waiting:
            after = self._cursor(tenant, sink)
            keys = self._keys(tenant)
            if after == "0-0":
                total += int(self._ask(self._redis.xlen, keys.records))
            else:
                rows = self._ask(
                    lambda keys=keys, after=after: self._redis.xrange(
                        keys.records, f"({after}", "+", count=10_000
                    )
                )
                total += len(rows)
        return total

    # -- room ---------------------------------------------------------------------------------------------

    def trim(self) -> int:
        """Make room; how many entries that a sink still waits for lost their content, or were dropped."""
        self._claim()
        tenants = list(self._tenants.items())
        lengths = self._piped(lambda p: [p.xlen(k.records) for _, k in tenants])
        over = sum(lengths) - self._max_records
        old = int(time.time() * 1000) - self._keep_ms
        lost = 0
        has: dict[TenantId, str] = {}
        for (tenant, keys), length in zip(tenants, lengths, strict=True):
            has[tenant] = done = min(
                (self._cursor(tenant, sink) for sink in self._sinks), key=_order, default="0-0"
            )
            # What all have goes when it is old, or when room is short.
            bound = done if over > 0 else min(done, f"{old}-0", key=_order)
            if _order(bound) > (0, 0):
                over -= self._forget(keys, bound)
            if over > 0 and length:
                share = max(1, over * length // max(1, sum(lengths)))
                lost += self._shed(keys, share)
        if over > self._max_records // 10:
            # Without contents there is still too much: the oldest records go.
            for tenant, keys in tenants:
                count = min(over // len(tenants) + 1, _FORGET)
                rows = self._ask(self._redis.xrange, keys.records, count=count)
                if rows:
                    lost += self._note_gap(
                        keys, [r for r in rows if _order(r[0].decode()) > _order(has[tenant])]
                    )
                    self._forget(keys, rows[-1][0].decode())
        return lost

    def _note_gap(self, keys: _Keys, rows: Sequence[Any]) -> int:
        """Note numbers that are about to go; how many."""
        spans: list[Sequence[int]] = []
        for _, fields in rows:
            record = json.loads(fields[b"record"])
            spans += [
                (record["chain"]["seq"],) * 2,
                *numbers_of(record),
            ]  # what it tells has to be told again
        if spans:
            self._keep_gaps(
                keys, merged([*self._gaps(self._ask(self._redis.hget, keys.head, "gaps")), *spans])
            )
        return len(rows)

    @staticmethod
    def _gaps(found: bytes | None) -> Numbers:
        return merged(json.loads(found)) if found else ()

    def _keep_gaps(self, keys: _Keys, numbers: Numbers) -> None:
        if numbers:
            self._ask(self._redis.hset, keys.head, "gaps", json.dumps(numbers))
        else:
            self._ask(self._redis.hdel, keys.head, "gaps")

    def gaps(self) -> Sequence[Gap]:
        """What `trim` had to drop and no record tells of yet."""
        tenants = list(self._tenants.items())
        found = self._piped(lambda p: [p.hget(k.head, "gaps") for _, k in tenants])
        return [Gap(t, self._gaps(raw)) for (t, _), raw in zip(tenants, found, strict=True) if raw]

    def told(self, gaps: Sequence[Gap]) -> None:
        """Records tell of these now."""
        for gap in gaps:
            keys = self._keys(gap.tenant)
            noted = self._gaps(self._ask(self._redis.hget, keys.head, "gaps"))
            self._keep_gaps(keys, tuple(span for span in noted if span not in gap.numbers))

    def _forget(self, keys: _Keys, upto: str) -> int:
        """Drop the entries up to one, it included."""
        rows = self._ask(self._redis.xrange, keys.records, "-", upto, count=_FORGET)
        names = [row[0] for row in rows]
        if names:
            self._piped(lambda p: (p.hdel(keys.contents, *names), p.xdel(keys.records, *names)))
        return len(names)

    def _shed(self, keys: _Keys, count: int) -> int:
        rows = self._ask(self._redis.xrange, keys.records, count=count)
        names = [row[0] for row in rows]
        return int(self._ask(self._redis.hdel, keys.contents, *names)) if names else 0


def _order(identifier: str) -> tuple[int, int]:
    milliseconds, _, number = identifier.partition("-")
    return int(milliseconds), int(number or 0)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
