"""The spool in Redis: a stream for each tenant of a node, so that records outlive the node's disk.

Keys, in braces the hash tag that keeps a tenant on one shard of a Redis Cluster::

    tg:audit:1:{tenant}:<node>:records   stream: id, position, record without its content
    tg:audit:1:{tenant}:<node>:contents  hash: entry id → content
    tg:audit:1:{tenant}:<node>:head      hash: seq, hash, position; bytes, the size of all; shed, up to which entry
                                         contents are gone; cursor:<sink>, the last entry it has; gaps and lost, the
                                         numbers that no record tells of yet, by why they are gone
    tg:audit:1:<node>                    hash: checkpoint, and the gateway that it is of; tenant:<id> for each tenant
    tg:audit:1:owner:{tg:audit:1:<node>} the one gateway that writes here, for a while; beside the key before

Two gateways that are given the same node's name would write into the same chains, each with positions of a journal of
its own. So one at a time may; what the other has to say waits in its journal.

An append is one script for each tenant, which ignores what is there already. How durable it is, is up to Redis:
``appendonly yes`` with ``appendfsync everysec`` may lose the last second with the machine, ``always`` nothing. Where
Redis has replicas, an append is done when one of them has it, too, so that it outlives a failover. A Redis that came
back without a chain's last entries gets the next ones under the numbers they have, and a record tells of the lost ones:
sinks may have those, and no number may stand for two records.

Room is made as in files (`tenantgate.audit.files`): what all sinks have is kept for a day, but goes first when
room is short, then the oldest contents of all tenants, then the oldest records, whose numbers stay in ``gaps`` until a
record tells of them. A Redis of a cluster that fails holds up its own tenants only, or all if it has the last two keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis

from tenantgate.audit.core.chain import SHED, Numbers, merged, numbers_of, shed
from tenantgate.audit.core.ports import ConflictError, Entry, Gap, GapReason, Head, Queued
from tenantgate.errors import EdgeError
from tenantgate.llm.chat import canonical
from tenantgate.store.redis_nodes import connect
from tenantgate.telemetry import logs
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.store.config import RedisConfig

__all__ = ["StreamSpool"]

T = TypeVar("T")
_log: Final = logging.getLogger("tenantgate.audit")
_KEEP_MS: Final = 86_400_000  # what all sinks have, for a replay
_AT_ONCE: Final = 200  # entries in one script
_PAGE: Final = 1000  # the same, where no texts travel
_CONTENTS: Final = 50  # contents fetched in one go
_READ_BYTES: Final = 8 << 20  # of records in one read, unless the first is larger
_ENTRY_BYTES: Final = 256  # what Redis needs for an entry beside its texts, about
_REPLICA_MS: Final = 500  # how long a replica may take
_OWNER_MS: Final = 30_000  # after which a gateway that says nothing has given up its place

_REASONS: Final = {GapReason.SPOOL_FULL: "gaps", GapReason.SPOOL_LOST: "lost"}  # where numbers are noted

_CONFLICT: Final = (
    "another gateway writes to this Redis under the same name: give each a gateway.audit.node of its own"
)

# KEYS: records, contents, head. ARGV: whether these are the last; an entry's own size; five for each entry: position,
# seq, hash, record, content. What is there already must be these very entries. Gives the last entry's number: if that
# isn't the last one's of these, some between it and these were lost, and nothing is appended.
_APPEND: Final = """
local last = tonumber(redis.call('HGET', KEYS[3], 'position') or '-1')
local seq = tonumber(redis.call('HGET', KEYS[3], 'seq') or '-1')
for i = 3, #ARGV, 5 do
  if tonumber(ARGV[i]) > last then
    if seq >= 0 and tonumber(ARGV[i + 1]) > seq + 1 then return seq end
    if seq >= 0 and tonumber(ARGV[i + 1]) ~= seq + 1 then return redis.error_reply('CONFLICT') end
    local id = redis.call('XADD', KEYS[1], '*', 'position', ARGV[i], 'record', ARGV[i + 3])
    redis.call('HSET', KEYS[2], id, ARGV[i + 4])
    redis.call('HSET', KEYS[3], 'position', ARGV[i], 'seq', ARGV[i + 1], 'hash', ARGV[i + 2])
    redis.call('HINCRBY', KEYS[3], 'bytes', #ARGV[i + 3] + #ARGV[i + 4] + ARGV[2])
    last = tonumber(ARGV[i])
    seq = tonumber(ARGV[i + 1])
  end
end
if ARGV[1] == '1' and redis.call('HGET', KEYS[3], 'hash') ~= ARGV[#ARGV - 2] then
  return redis.error_reply('CONFLICT')
end
-- Something is written in any case: who waits for replicas waits for this, and all that came before.
redis.call('HINCRBY', KEYS[3], 'bytes', 0)
return seq
"""

# KEYS: owner. ARGV: who, for how long.
_CLAIM: Final = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS: records, contents. ARGV: after which entry, how many. Gives id, bytes of the record, of the content …
_SIZES: Final = """
local out = {}
for _, row in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  out[#out + 1], out[#out + 2] = row[1], #row[2][4]
  out[#out + 1] = redis.call('HSTRLEN', KEYS[2], row[1])
end
return out
"""

# KEYS: contents, head. ARGV: ids, in order. Gives how many had a content, and its bytes.
_SHED: Final = """
local lost, size = 0, 0
for _, id in ipairs(ARGV) do
  size = size + redis.call('HSTRLEN', KEYS[1], id)
  lost = lost + redis.call('HDEL', KEYS[1], id)
end
redis.call('HINCRBY', KEYS[2], 'bytes', -size)
redis.call('HSET', KEYS[2], 'shed', ARGV[#ARGV])
return {lost, size}
"""

# KEYS: records, contents, head. ARGV: up to which entry, it included; how many; an entry's own size. Gives how many it
# removed, and their bytes.
_FORGET: Final = """
local rows, size = redis.call('XRANGE', KEYS[1], '-', ARGV[1], 'COUNT', ARGV[2]), 0
for _, row in ipairs(rows) do
  size = size + #row[2][4] + redis.call('HSTRLEN', KEYS[2], row[1]) + ARGV[3]
  redis.call('HDEL', KEYS[2], row[1])
  redis.call('XDEL', KEYS[1], row[1])
end
-- Entries that came before sizes were counted would make it negative.
if redis.call('HINCRBY', KEYS[3], 'bytes', -size) < 0 then redis.call('HSET', KEYS[3], 'bytes', 0) end
return {#rows, size}
"""


class UnreplicatedError(redis.RedisError):
    """A replica is there, but doesn't have it yet."""


class _Keys:
    def __init__(self, tenant: TenantId, node: str) -> None:
        base = f"tg:audit:1:{{{tenant.slug}}}:{node}"
        self.records, self.contents, self.head = f"{base}:records", f"{base}:contents", f"{base}:head"


class _Failures:
    """What failed while something was done for several tenants: a node that is gone is asked once."""

    def __init__(self) -> None:
        self.first: EdgeError | None = None
        self.nodes: dict[str, EdgeError] = {}

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Go on with the next tenant, unless another gateway writes here."""
        try:
            yield
        except ConflictError:
            raise
        except EdgeError as error:
            self.first = self.first or error

    def raise_first(self) -> None:
        """Raise the first, if any."""
        if self.first is not None:
            raise self.first


@dataclass(frozen=True, slots=True)
class _Load:
    """What one tenant takes: up to which entry contents are gone, and up to which all sinks have it."""

    count: int
    shed: str
    done: str


@dataclass(frozen=True, slots=True)
class _Place:
    """One entry, and the bytes of its record and its content."""

    tenant: TenantId
    id: str
    record: int
    content: int


@dataclass(slots=True)
class _Room:
    """How much is there, of all tenants together."""

    max_records: int
    max_bytes: int
    records: int = 0
    bytes: int = 0

    @property
    def short(self) -> bool:
        return self.records > self.max_records or self.bytes > self.max_bytes


class StreamSpool:
    """`tenantgate.audit.core.ports.Spool` in Redis; one process at a time for a node, thread-safe.

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
        max_bytes: int,
        keep_ms: int = _KEEP_MS,
        owner: str = "",
    ) -> None:
        """`owner` stands for this gateway, over its restarts; without one nothing may be appended."""
        self._nodes = connect(config, timeout_ms=max(1000, config.timeout_ms))
        # A node's name may hold anything; a key takes its digest then, so that no two names meet.
        plain = node if node.isascii() and node.replace("-", "").replace(".", "").isalnum() else _digest(node)
        self._node, self._root = plain, f"tg:audit:1:{plain}"
        self._sinks, self._keep_ms = tuple(sinks), keep_ms
        self._max_records, self._max_bytes = max_records, max_bytes
        maker = redis.Redis()  # never connects: a script only needs an encoding
        self._appending, self._claiming, self._sizing, self._shedding, self._forgetting = (
            maker.register_script(text) for text in (_APPEND, _CLAIM, _SIZES, _SHED, _FORGET)
        )
        self._owner, self._owner_key = owner, f"tg:audit:1:owner:{{{self._root}}}"
        self._claim()
        before = self._ask(self._root, lambda client: client.hget(self._root, "owner")) if owner else None
        self.taken_over = before is not None and before != owner.encode()
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._tenants: dict[TenantId, _Keys] = {}
        self._idle: dict[str, set[TenantId]] = {sink: set() for sink in self._sinks}
        self._appends = 0
        self._waiting: dict[tuple[str, TenantId], int] = {}
        self._turn = itertools.count()
        for name in self._ask(self._root, lambda client: client.hkeys(self._root)):
            text = name.decode("utf-8", "surrogateescape")
            if text.startswith("tenant:"):
                self._keys(TenantId(text.removeprefix("tenant:")))

    def _keys(self, tenant: TenantId) -> _Keys:
        if tenant not in self._tenants:
            self._tenants[tenant] = _Keys(tenant, self._node)
        return self._tenants[tenant]

    def _claim(self) -> None:
        call = _script(self._claiming, [self._owner_key], [self._owner, _OWNER_MS])
        if self._owner and not self._ask(self._owner_key, call):
            raise ConflictError(_CONFLICT)

    def _ask(self, key: str, call: Callable[[Any], T], failures: _Failures | None = None) -> T:
        """What `call` gives, called with a client for `key`."""
        name = ""
        try:
            node = self._nodes.node(key)
            name = node.name
            if failures is not None and name in failures.nodes:
                raise failures.nodes[name]
            return node.ask(call)
        except (redis.RedisError, OSError) as error:
            if isinstance(error, redis.ResponseError) and "CONFLICT" in str(error):
                raise ConflictError(_CONFLICT) from None
            failed = EdgeError(f"spool: redis: {type(error).__name__}")
            if failures is not None and not isinstance(error, redis.ResponseError):
                failures.nodes[name] = failed
            raise failed from None

    def _piped(
        self, add: Callable[[Any, _Keys], object], failures: _Failures
    ) -> Iterator[tuple[TenantId, list[Any]]]:
        """For each tenant the answers to what `add` adds to a pipeline; one trip for each node that answers."""
        groups: dict[str, list[TenantId]] = defaultdict(list)
        for tenant, keys in list(self._tenants.items()):
            try:
                groups[self._nodes.node(keys.head).name].append(tenant)
            except redis.RedisError as error:
                failures.first = failures.first or EdgeError(f"spool: redis: {type(error).__name__}")

        def run(mine: Sequence[TenantId], client: Any) -> list[Any]:
            pipe = client.pipeline(transaction=False)
            for tenant in mine:
                add(pipe, self._keys(tenant))
            found: list[Any] = pipe.execute()
            return found

        for mine in groups.values():
            found: list[Any] = []
            with failures.noted():
                head = self._keys(mine[0]).head
                found = self._ask(head, partial(run, mine), failures)
            each = len(found) // len(mine)
            for i, tenant in enumerate(mine if found else ()):
                yield tenant, found[i * each : (i + 1) * each]

    # -- writing ------------------------------------------------------------------------------------------

    def heads(self) -> Mapping[TenantId, Head]:
        """The last entry of each tenant that has one."""
        failures = _Failures()
        found = dict(self._piped(lambda p, keys: p.hmget(keys.head, "seq", "hash", "position"), failures))
        failures.raise_first()
        return {
            tenant: Head(int(seq), digest.decode(), int(position))
            for tenant, [(seq, digest, position)] in found.items()
            if seq is not None
        }

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep the entries that are beyond their tenant's head."""
        by_tenant: dict[TenantId, list[Entry]] = {}
        for entry in entries:
            by_tenant.setdefault(entry.tenant, []).append(entry)
        failures = _Failures()
        for tenant, mine in by_tenant.items():
            with failures.noted():
                self._append(tenant, mine, failures)
        with self._lock:
            self._appends += 1
            for idle in self._idle.values():
                idle.difference_update(by_tenant)
        for listener in self._listeners:
            listener()
        failures.raise_first()

    def _append(self, tenant: TenantId, entries: Sequence[Entry], failures: _Failures) -> None:
        keys = self._keys(tenant)
        field = f"tenant:{tenant}".encode("utf-8", "surrogateescape")
        self._ask(self._root, lambda client: client.hsetnx(self._root, field, 1), failures)
        names = [keys.records, keys.contents, keys.head]
        for batch in _batches(entries, _AT_ONCE):
            args: list[Any] = [int(batch[-1] is entries[-1]), _ENTRY_BYTES]
            for e in batch:
                content = canonical(json.loads(e.record).get("content"))
                args += [e.position, e.seq, e.hash, shed(e.record), content]
            call = _replicated(_script(self._appending, names, args))
            last = int(self._ask(keys.head, call, failures))
            if last < batch[-1].seq:
                self._mend(keys, last, entries, failures)
                last = int(self._ask(keys.head, call, failures))
            if last < batch[-1].seq:
                raise EdgeError("spool: redis: it loses records")

    def _mend(self, keys: _Keys, last: int, entries: Sequence[Entry], failures: _Failures) -> None:
        """Note which numbers Redis has lost after `last`, and that the chain goes on with the first one to come."""
        self._claim()
        known = self._ask(keys.head, lambda client: client.hget(keys.head, "position"), failures)
        following = next(e.seq for e in entries if e.position > int(known))
        logs.event(
            _log, logging.ERROR, "redis has lost records of the spool", first=last + 1, last=following - 1
        )
        noted = merged([*self._noted(keys, "lost", failures), (last + 1, following - 1)])
        state = {"lost": json.dumps(noted), "seq": following - 1}
        self._ask(keys.head, lambda client: client.hset(keys.head, mapping=state), failures)

    def checkpoint(self) -> int | None:
        """The journal position up to which all is appended."""
        found = self._ask(self._root, lambda client: client.hget(self._root, "checkpoint"))
        return int(found) if found is not None else None

    def set_checkpoint(self, position: int) -> None:
        """Note it."""
        noted = {"checkpoint": position, "owner": self._owner}
        self._ask(self._root, lambda client: client.hset(self._root, mapping=noted))

    # -- reading ------------------------------------------------------------------------------------------

    def listen(self, appended: Callable[[], None]) -> None:
        """Call `appended` after each append, from the appending thread."""
        self._listeners.append(appended)

    def read(self, sink: str, limit: int) -> Sequence[Queued]:
        """The oldest entries of a tenant that this sink has not acknowledged, the tenants in turn."""
        waiting = self._not_idle(sink)
        if not waiting:
            return []
        failures, appends = _Failures(), self._appends
        turn = next(self._turn) % len(waiting)
        for tenant in waiting[turn:] + waiting[:turn]:
            with failures.noted():
                found = self._entries(tenant, self._cursor(tenant, sink, failures), limit, failures)
                if found:
                    return found
                with self._lock:
                    if appends == self._appends:  # else something may have come since we looked
                        self._idle.setdefault(sink, set()).add(tenant)
        failures.raise_first()
        return []

    def _not_idle(self, sink: str) -> list[TenantId]:
        with self._lock:
            return [t for t in self._tenants if t not in self._idle.get(sink, set())]

    def _cursor(self, tenant: TenantId, sink: str, failures: _Failures | None = None) -> str:
        head = self._keys(tenant).head
        found = self._ask(head, lambda client: client.hget(head, f"cursor:{sink}"), failures)
        return found.decode() if found else "0-0"

    def _entries(
        self, tenant: TenantId, after: str, limit: int, failures: _Failures | None = None
    ) -> list[Queued]:
        keys = self._keys(tenant)
        rows = self._ask(
            keys.head, lambda client: client.xrange(keys.records, f"({after}", "+", count=limit), failures
        )
        out: list[Queued] = []
        size = 0
        for part in _batches(rows, _CONTENTS):
            names = [row[0] for row in part]
            contents = self._ask(keys.head, _fetching(keys.contents, names), failures)
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
        cursor = f"{max(0, since_ms)}-0"
        for keys in list(self._tenants.values()):
            self._set_cursor(keys, sink, cursor)

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        """The sink has these."""
        for tenant, cursor in {q.tenant: q.cursor for q in queued}.items():
            self._set_cursor(self._keys(tenant), sink, cursor)

    def _set_cursor(self, keys: _Keys, sink: str, cursor: str) -> None:
        self._ask(keys.head, lambda client: client.hset(keys.head, f"cursor:{sink}", cursor))

    def backlog(self, sink: str) -> int:
        """How many entries this sink has not acknowledged, about: of a tenant whose node is gone, as last seen."""
        failures = _Failures()
        total = 0
        for tenant in self._not_idle(sink):
            with failures.noted():
                self._waiting[sink, tenant] = self._count(tenant, sink, failures)
            total += self._waiting.get((sink, tenant), 0)
        return total

    def _count(self, tenant: TenantId, sink: str, failures: _Failures) -> int:
        keys, after = self._keys(tenant), self._cursor(tenant, sink, failures)

        def count(client: Any) -> int:
            if after == "0-0":
                return int(client.xlen(keys.records))
            return len(client.xrange(keys.records, f"({after}", "+", count=10_000))

        return self._ask(keys.head, count, failures)

    # -- room ---------------------------------------------------------------------------------------------

    def trim(self) -> int:
        """Make room; how many entries that a sink still waits for lost their content, or were dropped."""
        self._claim()
        failures = _Failures()
        room = _Room(self._max_records, self._max_bytes)
        loads = self._loads(room, failures)
        if not loads:
            failures.raise_first()
        old = f"{int(time.time() * 1000) - self._keep_ms}-0"
        for tenant, load in loads.items():
            bound = load.done if room.short else min(load.done, old, key=_order)
            if load.count and _order(bound) > (0, 0):
                with failures.noted():
                    self._forget(self._keys(tenant), bound, room, failures)
        lost = 0
        if room.bytes > room.max_bytes:
            lost += self._shed(loads, room, failures)
        if room.short:
            lost += self._drop(loads, room, failures)
        return lost

    def _loads(self, room: _Room, failures: _Failures) -> dict[TenantId, _Load]:
        fields = ("bytes", "shed", *(f"cursor:{sink}" for sink in self._sinks))

        def add(pipe: Any, keys: _Keys) -> None:
            pipe.xlen(keys.records)
            pipe.hmget(keys.head, *fields)

        out = {}
        for tenant, (count, (size, gone, *cursors)) in self._piped(add, failures):
            room.records += count
            room.bytes += int(size or 0)
            done = min(((c or b"0-0").decode() for c in cursors), key=_order, default="0-0")
            out[tenant] = _Load(count, (gone or b"0-0").decode(), done)
        return out

    def _shed(self, loads: Mapping[TenantId, _Load], room: _Room, failures: _Failures) -> int:
        """Take out the oldest contents until there is room; how many."""
        chosen: dict[TenantId, list[str]] = defaultdict(list)
        over = room.bytes - room.max_bytes
        for place in self._oldest({tenant: load.shed for tenant, load in loads.items()}, failures):
            if over <= 0:
                break
            chosen[place.tenant].append(place.id)
            over -= place.content
        lost = 0
        for tenant, ids in chosen.items():
            keys = self._keys(tenant)
            with failures.noted():
                for batch in _batches(ids, _PAGE):
                    call = _script(self._shedding, [keys.contents, keys.head], batch)
                    count, size = self._ask(keys.head, call, failures)
                    lost += count
                    room.bytes -= size
        if lost:
            logs.event(_log, logging.WARNING, "the spool is full: contents were dropped", records=lost)
        return lost

    def _drop(self, loads: Mapping[TenantId, _Load], room: _Room, failures: _Failures) -> int:
        """Drop the oldest records until there is room; how many."""
        ends: dict[TenantId, str] = {}
        records, size = room.records - room.max_records, room.bytes - room.max_bytes
        for place in self._oldest(dict.fromkeys(loads, "0-0"), failures):
            if records <= 0 and size <= 0:
                break
            ends[place.tenant] = place.id
            records -= 1
            size -= place.record + place.content + _ENTRY_BYTES
        lost = 0
        for tenant, upto in ends.items():
            with failures.noted():
                lost += self._give_up(self._keys(tenant), upto, room, failures)
        if lost:
            logs.event(_log, logging.ERROR, "the spool is full: records were dropped", records=lost)
        return lost

    def _give_up(self, keys: _Keys, upto: str, room: _Room, failures: _Failures) -> int:
        """Drop entries that sinks still want, up to one, it included; how many."""
        lost = 0
        while True:
            rows = self._ask(
                keys.head, lambda client: client.xrange(keys.records, "-", upto, count=_PAGE), failures
            )
            spans: list[Sequence[int]] = []
            for _, fields in rows:
                record = json.loads(fields[b"record"])
                # What it tells has to be told again.
                spans += [(record["chain"]["seq"],) * 2, *numbers_of(record)]
            lost += len(rows)
            if rows:  # noted first: what is noted and still there is dropped the next time
                numbers = merged([*self._noted(keys, "gaps", failures), *spans])
                self._keep(keys, "gaps", numbers, failures)
                self._forget(keys, rows[-1][0].decode(), room, failures)
            if len(rows) < _PAGE:
                return lost

    def _noted(self, keys: _Keys, name: str, failures: _Failures) -> Numbers:
        return _numbers(self._ask(keys.head, lambda client: client.hget(keys.head, name), failures))

    def _keep(self, keys: _Keys, name: str, numbers: Numbers, failures: _Failures) -> None:
        def keep(client: Any) -> object:
            if numbers:
                return client.hset(keys.head, name, json.dumps(numbers))
            return client.hdel(keys.head, name)

        self._ask(keys.head, keep, failures)

    def gaps(self) -> Sequence[Gap]:
        """What `trim` had to drop, or Redis lost, and no record tells of yet; of a tenant whose node is gone, later."""
        found = self._piped(lambda pipe, keys: pipe.hmget(keys.head, *_REASONS.values()), _Failures())
        return [
            Gap(tenant, _numbers(raw), reason)
            for tenant, [numbers] in found
            for reason, raw in zip(_REASONS, numbers, strict=True)
            if raw
        ]

    def reported(self, gaps: Sequence[Gap]) -> None:
        """Records tell of these now."""
        failures = _Failures()
        for gap in gaps:
            keys, name = self._keys(gap.tenant), _REASONS[gap.reason]
            with failures.noted():
                noted = self._noted(keys, name, failures)
                self._keep(keys, name, tuple(n for n in noted if n not in gap.numbers), failures)
        failures.raise_first()

    def _forget(self, keys: _Keys, upto: str, room: _Room, failures: _Failures) -> None:
        """Drop the tenant's entries up to one, it included."""
        names = [keys.records, keys.contents, keys.head]
        call = _script(self._forgetting, names, [upto, _PAGE, _ENTRY_BYTES])
        while True:
            count, size = map(int, self._ask(keys.head, call, failures))
            room.records -= count
            room.bytes -= size
            if count < _PAGE:
                return

    def _oldest(self, after: Mapping[TenantId, str], failures: _Failures) -> Iterator[_Place]:
        """The tenants' entries after one of each, the oldest of all first, as far as nodes' clocks agree."""
        return heapq.merge(
            *(self._places(tenant, first, failures) for tenant, first in after.items()),
            key=lambda place: _order(place.id),
        )

    def _places(self, tenant: TenantId, after: str, failures: _Failures) -> Iterator[_Place]:
        keys = self._keys(tenant)
        while True:
            found: list[Any] = []
            with failures.noted():
                call = _script(self._sizing, [keys.records, keys.contents], [after, _PAGE])
                found = self._ask(keys.head, call, failures)
            for identifier, record, content in zip(found[::3], found[1::3], found[2::3], strict=True):
                after = identifier.decode()
                yield _Place(tenant, after, record, content)
            if len(found) < 3 * _PAGE:
                return


def _replicated(write: Callable[[Any], T]) -> Callable[[Any], T]:
    """Write, and wait until a replica has it, too, if there are any that could take over."""

    def call(client: Any) -> T:
        with client.client() as one:  # WAIT asks for what came by its own connection
            found = write(one)
            if not _has_replica(one):
                raise UnreplicatedError
            return found

    return call


def _has_replica(client: Any) -> bool:
    """Whether a replica has all that this client wrote, or there is none that could take over."""
    try:
        role = client.execute_command("ROLE")  # b"master", offset, replicas that are online
        return len(role) < 3 or not role[2] or client.wait(1, _REPLICA_MS) > 0
    except redis.ResponseError:  # not allowed to ask: records must not wait for a right that nobody gave
        return True


def _script(script: Any, keys: Sequence[str], args: Sequence[Any]) -> Callable[[Any], Any]:
    return lambda client: script(keys=keys, args=args, client=client)


def _fetching(contents: str, names: Sequence[bytes]) -> Callable[[Any], list[bytes | None]]:
    return lambda client: client.hmget(contents, names)


def _numbers(found: bytes | None) -> Numbers:
    return merged(json.loads(found)) if found else ()


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _order(identifier: str) -> tuple[int, int]:
    milliseconds, _, number = identifier.partition("-")
    return int(milliseconds), int(number or 0)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
