"""Ports of the audit log: a durable spool, and sinks, which adapters provide."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tenantgate.errors import EdgeError
from tenantgate.tenant import TenantId

__all__ = ["ConflictError", "Entry", "Gap", "GapReason", "Head", "Queued", "Sink", "SinkError", "Spool"]


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a tenant's chain; `Head(0, "", -1)` where there is none.

    Attributes:
        seq: number of the entry, from 1.
        hash: its hash, 64 hexadecimal digits.
        position: of its line in the journal, in bytes.
    """

    seq: int
    hash: str
    position: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A record on its way into the spool.

    Attributes:
        tenant: its owner.
        id: unique over all tenants and nodes.
        seq: number in the chain of this tenant and node, from 1, without gaps.
        hash: of this record, 64 hexadecimal digits.
        position: of its line in the journal, in bytes since the journal's beginning; grows from entry to entry.
        record: one JSON object, canonical, without a line end; holds "id", "tenant" and
            "chain": {"node", "seq", "prev", "hash"}.
    """

    tenant: TenantId
    id: str
    seq: int
    hash: str
    position: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Queued:
    """A record that waits for a sink; `cursor` is the spool's own."""

    cursor: str
    tenant: TenantId
    id: str
    record: bytes


class GapReason(enum.StrEnum):
    """Reason why entries are gone."""

    SPOOL_FULL = "spool_full"  # the bound of the spool was reached
    SPOOL_LOST = "spool_lost"  # Redis lost them after it had taken them; sinks may have them


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries of a tenant that went before all sinks had them, or may have.

    Attributes:
        numbers: in the chain, from and to, both included; in order, apart from each other.
    """

    tenant: TenantId
    numbers: tuple[tuple[int, int], ...]
    reason: GapReason = GapReason.SPOOL_FULL


class Spool(Protocol):
    """Store of records between the worker and the sinks, which outlives both. Of one node, with one writer."""

    @property
    def taken_over(self) -> bool:
        """Whether another gateway has written here before, whose journal positions aren't ours."""

    def heads(self) -> Mapping[TenantId, Head]:
        """The last entry of each tenant that has one."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep the entries; durable when it returns.

        Idempotent: an entry whose position is not beyond its tenant's head is ignored.

        Raises:
            EdgeError: it could not, in part or at all; the same call may be made again.
            ConflictError: somebody else has appended to these chains; open the spool anew.
        """

    def checkpoint(self) -> int | None:
        """The journal position up to which all is appended; None before the first."""

    def set_checkpoint(self, position: int) -> None:
        """Note it. May be lost with the process: then an older one is given."""

    def read(self, sink: str, limit: int) -> Sequence[Queued]:
        """The oldest records that this sink has not acknowledged, without blocking."""

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        """The sink has these."""

    def backlog(self, sink: str) -> int:
        """How many records this sink has not acknowledged."""

    def trim(self) -> int:
        """Drop what all sinks have, and over the bound the oldest, content first; how many records lost something."""

    def gaps(self) -> Sequence[Gap]:
        """Gaps that no record reports yet, one for a tenant and reason; they outlive the process."""

    def reported(self, gaps: Sequence[Gap]) -> None:
        """Records report these now. May be lost with the process: then they are given again."""


class ConflictError(EdgeError):
    """Another gateway writes under the same node's name."""


class Sink(Protocol):
    """Receiver of records."""

    name: str

    def send(self, batch: Sequence[Queued]) -> None:
        """Deliver; the whole batch is there when it returns.

        Raises:
            SinkError: part of it may not be.
        """


class SinkError(EdgeError):
    """A sink did not take a batch; `retry` says whether it might later."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry
