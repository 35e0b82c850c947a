"""Links records so that a removed, altered or doubled one shows.

Each tenant has a chain on each node. A record's `chain` holds ``node``, ``seq`` (from 1, without gaps), ``prev`` (the
hash of the record before, empty for the first), ``content`` (SHA-256 of the canonical `content`) and ``hash``: the
SHA-256 of the canonical record without `content` and ``chain.hash``. So content can be taken out later (`shed`: for
want of room, or to erase it) and the chain still holds; its random ``salt`` keeps anybody from testing guesses at what
was there.

Whole records that had to go are reported by a later record of the same chain, in its ``gap.numbers``.

Who can rewrite a whole chain can forge it: the hashes prove something to whoever keeps a later one elsewhere, such as
a second sink.
"""

from __future__ import annotations

import enum
import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.audit.core.ports import Entry, Head
from tenantgate.llm.chat import canonical
from tenantgate.tenant import TenantId

__all__ = [
    "START",
    "Fault",
    "FaultKind",
    "Numbers",
    "Report",
    "Verifier",
    "link",
    "merged",
    "numbers_of",
    "shed",
    "verify",
]

START: Final = Head(0, "", -1)
"""The head of a chain without entries."""

SHED: Final = {"state": "shed"}
"""The content of a record whose content was taken out."""

_MOST_MISSING: Final = 10_000_000  # numbers for which one keeps a place each
_BEGINNING: Final = 1000  # records of a chain that may come before its first one


def link(
    record: Mapping[str, Any], head: Head, *, tenant: TenantId, node: str, position: int
) -> tuple[Entry, Head]:
    """The record as the next entry after `head`, and the new head. `record` holds ``id`` and ``content``."""
    chain = {"node": node, "seq": head.seq + 1, "prev": head.hash, "content": _digest(record.get("content"))}
    whole = {**record, "chain": chain}
    digest = _hash(whole)
    whole["chain"] = {**chain, "hash": digest}
    entry = Entry(
        tenant=tenant,
        id=str(record["id"]),
        seq=head.seq + 1,
        hash=digest,
        position=position,
        record=canonical(whole),
    )
    return entry, Head(head.seq + 1, digest, position)


def shed(record: bytes) -> bytes:
    """The record without its content; the chain holds as before."""
    found = json.loads(record)
    found["content"] = SHED
    return canonical(found)


Numbers = tuple[tuple[int, int], ...]
"""Numbers of a chain: from and to, both included."""


def merged(numbers: Iterable[Sequence[int]]) -> Numbers:
    """The same numbers in order, what overlaps or adjoins as one."""
    out: list[tuple[int, int]] = []
    for first, last in sorted((a, b) for a, b in numbers):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


def numbers_of(record: Mapping[str, Any]) -> Numbers:
    """Which numbers a record says were dropped; none for a request's record."""
    gap = record.get("gap")
    found = gap.get("numbers") if isinstance(gap, Mapping) else None
    return merged(
        (span["from"], span["to"])
        for span in (found if isinstance(found, list) else ())
        if isinstance(span, Mapping) and type(span.get("from")) is int and type(span.get("to")) is int
    )


class FaultKind(enum.StrEnum):
    """A kind of fault in a chain."""

    UNREADABLE = "unreadable"  # not a record at all
    ALTERED = "altered"  # its hash is another
    CONTENT_ALTERED = "content_altered"  # what it holds as content isn't what was linked
    MISSING = "missing"  # numbers without a record, of which no later record says that they were dropped
    DOUBLED = "doubled"  # the same record again
    FORKED = "forked"  # another record under the same number
    BROKEN = "broken"  # does not continue the record before
    CUT = "cut"  # ends before the known last record


