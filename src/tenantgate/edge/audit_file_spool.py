"""The spool in files: segments of lines that are on the disk when `append` returns, and a cursor for each sink.

A segment is called after the index of its first record, counted over all tenants, and begins with a line that holds
all heads as they were: so the newest segment alone says where each chain ends, however much was dropped before.
A line is a checksum of the rest, the record's index, its position in the journal, and the record. What a crash leaves
of a last line fails its checksum and is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tenantgate.audit.chain import START, shed
from tenantgate.audit.gaps import Gap, GapReason, span
from tenantgate.audit.ports import Entry, Head, Queued
from tenantgate.edge.audit_journal import write_whole
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.kong import logs
from tenantgate.tenant import TenantId

__all__ = ["FileSpool"]

_log: Final = logging.getLogger("tenantgate.audit")
_SOFT: Final = 0.8  # of the bound in bytes: from there on the oldest lose their content
_PARTS: Final = 16  # of the bound: a segment's size, as records go by segments
_SEGMENT: Final = 8 << 20
_SMALLEST: Final = 64 << 10
_READ: Final = 1 << 18
_HEADER: Final = b"H"


@dataclass(slots=True)
class _Segment:
    """`end`: bytes that are known to be whole; `bare`: its records have lost their content."""

    path: Path
    first: int
    end: int = 0
    records: int = 0
    bare: bool = False
    version: int = 0  # grows when it is written anew, as its offsets change

    @property
    def last(self) -> int:
        return self.first + self.records - 1


@dataclass(frozen=True, slots=True)
class _Dropped:
    """A gap, told in the place of the record `index`."""

    index: int
    gap: Gap
    time: str

    def queued(self) -> Queued:
        record = self.gap.record(datetime.fromisoformat(self.time))
        return Queued(str(self.index), self.gap.tenant, self.gap.name, record)


@dataclass(slots=True)
class _Reader:
    """One sink: `acked` and `sending` are indexes; `places` the ends of records in their segments, by index."""

    acked: int = 0
    sending: int = 0
    places: dict[int, tuple[int, int, int]] = field(default_factory=dict)


class FileSpool:
    """A folder with segments, cursors and gaps; thread-safe, of one process (the worker holds a lock)."""

    def __init__(
        self,
        folder: Path,
        *,
        node: str,
        sinks: Sequence[str],
        max_records: int,
        max_bytes: int,
        read_only: bool = False,
    ) -> None:
        """`sinks`: those that a record has to reach before it may go.

        Raises:
            EdgeError: the folder can't be used.
        """
        self._folder, self._node, self._read_only = folder, node, read_only
        self._max_records, self._max_bytes = max_records, max_bytes
        self._segment_bytes = max(_SMALLEST, min(_SEGMENT, max_bytes // _PARTS))
        self._segment_records = max(1, max_records // _PARTS)
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self._heads: dict[TenantId, Head] = {}
        self._segments: list[_Segment] = []
        self._lost = 0  # records that lost something since the last `trim`
        self._fd: int | None = None
        with _guard("open"):
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._checkpoint = _number(self._load("checkpoint"))
            self._recover()
            self._dropped = [
                _Dropped(int(i), Gap.of_plain(g), str(t)) for i, t, g in self._load("gaps") or ()
            ]
            self._readers = {name: self._reader(name) for name in sinks}

    # -- the worker's side ------------------------------------------------------------------------------------

    def heads(self) -> Mapping[TenantId, Head]:
        """The last entry of each tenant that has one."""
        with self._lock:
            return dict(self._heads)

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep the entries; on the disk when it returns.

        Raises:
            EdgeError: nothing was kept.
        """
        with self._lock, _guard("append"):
            heads = dict(self._heads)
            lines, index = [], self._next
            for entry in entries:
                if entry.position <= heads.get(entry.tenant, START).position:
                    continue
                lines.append(_line(b"%d %d %b" % (index, entry.position, entry.record)))
                heads[entry.tenant] = Head(entry.seq, entry.hash, entry.position)
                index += 1
            if not lines:
                return
            active = self._segments[-1] if self._segments else None
            if (
                active is None
                or active.end >= self._segment_bytes
                or active.records >= self._segment_records
                or self._fd is None
            ):
                active = self._roll()
            self._write(active, b"".join(lines))
            active.records += len(lines)
            self._heads = heads
            self._lost += self._make_room()
        for listener in self._listeners:
            listener()

    def checkpoint(self) -> int | None:
        """The journal position up to which all is appended."""
        return self._checkpoint

    def set_checkpoint(self, position: int) -> None:
        """Note it.

        Raises:
            EdgeError: the disk refuses.
        """
        with _guard("checkpoint"):
            self._save("checkpoint", position)
        self._checkpoint = position

    def trim(self) -> int:
        """Drop what all sinks have; over the bound the oldest, content first."""
        with self._lock, _guard("trim"):
            done = self._delivered()
            while len(self._segments) > 1 and self._segments[0].last <= done:
                self._segments.pop(0).path.unlink(missing_ok=True)
            if self._dropped and self._dropped[0].index <= done:
                self._dropped = [d for d in self._dropped if d.index > done]
                self._save_gaps()
            lost, self._lost = self._lost + self._make_room(), 0
            return lost

    def on_append(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each append."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    # -- the sinks' side --------------------------------------------------------------------------------------

    def read(self, sink: str, limit: int) -> Sequence[Queued]:
        """The oldest records that this sink has not acknowledged.

        Until then the same again, also after a restart, so that a receiver may know a delivery by its key.
        """
        with self._lock, _guard("read"):
            reader = self._readers[sink]
            out = self._read(sink, reader, limit)
            if not out and reader.sending > reader.acked:  # what was being sent can't be read any more
                reader.sending = 0
                out = self._read(sink, reader, limit)
            return out

    def _read(self, sink: str, reader: _Reader, limit: int) -> list[Queued]:
        out = [d.queued() for d in self._dropped if d.index > reader.acked][:limit]
        again = reader.sending > reader.acked
        after = max([reader.acked, *(int(q.cursor) for q in out)])
        if len(out) < limit:
            last = reader.sending if again else self._next - 1
            for index, record, place in self._after(after, reader.places.get(after)):
                if index > last or len(out) >= limit:
                    break
                out.append(_queued(index, record))
                reader.places[index] = place
        if out and not again:
            reader.sending = int(out[-1].cursor)
            self._save_cursor(sink, durable=False)
        return out

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        """The sink has these, and all before.

        Raises:
            EdgeError: it can't be noted; the sink will get them again after a restart.
        """
        with self._lock, _guard("ack"):
            reader = self._readers[sink]
            reader.acked = max([reader.acked, *(int(q.cursor) for q in queued)])
            place = reader.places.get(reader.acked)
            reader.places = {reader.acked: place} if place else {}
            self._save_cursor(sink, durable=True)

    def backlog(self, sink: str) -> int:
        """How many records this sink has not acknowledged."""
        with self._lock:
            acked = self._readers[sink].acked
            kept = self._next - 1 - max(acked, self._first - 1)
            return max(0, kept) + sum(d.index > acked for d in self._dropped)

    # -- for a look -------------------------------------------------------------------------------------------

    def kept(self) -> Iterator[bytes]:
        """All records that are there, the oldest first, delivered ones and gaps among them."""
        for dropped in self._dropped:
            yield dropped.queued().record
        for _, record, _ in self._after(0, None):
            yield record

    # -- files ------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> int:
        return self._segments[-1].last + 1 if self._segments else 1

    @property
    def _first(self) -> int:
        return self._segments[0].first if self._segments else 1

    def _recover(self) -> None:
        found = []
        for path in self._folder.glob("*.seg") if self._folder.is_dir() else ():
            name, _, rest = path.name.partition(".")
            if name.isdecimal() and rest in ("seg", "bare.seg"):
                found.append(_Segment(path, int(name), path.stat().st_size, bare=rest != "seg"))
        found.sort(key=lambda s: (s.first, s.bare))
        for segment in found:
            if self._segments and self._segments[-1].first == segment.first:
                # Written anew without content, and then the crash: both hold the same records.
                gone = self._segments.pop()
                if not self._read_only:
                    gone.path.unlink()
            self._segments.append(segment)
        for one, following in zip(self._segments, self._segments[1:], strict=False):
            one.records = following.first - one.first
        self._recover_last()

    def _recover_last(self) -> None:
        """Cut off what a crash has left half written; and the heads, from the last header that can be read."""
        while self._segments:
            last = self._segments[-1]
            scan = _Scan(last)
            heads = scan.heads
            if scan.end == 0 or (heads is None and not scan.records):
                # A crash while it was begun: nothing can be in it that `append` has answered for.
                self._segments.pop()
                if not self._read_only:
                    last.path.unlink()
                continue
            if scan.end < last.end:
                logs.event(
                    _log, logging.WARNING, "audit spool: cut off a torn end", bytes=last.end - scan.end
                )
                if not self._read_only:
                    os.truncate(last.path, scan.end)
            last.end, last.records = scan.end, scan.records
            self._heads = heads if heads is not None else self._heads_before(len(self._segments) - 1)
            self._heads.update(scan.later)
            return

    def _heads_before(self, number: int) -> dict[TenantId, Head]:
        """The heads at a segment whose own first line is damaged."""
        logs.event(_log, logging.ERROR, "audit spool: a segment's first line is damaged")
        for earlier in range(number - 1, -1, -1):
            scan = _Scan(self._segments[earlier])
            if scan.heads is not None:
                heads = dict(scan.heads)
                for segment in self._segments[earlier:number]:
                    heads.update(_Scan(segment).later)
                return heads
        return {}

    def _roll(self) -> _Segment:
        """Begin the next segment."""
        self.close()
        if self._segments and not self._segments[-1].records:
            self._segments.pop()  # begun, then the first write failed: it has the new one's name
        segment = _Segment(self._folder / f"{self._next:020d}.seg", self._next)
        self._fd = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        heads = {str(t): [h.seq, h.hash, h.position] for t, h in self._heads.items()}
        try:
            self._write(segment, _line(_HEADER + json.dumps({"node": self._node, "heads": heads}).encode()))
            _sync_folder(self._folder)
        except OSError:
            self.close()
            segment.path.unlink(missing_ok=True)
            raise
        self._segments.append(segment)
        return segment

    def _write(self, segment: _Segment, data: bytes) -> None:
        fd = self._fd
        if fd is None:
            raise OSError(errno.EBADF, "closed")
        try:
            at = segment.end
            view = memoryview(data)
            while view:
                written = os.pwrite(fd, view, at)
                view, at = view[written:], at + written
            os.fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, segment.end)
            self.close()  # after a failed fsync the kernel may have dropped pages: the next append begins anew
            raise
        segment.end += len(data)

    def _after(
        self, index: int, place: tuple[int, int, int] | None
    ) -> Iterator[tuple[int, bytes, tuple[int, int, int]]]:
        """(index, record, place of its end) of the records after `index`; `place` is where that one ends."""
        for segment in list(self._segments):
            if segment.last <= index:
                continue
            offset = 0
            if place is not None and place[:2] == (segment.first, segment.version):
                offset = place[2]
            for at, body in _lines(segment, offset):
                parsed = _parse(body)
                if parsed is not None and parsed[0] > index:
                    yield parsed[0], parsed[2], (segment.first, segment.version, at)

    # -- the bound --------------------------------------------------------------------------------------------

    def _delivered(self) -> int:
        """The last index that all sinks have; without a sink nothing is delivered."""
        return min((r.acked for r in self._readers.values()), default=0)

    def _make_room(self) -> int:
        lost = 0
        while len(self._segments) > 1 and (excess := self._excess()):
            done = self._delivered()
            oldest = self._segments[0]
            if oldest.last <= done:
                self._segments.pop(0).path.unlink(missing_ok=True)
            elif excess == "content":
                full = next((s for s in self._segments[:-1] if not s.bare), None)
                if full is None:
                    break
                lost += self._shed(full)
            else:
                lost += self._drop(oldest, done)
        return lost

    def _excess(self) -> str:
        size = sum(s.end for s in self._segments)
        records = self._next - self._first
        if records > self._max_records:
            return "records"
        if size > self._max_bytes and all(s.bare for s in self._segments[:-1]):
            return "records"
        return "content" if size > self._max_bytes * _SOFT else ""

    def _shed(self, segment: _Segment) -> int:
        """Write a segment anew, without content."""
        lines, records = [], 0
        for _, body in _lines(segment, 0):
            parsed = _parse(body)
            if parsed is not None:
                records += 1
                body = b"%d %d %b" % (parsed[0], parsed[1], shed(parsed[2]))  # noqa: PLW2901
            lines.append(_line(body))
        data = b"".join(lines)
        bare = segment.path.with_name(f"{segment.first:020d}.bare.seg")
        write_whole(bare, data)
        if bare.stat().st_size != len(data):
            bare.unlink()
            raise OSError(errno.ENOSPC, "short write")
        segment.path.unlink(missing_ok=True)
        segment.path, segment.end, segment.bare = bare, len(data), True
        segment.version += 1
        return records

    def _drop(self, segment: _Segment, done: int) -> int:
        """Drop a segment, and note what is to be told of it."""
        found: dict[tuple[TenantId, str], _Dropped] = {}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lost = 0
        for _, body in _lines(segment, 0):
            parsed = _parse(body)
            if parsed is None or parsed[0] <= done:
                continue
            place = span(parsed[2])
            if place is None:
                continue
            lost += 1
            node, seq, prev, digest = place
            tenant = _queued(parsed[0], parsed[2]).tenant
            gap = Gap(tenant, node, seq, seq, prev, digest, GapReason.BOUND)
            before = found.get((tenant, node))
            joined = before.gap.joined(gap) if before else None
            found[tenant, node] = _Dropped(parsed[0], joined or gap, now)
        for dropped in sorted(found.values(), key=lambda d: d.index):
            self._note(dropped)
        self._save_gaps()
        self._segments.remove(segment)
        segment.path.unlink(missing_ok=True)
        return lost

    def _note(self, dropped: _Dropped) -> None:
        for number, known in enumerate(self._dropped):
            joined = known.gap.joined(dropped.gap)
            if joined is not None:
                del self._dropped[number]
                dropped = _Dropped(dropped.index, joined, dropped.time)
                break
        self._dropped.append(dropped)

    # -- small files ------------------------------------------------------------------------------------------

    def _reader(self, sink: str) -> _Reader:
        found = self._load(f"{sink}.cursor")
        try:
            reader = _Reader(int(found["acked"]), int(found["sending"]))
        except (TypeError, KeyError, ValueError):
            return _Reader()
        # A cursor beyond the end is that of a spool that is gone.
        return reader if reader.acked < self._next else _Reader()

    def _save_cursor(self, sink: str, *, durable: bool) -> None:
        reader = self._readers[sink]
        self._save(f"{sink}.cursor", {"acked": reader.acked, "sending": reader.sending}, durable=durable)

    def _save_gaps(self) -> None:
        self._save("gaps", [[d.index, d.time, d.gap.plain()] for d in self._dropped])

    def _save(self, name: str, value: Any, *, durable: bool = True) -> None:
        path, data = self._folder / f"{name}.json", json.dumps(value).encode()
        if durable:
            write_whole(path, data)
        else:
            draft = path.with_suffix(".draft")
            draft.write_bytes(data)
            draft.replace(path)

    def _load(self, name: str) -> Any:
        try:
            return json.loads((self._folder / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None


class _Scan:
    """What is in a segment: its header's heads, those of its records, and where its whole lines end."""

    def __init__(self, segment: _Segment) -> None:
        self.heads: dict[TenantId, Head] | None = None
        self.later: dict[TenantId, Head] = {}
        self.end = self.records = 0
        for at, body in _lines(segment, 0):
            parsed = _parse(body)
            if parsed is not None:
                self.end, self.records = at, parsed[0] - segment.first + 1
                place = span(parsed[2])
                if place is not None:
                    tenant = _queued(parsed[0], parsed[2]).tenant
                    self.later[tenant] = Head(place[1], place[3], parsed[1])
            elif body.startswith(_HEADER):
                self.end = at
                with contextlib.suppress(ValueError, KeyError, TypeError, ConfigError):
                    heads = json.loads(body[len(_HEADER) :])["heads"]
                    self.heads = {TenantId(t): Head(int(s), str(h), int(p)) for t, (s, h, p) in heads.items()}


def _line(body: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _lines(segment: _Segment, offset: int) -> Iterator[tuple[int, bytes]]:
    """(where it ends, its body) of each line whose checksum is right, up to the segment's known end."""
    try:
        fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # dropped while another process looks on
    try:
        rest, at = b"", offset
        while at < segment.end:
            data = os.pread(fd, min(_READ, segment.end - at), at)
            if not data:
                return
            at += len(data)
            *whole, rest = (rest + data).split(b"\n")
            end = at - len(rest) - sum(len(w) + 1 for w in whole)
            for line in whole:
                end += len(line) + 1
                if _sound(line):
                    yield end, line[9:]
    finally:
        os.close(fd)


def _sound(line: bytes) -> bool:
    try:
        return len(line) > 9 and int(line[:8], 16) == zlib.crc32(line[9:])
    except ValueError:
        return False


def _parse(body: bytes) -> tuple[int, int, bytes] | None:
    """(index, position, record), or None for a header."""
    if body.startswith(_HEADER):
        return None
    index, position, record = body.split(b" ", 2)
    return int(index), int(position), record


def _queued(index: int, record: bytes) -> Queued:
    found = json.loads(record)
    return Queued(str(index), TenantId(found["tenant"]), str(found["id"]), record)


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _guard(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise EdgeError(f"audit spool: {what}: {name}") from None
