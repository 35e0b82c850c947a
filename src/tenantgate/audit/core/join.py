"""Join of journal lines with their contents by the request's id, in the order of the journal.

Either may come first. A line waits for its content for a while, then goes on without it; so
no record depends on a process that died. Content is bounded in bytes and age: it is given up first, a line never.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.event import Event
from tenantgate.audit.core.journal import JournalLine
from tenantgate.audit.core.redaction import ContentState

__all__ = ["Arrived", "Joined", "Joiner"]

_RECENT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request's content as it came from the plugin, under the settings called `policy`; None: it was shed."""

    policy: str
    raw: RawContent | None = field(repr=False)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        raw = self.raw
        if raw is None:
            return 100
        return 500 + len(raw.body or b"") + len(raw.reply or b"") + sum(map(len, raw.headers.values()))


@dataclass(slots=True)
class Joined:
    """A line of the journal with its content, or with the reason why it has none.

    Attributes:
        start, end: where the line lies in the journal.
        line: None for one that can't be read, or is an event.
        content: None where there is none; then `missing` says why.
    """

    start: int
    end: int
    line: JournalLine | None
    deadline: float
    content: Arrived | None = None
    missing: ContentState = ContentState.LATE
    event: Event | None = None


class Joiner:
    """Lines wait here for their content, and content for its line. For one thread; times are on one clock."""

    def __init__(self, *, wait_s: float, max_bytes: int, age_s: float = 60.0) -> None:
        self._wait_s, self._max_bytes, self._age_s = wait_s, max_bytes, age_s
        self._lines: deque[Joined] = deque()
        self._waiting: dict[str, Joined] = {}
        self._contents: OrderedDict[str, tuple[float, Arrived]] = OrderedDict()
        self._bytes = 0
        self._gone: OrderedDict[str, None] = OrderedDict()
        self.late = self.shed = self.orphaned = 0

    def __len__(self) -> int:
        """Number of lines that wait."""
        return len(self._lines)

    @property
    def bytes(self) -> int:
        """Bytes of content that wait for their lines."""
        return self._bytes

    def add_line(
        self, start: int, end: int, line: JournalLine | None, now: float, *, wait: bool = True
    ) -> None:
        """A line of the journal; `wait` is False where no content will come."""
        joined = Joined(start, end, line, now + self._wait_s if wait and line else now)
        self._lines.append(joined)
        if line is None or not line.request_id:
            joined.deadline = now
            return
        found = self._contents.pop(line.request_id, None)
        if found is not None:
            self._bytes -= found[1].size
            joined.content = found[1]
        elif wait:
            self._waiting[line.request_id] = joined

    def add_event(self, start: int, end: int, event: Event, now: float) -> None:
        """A line of the journal that is an event, which waits for nothing."""
        self._lines.append(Joined(start, end, None, now, event=event))

    def add_content(self, identifier: str, arrived: Arrived, now: float) -> None:
        """The content of the request `identifier`."""
        joined = self._waiting.pop(identifier, None)
        if joined is not None:
            joined.content = arrived
            return
        if identifier in self._gone:
            self.late += 1
            return
        if identifier in self._contents:
            return
        self._contents[identifier] = (now, arrived)
        self._bytes += arrived.size
        self._bound(now)

    def take(
        self,
        now: float,
        missing: Callable[[JournalLine], ContentState],
        *,
        at_most: int = 1000,
        flush: bool = False,
    ) -> list[Joined]:
        """The next lines that wait no more, in the journal's order; with `flush` none waits any longer.

        `missing` says why a line has no content.
        """
        out: list[Joined] = []
        while self._lines and len(out) < at_most:
            first = self._lines[0]
            if first.content is None and now < first.deadline and not flush:
                break
            out.append(self._lines.popleft())
            if first.content is None and first.line is not None:
                first.missing = missing(first.line)
                if self._waiting.pop(first.line.request_id, None) is not None:
                    self._gone[first.line.request_id] = None
                    if len(self._gone) > _RECENT:
                        self._gone.popitem(last=False)
        self._bound(now)
        return out

    def contents(self) -> list[tuple[str, Arrived]]:
        """All contents that were not given out yet, by request id."""
        joined = [(j.line.request_id, j.content) for j in self._lines if j.line and j.content]
        return [*joined, *((identifier, arrived) for identifier, (_, arrived) in self._contents.items())]

    def next_deadline(self) -> float | None:
        """The end of the first line's wait; None without one."""
        return self._lines[0].deadline if self._lines else None

    def _bound(self, now: float) -> None:
        while self._contents:
            identifier, (since, arrived) = next(iter(self._contents.items()))
            if now - since > self._age_s:
                self.orphaned += 1
            elif self._bytes > self._max_bytes:
                self.shed += 1
                if arrived.raw is not None:
                    # The line will learn why; a mark takes next to nothing.
                    mark = Arrived(arrived.policy, None)
                    self._bytes += mark.size - arrived.size
                    self._contents[identifier] = (since, mark)
                    self._contents.move_to_end(identifier)
                    continue
            else:
                return
            del self._contents[identifier]
            self._bytes -= arrived.size
