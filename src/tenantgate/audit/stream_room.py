"""Room in the streams of all tenants together: which entries and contents go when there are too many.

What all sinks have is kept for a day, but goes first when room is short, then the oldest contents of all tenants, then
the oldest records, whose numbers stay in ``gaps`` until a record reports them.
"""

from __future__ import annotations

import heapq
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.audit.core.chain import merged, numbers_of
from tenantgate.audit.stream_nodes import Failures, StreamNodes, TenantKeys, batches
from tenantgate.telemetry import logs
from tenantgate.tenant import TenantId

__all__ = ["ENTRY_BYTES", "StreamTrimmer"]

_log: Final = logging.getLogger("tenantgate.audit")
ENTRY_BYTES: Final = 256
"""About what Redis needs for an entry beside its texts."""
_PAGE: Final = 1000  # entries in one call, where no texts travel


@dataclass(frozen=True, slots=True)
class _Load:
    """Entries of one tenant: their number, the last one without content, and the last one that all sinks have."""

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
    """Records and bytes of all tenants together, and their bounds."""

    max_records: int
    max_bytes: int
    records: int = 0
    bytes: int = 0

    @property
    def short(self) -> bool:
        return self.records > self.max_records or self.bytes > self.max_bytes


class StreamTrimmer:
    """Makes room in streams; `max_records` and `max_bytes` are for all tenants together."""

    def __init__(
        self, nodes: StreamNodes, sinks: Sequence[str], *, max_records: int, max_bytes: int, keep_ms: int
    ) -> None:
        self._nodes, self._sinks, self._keep_ms = nodes, tuple(sinks), keep_ms
        self._max_records, self._max_bytes = max_records, max_bytes
        self._sizing, self._shedding, self._forgetting = map(nodes.script, ("sizes", "shed", "forget"))

    def trim(self) -> int:
        """Make room; how many entries that a sink still waits for lost their content, or were dropped."""
        failures = Failures()
        room = _Room(self._max_records, self._max_bytes)
        loads = self._loads(room, failures)
        if not loads:
            failures.raise_first()
        old = f"{int(time.time() * 1000) - self._keep_ms}-0"
        for tenant, load in loads.items():
            bound = load.done if room.short else min(load.done, old, key=_order)
            if load.count and _order(bound) > (0, 0):
                with failures.noted():
                    self._forget(self._nodes.keys(tenant), bound, room, failures)
        lost = 0
        if room.bytes > room.max_bytes:
            lost += self._shed(loads, room, failures)
        if room.short:
            lost += self._drop(loads, room, failures)
        return lost

    def _loads(self, room: _Room, failures: Failures) -> dict[TenantId, _Load]:
        fields = ("bytes", "shed", *(f"cursor:{sink}" for sink in self._sinks))

        def add(pipe: Any, keys: TenantKeys) -> None:
            pipe.xlen(keys.records)
            pipe.hmget(keys.head, *fields)

        out = {}
        for tenant, (count, (size, gone, *cursors)) in self._nodes.piped(add, failures):
            room.records += count
            room.bytes += int(size or 0)
            done = min(((c or b"0-0").decode() for c in cursors), key=_order, default="0-0")
            out[tenant] = _Load(count, (gone or b"0-0").decode(), done)
        return out

    def _shed(self, loads: Mapping[TenantId, _Load], room: _Room, failures: Failures) -> int:
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
            keys = self._nodes.keys(tenant)
            with failures.noted():
                for batch in batches(ids, _PAGE):
                    call = self._shedding([keys.contents, keys.head], batch)
                    count, size = self._nodes.ask(keys.head, call, failures)
                    lost += count
                    room.bytes -= size
        if lost:
            logs.event(_log, logging.WARNING, "the spool is full: contents were dropped", records=lost)
        return lost

    def _drop(self, loads: Mapping[TenantId, _Load], room: _Room, failures: Failures) -> int:
        """Drop the oldest records until there is room; how many."""
        ends: dict[TenantId, str] = {}
        records, size = room.records - room.max_records, room.bytes - room.max_bytes
        for place in self._oldest(dict.fromkeys(loads, "0-0"), failures):
            if records <= 0 and size <= 0:
                break
            ends[place.tenant] = place.id
            records -= 1
            size -= place.record + place.content + ENTRY_BYTES
        lost = 0
        for tenant, upto in ends.items():
            with failures.noted():
                lost += self._give_up(self._nodes.keys(tenant), upto, room, failures)
        if lost:
            logs.event(_log, logging.ERROR, "the spool is full: records were dropped", records=lost)
        return lost

    def _give_up(self, keys: TenantKeys, upto: str, room: _Room, failures: Failures) -> int:
        """Drop entries that sinks still want, up to one, it included; how many."""
        lost = 0
        while True:
            rows = self._nodes.ask(
                keys.head, lambda client: client.xrange(keys.records, "-", upto, count=_PAGE), failures
            )
            spans: list[Sequence[int]] = []
            for _, fields in rows:
                record = json.loads(fields[b"record"])
                # What it reports has to be reported again.
                spans += [(record["chain"]["seq"],) * 2, *numbers_of(record)]
            lost += len(rows)
            if rows:  # noted first: what is noted and still there is dropped the next time
                numbers = merged([*self._nodes.gaps(keys, "gaps", failures), *spans])
                self._nodes.set_gaps(keys, "gaps", numbers, failures)
                self._forget(keys, rows[-1][0].decode(), room, failures)
            if len(rows) < _PAGE:
                return lost

    def _forget(self, keys: TenantKeys, upto: str, room: _Room, failures: Failures) -> None:
        """Drop the tenant's entries up to one, it included."""
        names = [keys.records, keys.contents, keys.head]
        call = self._forgetting(names, [upto, _PAGE, ENTRY_BYTES])
        while True:
            count, size = map(int, self._nodes.ask(keys.head, call, failures))
            room.records -= count
            room.bytes -= size
            if count < _PAGE:
                return

    def _oldest(self, after: Mapping[TenantId, str], failures: Failures) -> Iterator[_Place]:
        """The tenants' entries after one of each, the oldest of all first, as far as nodes' clocks agree."""
        return heapq.merge(
            *(self._places(tenant, first, failures) for tenant, first in after.items()),
            key=lambda place: _order(place.id),
        )

    def _places(self, tenant: TenantId, after: str, failures: Failures) -> Iterator[_Place]:
        keys = self._nodes.keys(tenant)
        while True:
            found: list[Any] = []
            with failures.noted():
                call = self._sizing([keys.records, keys.contents], [after, _PAGE])
                found = self._nodes.ask(keys.head, call, failures)
            for identifier, record, content in zip(found[::3], found[1::3], found[2::3], strict=True):
                after = identifier.decode()
                yield _Place(tenant, after, record, content)
            if len(found) < 3 * _PAGE:
                return


def _order(identifier: str) -> tuple[int, int]:
    milliseconds, _, number = identifier.partition("-")
    return int(milliseconds), int(number or 0)
