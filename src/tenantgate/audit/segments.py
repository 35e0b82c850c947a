"""Segments of the file spool: their format, read and written.

``spool/00000000000000000042.seg`` begins with entry 42 of all. Its first line holds each tenant's head at that time, so
that a restart reads one segment and not all. Then one line an entry: what the spool needs, a tab, the record. What a
crash leaves of a line is cut off, for the worker appends the entry again.
"""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenantgate.audit.core.ports import Entry, Head
from tenantgate.audit.journal_files import private
from tenantgate.tenant import TenantId

__all__ = [
    "Stored",
    "compact_json",
    "count_lines",
    "cut_torn_line",
    "entry_line",
    "first_line",
    "heads_of",
    "is_shed",
    "open_to_append",
    "read_segment",
    "stored",
    "sync_folder",
    "write_durably",
]


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry in a segment.

    Attributes:
        number: of all entries, from 0.
        end: where its line ends in the segment, in bytes.
    """

    number: int
    end: int
    tenant: TenantId
    id: str
    head: Head
    record: bytes


def stored(folder: Path, *, after: int = -1) -> Iterator[Stored]:
    """All entries of a spool's folder beyond the number `after`, in order, for another process that only reads."""
    paths = sorted(folder.glob("*.seg"))
    ends: list[int | None] = [int(path.stem) for path in paths[1:]]
    for path, end in itertools.zip_longest(paths, ends):
        if end is not None and end <= after + 1:
            continue
        try:
            yield from (entry for entry in read_segment(path) if entry.number > after)
        except FileNotFoundError:
            continue  # just made room for newer ones


def read_segment(
    path: Path, *, offset: int = 0, number: int | None = None, upto: int | None = None
) -> Iterator[Stored]:
    """The entries from `offset` on, whose first one is `number`; lines that aren't whole end it."""
    count = int(path.stem) if number is None else number
    with path.open("rb") as file:
        if offset == 0:
            offset = len(file.readline())
        else:
            file.seek(offset)
        for line in file:
            offset += len(line)
            if not line.endswith(b"\n") or (upto is not None and offset > upto):
                return
            meta, tab, record = line[:-1].partition(b"\t")
            try:
                if not tab:
                    raise ValueError  # noqa: TRY301
                found = json.loads(meta)
                entry = Stored(
                    count,
                    offset,
                    TenantId(found["t"]),
                    found["i"],
                    Head(found["s"], found["h"], found["p"]),
                    record,
                )
            except (ValueError, KeyError, TypeError):
                entry = None  # damaged on disk: the others are whole, and the chain shows what is missing
            count += 1
            if entry is not None:
                yield entry


def first_line(heads: Mapping[TenantId, Head], *, shed: bool = False) -> bytes:
    """The line that a segment begins with; `shed`: whether the contents were taken out of its entries."""
    known = {str(tenant): [head.seq, head.hash, head.position] for tenant, head in heads.items()}
    return compact_json({"heads": known, "shed": shed}) + b"\n"


def entry_line(entry: Entry) -> bytes:
    """An entry as a segment holds it."""
    meta = {"t": str(entry.tenant), "i": entry.id, "s": entry.seq, "h": entry.hash, "p": entry.position}
    return compact_json(meta) + b"\t" + entry.record + b"\n"


def heads_of(path: Path) -> dict[TenantId, Head] | None:
    """The heads in the first line; None if it is damaged."""
    with path.open("rb") as file:
        first = file.readline()
    try:
        found = json.loads(first)["heads"]
        return {TenantId(t): Head(*h) for t, h in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def is_shed(path: Path) -> bool:
    """Whether the contents were taken out of its entries."""
    with path.open("rb") as file:
        try:
            return bool(json.loads(file.readline()).get("shed"))
        except ValueError:
            return False


def count_lines(path: Path) -> int:
    """The number of whole lines."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def cut_torn_line(path: Path) -> None:
    """Take off what a crash left of a line."""
    size = path.stat().st_size
    with path.open("rb+") as file:
        at = size
        while at > 0:
            step = min(at, 1 << 16)
            file.seek(at - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                at = at - step + found + 1
                break
            at -= step
        if at < size:
            file.truncate(at)
            os.fsync(file.fileno())


def open_to_append(path: Path) -> io.FileIO:
    """The segment, to be appended to; made where it isn't there."""
    return io.FileIO(private(path, append=True), "ab")


def write_durably(file: io.FileIO, data: bytes) -> None:
    """Write and make it last; a short write, as on a disk that is nearly full, goes on until it fails."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names of its files to disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def compact_json(value: Any) -> bytes:
    """JSON without blanks, in ASCII."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii")
