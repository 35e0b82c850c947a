"""A spool in memory: `tenantgate.audit.core.ports.Spool` for tests, with the rules that a durable one has to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tenantgate.audit.core.chain import START
from tenantgate.audit.core.ports import Entry, Gap, Head, Queued
from tenantgate.tenant import TenantId

__all__ = ["MemorySpool"]


@dataclass
class MemorySpool:
    """Keeps everything that was appended; `entries` is all of it, in order."""

    entries: list[Entry] = field(default_factory=list)
    _heads: dict[TenantId, Head] = field(default_factory=dict)
    _acked: dict[str, int] = field(default_factory=dict)
    dropped: list[Gap] = field(default_factory=list)
    _checkpoint: int | None = None
    taken_over: bool = False

    def heads(self) -> Mapping[TenantId, Head]:
        """The last entry of each tenant that has one."""
        return dict(self._heads)

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep the entries that are beyond their tenant's head."""
        for entry in entries:
            if entry.position > self._heads.get(entry.tenant, START).position:
                self.entries.append(entry)
                self._heads[entry.tenant] = Head(entry.seq, entry.hash, entry.position)

    def checkpoint(self) -> int | None:
        """The journal position up to which all is appended."""
        return self._checkpoint

    def set_checkpoint(self, position: int) -> None:
        """Note it."""
        self._checkpoint = position

    def read(self, sink: str, limit: int) -> Sequence[Queued]:
        """The oldest records that this sink has not acknowledged."""
        since = self._acked.get(sink, 0)
        return [
            Queued(str(number), e.tenant, e.id, e.record)
            for number, e in enumerate(self.entries[since : since + limit], since + 1)
        ]

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        """The sink has these."""
        self._acked[sink] = max([self._acked.get(sink, 0), *(int(q.cursor) for q in queued)])

    def backlog(self, sink: str) -> int:
        """How many records this sink has not acknowledged."""
        return len(self.entries) - self._acked.get(sink, 0)

    def trim(self) -> int:
        """Nothing is dropped, but what a test puts into `dropped`."""
        return 0

    def gaps(self) -> Sequence[Gap]:
        """Gaps that no record reports yet."""
        return tuple(self.dropped)

    def reported(self, gaps: Sequence[Gap]) -> None:
        """Records report these now."""
        self.dropped = [gap for gap in self.dropped if gap not in gaps]
