"""The spool in Redis: a stream for each tenant of a node, so that records outlive the node's disk.

Keys, in braces the hash tag that keeps a tenant on one shard of a Redis Cluster::

    tg:audit:1:{tenant}:<node>:records   stream: id, position, record without its content
    tg:audit:1:{tenant}:<node>:contents  hash: entry id → content
    tg:audit:1:{tenant}:<node>:head      hash: seq, hash, position; bytes, the size of all; shed, up to which entry
                                         contents are gone; cursor:<sink>, the last entry it has; gaps and lost, the
                                         numbers that no record reports yet, by why they are gone
    tg:audit:1:<node>                    hash: checkpoint, and the gateway that it is of; tenant:<id> for each tenant
    tg:audit:1:owner:{tg:audit:1:<node>} the one gateway that writes here, for a while; beside the key before

Two gateways that are given the same node's name would write into the same chains, each with positions of a journal of
its own. So one at a time may; the records of the other wait in its journal.

An append is one script for each tenant, which ignores what is there already. How durable it is, is up to Redis:
``appendonly yes`` with ``appendfsync everysec`` may lose the last second with the machine, ``always`` nothing. Where
Redis has replicas, an append is done when one of them has it, too, so that it outlives a failover. A Redis that came
back without a chain's last entries gets the next ones under the numbers they have, and a record reports the lost ones:
sinks may have those, and no number may stand for two records.

A node of a cluster that fails holds up its own tenants only, or all if it has the last two keys.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tenantgate.audit.core.chain import SHED, merged, shed
from tenantgate.audit.core.ports import ConflictError, Entry, Gap, GapReason, Head, Queued
from tenantgate.audit.stream_nodes import (
    CONFLICT,
    Failures,
    StreamNodes,
    TenantKeys,
    batches,
    gap_numbers,
    replicated,
)
from tenantgate.audit.stream_room import ENTRY_BYTES, StreamTrimmer
from tenantgate.errors import EdgeError
from tenantgate.llm.chat import canonical
from tenantgate.telemetry import logs
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.store.config import RedisConfig

__all__ = ["StreamSpool"]

_log: Final = logging.getLogger("tenantgate.audit")
_KEEP_MS: Final = 86_400_000  # what all sinks have, for a replay
_AT_ONCE: Final = 200  # entries in one script
_CONTENTS: Final = 50  # contents fetched in one go
_READ_BYTES: Final = 8 << 20  # of records in one read, unless the first is larger
_OWNER_MS: Final = 30_000  # after which a gateway that says nothing has given up its place

_REASONS: Final = {GapReason.SPOOL_FULL: "gaps", GapReason.SPOOL_LOST: "lost"}
"""Fields of a tenant's head that hold the numbers of its gaps."""


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
        self._nodes = StreamNodes(config, node)
        self._trimmer = StreamTrimmer(
            self._nodes, sinks, max_records=max_records, max_bytes=max_bytes, keep_ms=keep_ms
        )
        self._appending, self._claiming = map(self._nodes.script, ("append", "claim"))
        self._owner, self._owner_key = owner, f"tg:audit:1:owner:{{{self._nodes.root}}}"
        self._claim()
        before = self._root(lambda client, root: client.hget(root, "owner")) if owner else None
        self.taken_over = before is not None and before != owner.encode()
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._idle: dict[str, set[TenantId]] = {sink: set() for sink in sinks}
        self._appends = 0
        self._waiting: dict[tuple[str, TenantId], int] = {}
        self._turn = itertools.count()
        for name in self._root(lambda client, root: client.hkeys(root)):
            text = name.decode("utf-8", "surrogateescape")
            if text.startswith("tenant:"):
                self._nodes.keys(TenantId(text.removeprefix("tenant:")))

    def _root(self, call: Callable[[Any, str], Any], failures: Failures | None = None) -> Any:
        """The result of `call` with a client and the key of this gateway node's own hash."""
        root = self._nodes.root
        return self._nodes.ask(root, lambda client: call(client, root), failures)

    def _claim(self) -> None:
        call = self._claiming([self._owner_key], [self._owner, _OWNER_MS])
        if self._owner and not self._nodes.ask(self._owner_key, call):
            raise ConflictError(CONFLICT)

    # -- writing ------------------------------------------------------------------------------------------

    def heads(self) -> Mapping[TenantId, Head]:
        """The last entry of each tenant that has one."""
        failures = Failures()
        found = dict(
            self._nodes.piped(lambda p, keys: p.hmget(keys.head, "seq", "hash", "position"), failures)
        )
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
        failures = Failures()
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

    def _append(self, tenant: TenantId, entries: Sequence[Entry], failures: Failures) -> None:
        keys = self._nodes.keys(tenant)
        field = f"tenant:{tenant}".encode("utf-8", "surrogateescape")
        self._root(lambda client, root: client.hsetnx(root, field, 1), failures)
        names = [keys.records, keys.contents, keys.head]
        for batch in batches(entries, _AT_ONCE):
            args: list[Any] = [int(batch[-1] is entries[-1]), ENTRY_BYTES]
            for e in batch:
                content = canonical(json.loads(e.record).get("content"))
                args += [e.position, e.seq, e.hash, shed(e.record), content]
            call = replicated(self._appending(names, args))
            last = int(self._nodes.ask(keys.head, call, failures))
            if last < batch[-1].seq:
                self._mend(keys, last, entries, failures)
                last = int(self._nodes.ask(keys.head, call, failures))
            if last < batch[-1].seq:
                raise EdgeError("spool: redis: it loses records")

    def _mend(self, keys: TenantKeys, last: int, entries: Sequence[Entry], failures: Failures) -> None:
        """Note which numbers Redis has lost after `last`, and that the chain goes on with the first one to come."""
        self._claim()
        known = self._nodes.ask(keys.head, lambda client: client.hget(keys.head, "position"), failures)
        following = next(e.seq for e in entries if e.position > int(known))
        logs.event(
            _log, logging.ERROR, "redis has lost records of the spool", first=last + 1, last=following - 1
        )
        noted = merged([*self._nodes.gaps(keys, "lost", failures), (last + 1, following - 1)])
        state = {"lost": json.dumps(noted), "seq": following - 1}
        self._nodes.ask(keys.head, lambda client: client.hset(keys.head, mapping=state), failures)

    def checkpoint(self) -> int | None:
        """The journal position up to which all is appended."""
        found = self._root(lambda client, root: client.hget(root, "checkpoint"))
        return int(found) if found is not None else None

    def set_checkpoint(self, position: int) -> None:
        """Note it."""
        noted = {"checkpoint": position, "owner": self._owner}
        self._root(lambda client, root: client.hset(root, mapping=noted))

    # -- reading ------------------------------------------------------------------------------------------

    def listen(self, appended: Callable[[], None]) -> None:
        """Call `appended` after each append, from the appending thread."""
        self._listeners.append(appended)

    def read(self, sink: str, limit: int) -> Sequence[Queued]:
        """The oldest entries of a tenant that this sink has not acknowledged, the tenants in turn."""
        waiting = self._not_idle(sink)
        if not waiting:
            return []
        failures, appends = Failures(), self._appends
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
            return [t for t in self._nodes.tenants if t not in self._idle.get(sink, set())]

    def _cursor(self, tenant: TenantId, sink: str, failures: Failures | None = None) -> str:
        head = self._nodes.keys(tenant).head
        found = self._nodes.ask(head, lambda client: client.hget(head, f"cursor:{sink}"), failures)
        return found.decode() if found else "0-0"

    def _entries(
        self, tenant: TenantId, after: str, limit: int, failures: Failures | None = None
    ) -> list[Queued]:
        keys = self._nodes.keys(tenant)
        rows = self._nodes.ask(
            keys.head, lambda client: client.xrange(keys.records, f"({after}", "+", count=limit), failures
        )
        out: list[Queued] = []
        size = 0
        for part in batches(rows, _CONTENTS):
            names = [row[0] for row in part]
            contents = self._nodes.ask(keys.head, _fetching(keys.contents, names), failures)
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
        for tenant in self._nodes.tenants:
            after = "0-0"
            while found := self._entries(tenant, after, 500):
                yield from found
                after = found[-1].cursor

    def replay(self, sink: str, since_ms: int) -> None:
        """Let a sink begin anew with the entries since a time, Unix milliseconds."""
        cursor = f"{max(0, since_ms)}-0"
        for keys in map(self._nodes.keys, self._nodes.tenants):
            self._set_cursor(keys, sink, cursor)

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        """The sink has these."""
        for tenant, cursor in {q.tenant: q.cursor for q in queued}.items():
            self._set_cursor(self._nodes.keys(tenant), sink, cursor)

    def _set_cursor(self, keys: TenantKeys, sink: str, cursor: str) -> None:
        self._nodes.ask(keys.head, lambda client: client.hset(keys.head, f"cursor:{sink}", cursor))

    def backlog(self, sink: str) -> int:
        """About how many entries this sink has not acknowledged; of a tenant whose node is gone, as last seen."""
        failures = Failures()
        total = 0
        for tenant in self._not_idle(sink):
            with failures.noted():
                self._waiting[sink, tenant] = self._count(tenant, sink, failures)
            total += self._waiting.get((sink, tenant), 0)
        return total

    def _count(self, tenant: TenantId, sink: str, failures: Failures) -> int:
        keys, after = self._nodes.keys(tenant), self._cursor(tenant, sink, failures)

        def count(client: Any) -> int:
            if after == "0-0":
                return int(client.xlen(keys.records))
            return len(client.xrange(keys.records, f"({after}", "+", count=10_000))

        return self._nodes.ask(keys.head, count, failures)

    # -- room and gaps ------------------------------------------------------------------------------------

    def trim(self) -> int:
        """Make room; how many entries that a sink still waits for lost their content, or were dropped."""
        self._claim()
        return self._trimmer.trim()

    def gaps(self) -> Sequence[Gap]:
        """Entries that were dropped or lost and no record reports yet; of a tenant whose node is gone, later."""
        found = self._nodes.piped(lambda pipe, keys: pipe.hmget(keys.head, *_REASONS.values()), Failures())
        return [
            Gap(tenant, gap_numbers(raw), reason)
            for tenant, [fields] in found
            for reason, raw in zip(_REASONS, fields, strict=True)
            if raw
        ]

    def reported(self, gaps: Sequence[Gap]) -> None:
        """Records report these now."""
        failures = Failures()
        for gap in gaps:
            keys, name = self._nodes.keys(gap.tenant), _REASONS[gap.reason]
            with failures.noted():
                noted = self._nodes.gaps(keys, name, failures)
                self._nodes.set_gaps(keys, name, tuple(n for n in noted if n not in gap.numbers), failures)
        failures.raise_first()


def _fetching(contents: str, names: Sequence[bytes]) -> Callable[[Any], list[bytes | None]]:
    return lambda client: client.hmget(contents, names)
