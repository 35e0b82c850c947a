"""The spool in files of the node's own: segments that only grow, a cursor for each sink.

An append is one write and one ``fsync`` at the end of the last segment (`tenantgate.audit.segments` has the format).

Room: what all sinks have is kept for a day, for `tenantgate audit replay`, but goes first when room is short. Then the
oldest entries lose their content, which the chain allows for (`tenantgate.audit.core.chain.shed`). Only then whole
segments go, and `dropped` says which; those numbers stay in `gaps` until a record reports them.
"""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tenantgate.audit.core.chain import Numbers, merged, numbers_of, shed
from tenantgate.audit.core.ports import Entry, Gap, Head, Queued
from tenantgate.audit.journal_files import private, write_whole
from tenantgate.audit.segments import (
    compact_json,
    count_lines,
    cut_torn_line,
    entry_line,
    first_line,
    heads_of,
    is_shed,
    open_to_append,
    read_segment,
    sync_folder,
    write_durably,
)
from tenantgate.errors import EdgeError
from tenantgate.telemetry import logs
from tenantgate.tenant import TenantId

__all__ = ["FileSpool"]

_log: Final = logging.getLogger("tenantgate.audit")
_SEGMENT_BYTES: Final = 16 << 20
_READ_BYTES: Final = 8 << 20  # of records in one read, unless the first is larger
_SEGMENT_ENTRIES: Final = 50_000
_KEEP_S: Final = 86_400.0  # what all sinks have, for a replay


@dataclass(slots=True)
class _Segment:
    start: int
    path: Path
    count: int
    size: int
    shed: bool = False