@dataclass(frozen=True, slots=True)
class Fault:
    """One finding; `seq` and `until` are numbers in the chain, both included, 0 where not known."""

    kind: FaultKind
    tenant: str
    node: str
    seq: int
    until: int
    id: str = ""

    def __str__(self) -> str:
        numbers = f"{self.seq}" if self.seq == self.until else f"{self.seq}-{self.until}"
        where = f"tenant {self.tenant}, node {self.node}, " if self.tenant else ""
        return f"{self.kind}: {where}number {numbers}" + (f", id {self.id}" if self.id else "")


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a verification.

    Attributes:
        records: how many were read.
        chains: how many chains they belong to.
        shed: how many have lost their content on purpose.
        beginnings: chains that don't begin with their first record, and with which number they do: what came
            before may have been rotated away.
        restarts: chains, by tenant and node, that began anew, which they do when the spool's state was lost.
        dropped: numbers that aren't here and of which a later record of the chain says that they were dropped.
        faults: what is wrong.
    """

    records: int
    chains: int
    shed: int
    beginnings: Mapping[tuple[str, str], int]
    restarts: Mapping[tuple[str, str], int]
    dropped: Mapping[tuple[str, str], Numbers]
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


@dataclass
class _Chain:
    """One chain's state, 8 bytes a record: the start of each hash, by number. `first` is 0 while it isn't known."""

    first: int = 0
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    last: str = ""  # the hash of the last one in order
    ahead: dict[int, tuple[str, str, str]] = field(default_factory=dict)  # seq → prev, hash, id
    missing: list[tuple[int, int]] = field(default_factory=list)
    reported: list[tuple[int, int]] = field(default_factory=list)  # numbers that records say were dropped

    @property
    def next(self) -> int:
        return (self.first or 1) + len(self.hashes)

    def begins_otherwise(self, digest: str) -> bool:
        """Whether a first record with this hash isn't this chain's own."""
        return len(self.hashes) > 0 and (self.first > 1 or self.hashes[0] != _short(digest))


class Verifier:
    """Reads records in about any order (a sink may have retried), all tenants and nodes mixed."""

    def __init__(self, *, reorder: int = 10_000) -> None:
        """`reorder`: how many records of a chain may come before an earlier one."""
        self._reorder = reorder
        self._chains: dict[tuple[str, str], _Chain] = {}
        self._restarts: dict[tuple[str, str], int] = {}
        self._faults: list[Fault] = []
        self._records = self._shed = 0
        self._beginnings: dict[tuple[str, str], int] = {}
        self._dropped: dict[tuple[str, str], Numbers] = {}

    def feed(self, line: bytes) -> None:
        """One record."""
        self._records += 1
        record, chain = _read(line)
        if record is None or chain is None:
            self._faults.append(Fault(FaultKind.UNREADABLE, "", "", self._records, self._records))
            return
        key = (str(record.get("tenant")), chain["node"])
        seq, digest, identifier = chain["seq"], chain["hash"], str(record.get("id"))
        whole = _hash({**record, "chain": {k: v for k, v in chain.items() if k != "hash"}}) == digest
        if not whole:
            self._fault(FaultKind.ALTERED, key, seq, identifier)
        if record.get("content") == SHED:
            self._shed += 1
        elif _digest(record.get("content")) != chain.get("content"):
            self._fault(FaultKind.CONTENT_ALTERED, key, seq, identifier)
        self._place(key, seq, chain["prev"], digest, identifier)
        if whole:
            # Of what comes before it, and no more.
            reported = ((a, min(b, seq - 1)) for a, b in numbers_of(record))
            self._chains[key].reported += [(a, b) for a, b in reported if 0 < a <= b]

    def _place(self, key: tuple[str, str], seq: int, prev: str, digest: str, identifier: str) -> None:
        state = self._chains.get(key)
        if state is not None and seq == 1 and not prev and state.begins_otherwise(digest):
            self._settle(key, state)
            self._restarts[key] = self._restarts.get(key, 0) + 1
            state = None
        if state is None:
            state = self._chains[key] = _Chain()
        if state.first and seq < state.next:
            if seq >= state.first:
                same = state.hashes[seq - state.first] == _short(digest)
                self._fault(FaultKind.DOUBLED if same else FaultKind.FORKED, key, seq, identifier)
            return
        if seq in state.ahead:
            same = state.ahead[seq][1] == digest
            self._fault(FaultKind.DOUBLED if same else FaultKind.FORKED, key, seq, identifier)
            return
        state.ahead[seq] = (prev, digest, identifier)
        if seq == 1:
            state.first = 1
        if state.first:
            self._advance(key, state)
        if len(state.ahead) > (self._reorder if state.first else _BEGINNING):
            self._skip(key, state)

    def _advance(self, key: tuple[str, str], state: _Chain) -> None:
        while (found := state.ahead.pop(state.next, None)) is not None:
            prev, digest, identifier = found
            if prev != state.last:
                self._fault(FaultKind.BROKEN, key, state.next, identifier)
            state.hashes.append(_short(digest))
            state.last = digest

    def _skip(self, key: tuple[str, str], state: _Chain) -> None:
        """Give up the numbers before the next one that is there: missing, or before the chain's beginning here."""
        following = min(state.ahead)
        if state.first:
            state.missing.append((state.next, following - 1))
            if following - state.next > _MOST_MISSING:
                state.first, state.hashes = following, array("Q")  # a number of any size may stand in a file
            else:
                state.hashes.extend([0] * (following - state.next))
        else:
            state.first = self._beginnings[key] = following
        state.last = state.ahead[following][0]
        self._advance(key, state)

    def _settle(self, key: tuple[str, str], state: _Chain) -> None:
        while state.ahead:
            self._skip(key, state)
        reported = merged(state.reported)
        for first, last in state.missing:
            for a, b in _without(first, last, reported):
                self._faults.append(Fault(FaultKind.MISSING, *key, a, b))
        gone = [*state.missing, *([(1, state.first - 1)] if state.first > 1 else [])]
        dropped = [(max(a, c), min(b, d)) for a, b in gone for c, d in reported if max(a, c) <= min(b, d)]
        if dropped:
            self._dropped[key] = merged([*self._dropped.get(key, ()), *dropped])
        state.missing, state.reported = [], []

    def _fault(self, kind: FaultKind, key: tuple[str, str], seq: int, identifier: str) -> None:
        self._faults.append(Fault(kind, *key, seq, seq, identifier))

    def report(self, heads: Mapping[tuple[str, str], Head] | None = None) -> Report:
        """The result; with the known `heads` by (tenant, node) also whether the last records are there."""
        for key, state in self._chains.items():
            self._settle(key, state)
        for key, head in (heads or {}).items():
            found = self._chains.get(key)
            following = found.next if found else 1
            if head.seq >= following:
                self._faults.append(Fault(FaultKind.CUT, *key, following, head.seq))
        return Report(
            records=self._records,
            chains=len(self._chains),
            shed=self._shed,
            beginnings=dict(self._beginnings),
            restarts=dict(self._restarts),
            dropped=dict(self._dropped),
            faults=tuple(self._faults),
        )


def verify(lines: Iterable[bytes], heads: Mapping[tuple[str, str], Head] | None = None) -> Report:
    """Check all records, one a line."""
    verifier = Verifier()
    for line in lines:
        if line.strip():
            verifier.feed(line)
    return verifier.report(heads)


def _read(line: bytes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None, None
    chain = record.get("chain") if isinstance(record, dict) else None
    usable = (
        isinstance(chain, dict)
        and all(isinstance(chain.get(name), str) for name in ("node", "prev", "hash"))
        and type(chain.get("seq")) is int
        and chain["seq"] > 0
    )
    return (record, chain) if usable else (None, None)


def _without(first: int, last: int, reported: Numbers) -> Iterable[tuple[int, int]]:
    """The numbers from `first` to `last` that aren't among `reported`, which is in order."""
    for a, b in reported:
        if b >= first and a <= last:
            if a > first:
                yield first, a - 1
            first = b + 1
    if first <= last:
        yield first, last


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "content"})).hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()


def _short(digest: str) -> int:
    try:
        return int(digest[:16], 16)
    except ValueError:
        return 0
