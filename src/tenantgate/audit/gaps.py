"""What stands in a sink for records that it never gets.

A record is only ever dropped when the spool's bound is reached, when the spool itself was lost, or when a sink refuses
it for good. In its place the sink gets a gap: an object of another kind, ``"type": "gap"``, which says which numbers of
which chain are missing, why, and the hashes at both of its ends, so that the chain can be checked across it.

A gap isn't linked into the chain: whoever may write to the log could forge one. `check` therefore lists each.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tenantgate.audit.chain import Fault, FaultKind, Report, Verifier
from tenantgate.audit.ports import Head, Queued
from tenantgate.chat import canonical
from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId

__all__ = ["Checked", "Gap", "GapReason", "check", "gap_of", "is_gap", "span"]


class GapReason(enum.StrEnum):
    """Why records are missing."""

    BOUND = "spool_bound"  # more waited than may
    LOST = "spool_lost"  # the spool came back without them
    REFUSED = "refused"  # the sink takes others, but not these


@dataclass(frozen=True, slots=True)
class Gap:
    """Records `first` to `last` of a chain, both included.

    Attributes:
        prev: hash of the record before `first`; empty where that is the chain's beginning or isn't known.
        hash: of `last`; empty where not known.
        id: of the record, where it is only one.
    """

    tenant: TenantId
    node: str
    first: int
    last: int
    prev: str
    hash: str
    reason: GapReason
    id: str = ""

    @property
    def records(self) -> int:
        """How many are missing."""
        return self.last - self.first + 1

    @property
    def name(self) -> str:
        """An id of its own, the same whenever it is told."""
        return f"gap:{self.node}:{self.tenant.slug}:{self.first}-{self.last}:{self.reason}"

    def joined(self, other: Gap) -> Gap | None:
        """Both as one, if `other` goes on where this one ends."""
        if (self.tenant, self.node, self.reason) != (other.tenant, other.node, other.reason):
            return None
        if other.first != self.last + 1:
            return None
        return Gap(self.tenant, self.node, self.first, other.last, self.prev, other.hash, self.reason)

    def record(self, at: datetime) -> bytes:
        """What a sink gets."""
        what: dict[str, Any] = {
            "node": self.node, "first": self.first, "last": self.last, "records": self.records,
            "prev": self.prev, "hash": self.hash, "reason": self.reason.value,
        }  # fmt: skip
        if self.id:
            what["id"] = self.id
        time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return canonical(
            {
                "version": 1,
                "type": "gap",
                "id": self.name,
                "time": time,
                "tenant": str(self.tenant),
                "gap": what,
            }
        )

    def plain(self) -> list[Any]:
        """For a file or a field of Redis; `of_plain` reads it."""
        return [str(self.tenant), self.node, self.first, self.last, self.prev, self.hash, self.reason.value]

    @classmethod
    def of_plain(cls, values: Sequence[Any]) -> Gap:
        """The gap that `plain` gave."""
        tenant, node, first, last, prev, digest, reason = values
        return cls(TenantId(tenant), node, int(first), int(last), prev, digest, GapReason(reason))


def span(record: bytes) -> tuple[str, int, str, str] | None:
    """(node, seq, prev, hash) of a record, or None for one that has no place in a chain."""
    try:
        chain = json.loads(record)["chain"]
        return str(chain["node"]), int(chain["seq"]), str(chain["prev"]), str(chain["hash"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def gap_of(queued: Queued, reason: GapReason) -> Gap | None:
    """The gap that this one record leaves."""
    found = span(queued.record)
    if found is None:
        return None
    node, seq, prev, digest = found
    return Gap(queued.tenant, node, seq, seq, prev, digest, reason, queued.id)


def is_gap(line: bytes) -> Gap | None:
    """The gap of a line, or None for anything else."""
    if b'"type":"gap"' not in line and b'"type": "gap"' not in line:
        return None  # spares most lines a second parsing
    try:
        found = json.loads(line)
        if found.get("type") != "gap":
            return None
        gap = found["gap"]
        first, last = gap["first"], gap["last"]
        if type(first) is not int or type(last) is not int or not 0 < first <= last:
            return None
        return Gap(
            TenantId(found["tenant"]), str(gap["node"]), first, last, str(gap.get("prev", "")),
            str(gap.get("hash", "")), GapReason(gap["reason"]), str(gap.get("id", "")),
        )  # fmt: skip
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of a log with gaps found.

    Attributes:
        report: of all records; its faults are those that nothing explains.
        explained: what is missing and why.
        redelivered: records that came again, byte for byte the same chain link, where that is to be expected.
    """

    report: Report
    explained: tuple[Gap, ...]
    redelivered: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong that isn't explained."""
        return self.report.sound


def check(
    lines: Iterable[bytes],
    heads: Mapping[tuple[str, str], Head] | None = None,
    *,
    at_least_once: bool = False,
) -> Checked:
    """Check all lines, records and gaps, in about any order.

    Args:
        lines: one object each.
        heads: the last record of chains, by (tenant, node), where they are known.
        at_least_once: the same record twice is no fault: what a sink without a memory of its own writes.
    """
    gaps: dict[str, Gap] = {}
    verifier = Verifier()
    for line in _records(lines, gaps):
        verifier.feed(line)
    report = verifier.report(heads)
    faults, redelivered, used = [], 0, set()
    for fault in report.faults:
        if fault.kind is FaultKind.DOUBLED and at_least_once:
            redelivered += 1
            continue
        rest, by = _unexplained(fault, gaps.values())
        used |= by
        faults += rest
    beginnings = dict(report.beginnings)
    for (tenant, node), first in report.beginnings.items():
        before = Fault(FaultKind.MISSING, tenant, node, 1, first - 1)
        rest, by = _unexplained(before, gaps.values())
        used |= by
        if not rest:
            del beginnings[tenant, node]
    return Checked(
        Report(
            records=report.records, chains=report.chains, shed=report.shed, beginnings=beginnings,
            restarts=report.restarts, faults=tuple(faults),
        ),
        tuple(gap for name, gap in gaps.items() if name in used),
        redelivered,
    )  # fmt: skip


def _records(lines: Iterable[bytes], gaps: dict[str, Gap]) -> Iterator[bytes]:
    for line in lines:
        if not line.strip():
            continue
        gap = is_gap(line)
        if gap is None:
            yield line
        else:
            gaps[gap.name] = gap


def _unexplained(fault: Fault, gaps: Iterable[Gap]) -> tuple[list[Fault], set[str]]:
    """What is left of a fault, and the names of the gaps that explain something of it."""
    if fault.kind not in (FaultKind.MISSING, FaultKind.CUT):
        return [fault], set()
    used = set()
    left = [(fault.seq, fault.until)]
    for gap in sorted(gaps, key=lambda g: g.first):
        if (str(gap.tenant), gap.node) != (fault.tenant, fault.node):
            continue
        after = []
        for first, last in left:
            if gap.last < first or gap.first > last:
                after.append((first, last))
                continue
            used.add(gap.name)
            if first < gap.first:
                after.append((first, gap.first - 1))
            if gap.last < last:
                after.append((gap.last + 1, last))
        left = after
    return [Fault(fault.kind, fault.tenant, fault.node, a, b, fault.id) for a, b in left], used