class FileSpool:
    """`tenantgate.audit.core.ports.Spool` in a folder; one process at a time, thread-safe.

    Raises (all methods that write):
        EdgeError: the file system refused.
    """

    taken_over = False  # a folder has one gateway

    def __init__(
        self,
        folder: Path,
        sinks: Sequence[str],
        *,
        max_records: int,
        max_bytes: int,
        segment_bytes: int = _SEGMENT_BYTES,
        segment_entries: int = _SEGMENT_ENTRIES,
        keep_s: float = _KEEP_S,
    ) -> None:
        self._out: io.FileIO | None = None
        self._folder, self._sinks = folder, tuple(sinks)
        self._max_records, self._max_bytes = max_records, max_bytes
        self._segment_bytes, self._segment_entries, self._keep_s = segment_bytes, segment_entries, keep_s
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self._places: dict[str, tuple[int, int, int]] = {}  # sink → number, segment's start, offset
        self._heads: dict[TenantId, Head] = {}
        self._segments: list[_Segment] = []
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._recover()
        except OSError as error:
            raise _failed(error) from None
        self._cursors = {sink: self._read_cursor(sink) for sink in self._sinks}
        for sink, number in self._cursors.items():
            if number > self._end():  # somebody has removed segments: entries get their numbers anew
                self._cursors[sink] = self._end()
                self._put(f"cursor.{sink}", str(self._end()).encode())
        self._gaps = self._read_gaps()

    def close(self) -> None:
        """Let go of the files."""
        if self._out is not None:
            self._out.close()
            self._out = None

    def __del__(self) -> None:
        self.close()

    # -- what was there before ----------------------------------------------------------------------------

    def _recover(self) -> None:
        for path in sorted(self._folder.glob("*.seg")):
            self._segments.append(_Segment(int(path.stem), path, 0, path.stat().st_size, is_shed(path)))
        for segment, following in zip(self._segments, self._segments[1:], strict=False):
            segment.count = following.start - segment.start
        if not self._segments:
            self._begin(0)
            return
        last = self._segments[-1]
        cut_torn_line(last.path)
        if (
            last.path.stat().st_size == 0
        ):  # a crash before its first line was whole: the one before knows the heads
            last.path.unlink()
            self._segments.pop()
            if self._segments:
                self._recover_heads(self._segments[-1])
            self._begin(last.start)
            return
        self._recover_heads(last)
        self._out = open_to_append(last.path)

    def _recover_heads(self, segment: _Segment) -> None:
        heads = heads_of(segment.path)
        # Where its first line is damaged, all segments together know what it said, or most of it.
        sources = [segment] if heads is not None else self._segments
        self._heads = heads or {}
        for source in sources:
            for entry in read_segment(source.path):
                self._heads[entry.tenant] = entry.head
        segment.count = max(0, count_lines(segment.path) - 1)
        segment.size = segment.path.stat().st_size

    def _begin(self, start: int) -> None:
        path = self._folder / f"{start:020d}.seg"
        line = first_line(self._heads)
        out = open_to_append(path)  # after a failed write the end is where it was
        try:
            write_durably(out, line)
            sync_folder(self._folder)
        except OSError:
            out.close()
            path.unlink(missing_ok=True)
            raise
        self.close()
        self._out = out
        self._segments.append(_Segment(start, path, 0, len(line)))

    def _read_cursor(self, sink: str) -> int:
        try:
            return int((self._folder / f"cursor.{sink}").read_bytes())
        except (OSError, ValueError):
            return 0

    def _read_gaps(self) -> dict[TenantId, Numbers]:
        try:
            found = json.loads((self._folder / "gaps").read_bytes())
            return {TenantId(tenant): merged(numbers) for tenant, numbers in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    # -- writing ------------------------------------------------------------------------------------------

    def heads(self) -> Mapping[TenantId, Head]:
        """The last entry of each tenant that has one."""
        with self._lock:
            return dict(self._heads)

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep the entries that are beyond their tenant's head; on disk when it returns."""
        with self._lock:
            heads = dict(self._heads)
            lines = []
            for entry in entries:
                known = heads.get(entry.tenant)
                if known is None or entry.position > known.position:
                    heads[entry.tenant] = Head(entry.seq, entry.hash, entry.position)
                    lines.append(entry_line(entry))
            if not lines:
                return
            try:
                self._write(lines)
            except OSError as error:
                raise _failed(error) from None
            self._heads = heads
        for listener in self._listeners:
            listener()

    def _write(self, lines: Sequence[bytes]) -> None:
        last = self._segments[-1]
        if last.size >= self._segment_bytes or last.count >= self._segment_entries:
            self._begin(last.start + last.count)
            last = self._segments[-1]
        assert self._out is not None  # noqa: S101 - from the beginning on
        data = b"".join(lines)
        try:
            write_durably(self._out, data)
        except OSError:
            os.truncate(last.path, last.size)  # the same lines will come again
            raise
        last.count += len(lines)
        last.size += len(data)

    @staticmethod
    def _sync(file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())

    def checkpoint(self) -> int | None:
        """The journal position up to which all is appended."""
        try:
            return int((self._folder / "checkpoint").read_bytes())
        except (OSError, ValueError):
            return None

    def set_checkpoint(self, position: int) -> None:
        """Note it."""
        self._put("checkpoint", str(position).encode())

    def _put(self, name: str, data: bytes) -> None:
        try:
            write_whole(self._folder / name, data)
        except OSError as error:
            raise _failed(error) from None

    # -- reading ------------------------------------------------------------------------------------------

    def listen(self, appended: Callable[[], None]) -> None:
        """Call `appended` after each append, from the appending thread."""
        self._listeners.append(appended)

    def read(self, sink: str, limit: int) -> Sequence[Queued]:
        """The oldest entries that this sink has not acknowledged."""
        with self._lock:
            self._replayed(sink)
            number, start, offset = self._place(sink)
            out: list[Queued] = []
            size = 0
            for segment in self._segments:
                if segment.start < start or len(out) >= limit or size >= _READ_BYTES:
                    continue
                at = offset if segment.start == start else 0
                first = number if segment.start == start else segment.start
                for entry in read_segment(segment.path, offset=at, number=first, upto=segment.size):
                    cursor = f"{entry.number + 1}:{segment.start}:{entry.end}"
                    size += len(entry.record)
                    if out and size > _READ_BYTES:
                        break
                    out.append(Queued(cursor, entry.tenant, entry.id, entry.record))
                    if len(out) >= limit:
                        break
            return out

    def _place(self, sink: str) -> tuple[int, int, int]:
        """The next entry for a sink: its number, its segment's start, and its offset (0: not known)."""
        cursor = max(self._cursors.get(sink, 0), self._segments[0].start)
        known = self._places.get(sink)
        if known is not None and known[0] == cursor:
            return known
        segment = next(s for s in reversed(self._segments) if s.start <= cursor)
        offset, number = 0, segment.start
        for entry in read_segment(segment.path, upto=segment.size):
            if number >= cursor:
                break
            number, offset = entry.number + 1, entry.end
        return number, segment.start, offset

    def _replayed(self, sink: str) -> None:
        """Take up the wish of `tenantgate audit replay`, which another process left."""
        wish = self._folder / f"replay.{sink}"
        try:
            number = int(wish.read_bytes())
        except (OSError, ValueError):
            return
        self._cursors[sink] = max(0, min(number, self._end()))
        self._put(f"cursor.{sink}", str(self._cursors[sink]).encode())
        wish.unlink(missing_ok=True)

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        """The sink has these."""
        if not queued:
            return
        with self._lock:
            number, start, end = (int(part) for part in queued[-1].cursor.split(":"))
            self._cursors[sink] = number
            self._places[sink] = (number, start, end)
            self._put(f"cursor.{sink}", str(number).encode())

    def backlog(self, sink: str) -> int:
        """Number of entries that this sink has not acknowledged."""
        with self._lock:
            return self._end() - max(self._cursors.get(sink, 0), self._segments[0].start)

    def _end(self) -> int:
        last = self._segments[-1]
        return last.start + last.count

    # -- room ---------------------------------------------------------------------------------------------

    def trim(self) -> int:
        """Make room; how many entries that a sink still waits for lost their content, or were dropped."""
        with self._lock:
            try:
                return self._trim()
            except OSError as error:
                raise _failed(error) from None

    def _trim(self) -> int:
        done = min((self._cursors[s] for s in self._sinks), default=0)
        now = time.time()
        while len(self._segments) > 1:
            first = self._segments[0]
            delivered = bool(self._sinks) and first.start + first.count <= done
            old = now - first.path.stat().st_mtime > self._keep_s
            if not (delivered and (old or self._over())):
                break
            self._drop(first)
        lost = 0
        for segment in self._segments[:-1]:
            if self._max_bytes >= self._bytes():
                break
            if not segment.shed:
                lost += self._shed(segment)
        while len(self._segments) > 1 and self._over():
            first = self._segments[0]
            lost += first.start + first.count - max(first.start, min(done, first.start + first.count))
            self._give_up(first, done)
        return lost

    def _over(self) -> bool:
        entries = self._end() - self._segments[0].start
        return entries > self._max_records or self._bytes() > self._max_bytes

    def _bytes(self) -> int:
        return sum(s.size for s in self._segments)

    def _drop(self, segment: _Segment) -> None:
        segment.path.unlink(missing_ok=True)
        self._segments.remove(segment)

    def _shed(self, segment: _Segment) -> int:
        """Take the contents out of a segment; the entries stay."""
        new = segment.path.with_suffix(".new")
        try:
            with os.fdopen(private(new), "wb") as out:
                out.write(first_line(heads_of(segment.path) or {}, shed=True))
                for e in read_segment(segment.path):
                    entry = Entry(e.tenant, e.id, e.head.seq, e.head.hash, e.head.position, shed(e.record))
                    out.write(entry_line(entry))
                self._sync(out)
            new.replace(segment.path)
        except OSError:
            new.unlink(missing_ok=True)  # room is short
            raise
        segment.size, segment.shed = segment.path.stat().st_size, True
        self._places = {s: p for s, p in self._places.items() if p[1] != segment.start}
        logs.event(_log, logging.WARNING, "the spool is full: contents were dropped", records=segment.count)
        return segment.count

    def _give_up(self, segment: _Segment, done: int) -> None:
        """Drop a segment of which sinks still want what comes from the number `done` on, and note that."""
        seen: dict[TenantId, list[Sequence[int]]] = {}
        for e in read_segment(segment.path):
            if e.number >= done:
                seen.setdefault(e.tenant, []).append((e.head.seq, e.head.seq))
                if b'"gap":' in e.record:  # what it reports has to be reported again
                    seen[e.tenant] += numbers_of(json.loads(e.record))
        numbers = {tenant: merged(spans) for tenant, spans in seen.items()}
        for tenant, spans in numbers.items():
            self._gaps[tenant] = merged([*self._gaps.get(tenant, ()), *spans])
        try:
            self._keep_gaps()
        except EdgeError:  # a full disk: the segment is what has to go first
            self._drop(segment)
            self._keep_gaps()
        else:
            self._drop(segment)
        line = {"time": int(time.time()), "records": segment.count, "numbers": _plain(numbers)}
        with os.fdopen(private(self._folder / "dropped", append=True), "ab") as out:
            out.write(compact_json(line) + b"\n")
            self._sync(out)
        logs.event(_log, logging.ERROR, "the spool is full: records were dropped", records=segment.count)

    def _keep_gaps(self) -> None:
        self._put("gaps", compact_json(_plain(self._gaps)))

    def gaps(self) -> Sequence[Gap]:
        """Entries that `trim` had to drop and no record reports yet."""
        with self._lock:
            return [Gap(tenant, numbers) for tenant, numbers in self._gaps.items()]

    def reported(self, gaps: Sequence[Gap]) -> None:
        """Records report these now."""
        with self._lock:
            for gap in gaps:
                left = tuple(s for s in self._gaps.get(gap.tenant, ()) if s not in gap.numbers)
                if left:
                    self._gaps[gap.tenant] = left
                else:
                    self._gaps.pop(gap.tenant, None)
            self._keep_gaps()


def _plain(numbers: Mapping[TenantId, Numbers]) -> dict[str, Numbers]:
    return {str(tenant): spans for tenant, spans in numbers.items()}


def _failed(error: OSError) -> EdgeError:
    return EdgeError(f"spool: {error.strerror or type(error).__name__}")
