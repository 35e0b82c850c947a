"""Intake of the audit worker: Kong's journal and the plugin servers' contents, joined by request.

Lines come out in the journal's order, each with its content or with the reason why it has none.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from tenantgate.audit.channel import Channel
from tenantgate.audit.core.event import parse_event
from tenantgate.audit.core.join import Arrived, Joined, Joiner
from tenantgate.audit.core.journal import JournalLine, parse_line, split_records
from tenantgate.audit.core.record import Outcome, outcome_of
from tenantgate.audit.core.redaction import ContentState
from tenantgate.audit.core.routes import Routes, RouteSettings
from tenantgate.audit.journal_files import JournalTail, Line
from tenantgate.audit.messages import Content, LeftOut, Message, Pipeline, Settings
from tenantgate.telemetry import logs, metrics

__all__ = ["Intake"]

_log: Final = logging.getLogger("tenantgate.audit")

_READ: Final = 1 << 20  # bytes of the journal in one go
_MOST_LINES: Final = 10_000  # that wait for their content
_BEHIND: Final = 16 << 20  # unread bytes of the journal beyond which content is left out
_GRACE_S: Final = 0.05  # of other work between two looks at the channel

_unreadable: Final = metrics.counter(
    "tenantgate_audit_journal_unreadable_total", "Lines of the journal that are no log records."
)
_dropped: Final = metrics.counter(
    "tenantgate_audit_content_dropped_total",
    "Content that was given up in the worker, by reason.",
    ("reason",),
)
_waiting: Final = metrics.gauge("tenantgate_audit_lines_waiting", "Lines that wait for their content.")
_unread: Final = metrics.gauge("tenantgate_audit_journal_unread_bytes", "Bytes of the journal not yet read.")


class Intake:
    """Joins the lines of a journal with the contents that come over a channel. For one thread."""

    def __init__(
        self,
        channel: Channel,
        journal: JournalTail,
        joiner: Joiner,
        routes: Routes,
        *,
        on_settings: Callable[[RouteSettings], None],
        on_pipeline: Callable[[Pipeline], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_settings` and `on_pipeline` are called with settings and configurations that came."""
        self._channel, self._journal, self._joiner, self._routes = channel, journal, joiner, routes
        self._on_settings, self._on_pipeline, self._clock = on_settings, on_pipeline, clock
        self._absent_s = 0.0
        self._counted: Counter[str] = Counter()

    def waited(self) -> float:
        """The clock by which lines wait; it stands while other work keeps us from the channel."""
        return self._clock() - self._absent_s

    def absent(self, seconds: float) -> None:
        """Count work that kept us from the channel."""
        self._absent_s += max(0.0, seconds - _GRACE_S)

    # -- contents -----------------------------------------------------------------------------------------

    def listen(self, timeout_s: float) -> None:
        """Take the messages that are there, or come within `timeout_s`."""
        for message in self._channel.receive(timeout_s):
            try:
                self.take(message)
            except Exception as error:  # noqa: BLE001 - one content less must not stop the records
                _dropped.inc(reason="error")
                logs.event(_log, logging.ERROR, "a content could not be taken", **logs.describe(error))

    def take(self, message: Message) -> None:
        """Take one message."""
        match message:
            case Settings():
                self._on_settings(self._routes.add(message.policy, message.route_id, message.values))
            case Content():
                self._add(message.request_id, Arrived(message.policy, message.raw))
            case LeftOut():
                self._add(message.request_id, Arrived(message.policy, None))
            case Pipeline():
                self._on_pipeline(message)

    def contents(self) -> list[tuple[str, Arrived]]:
        """The contents that came and have no record yet, by request id."""
        return self._joiner.contents()

    def add_contents(self, contents: Iterable[tuple[str, Arrived]]) -> None:
        """Take over what another intake has left."""
        for request_id, arrived in contents:
            self._add(request_id, arrived)

    def _add(self, request_id: str, arrived: Arrived) -> None:
        self._joiner.add_content(request_id, arrived, self.waited())

    # -- lines --------------------------------------------------------------------------------------------

    def read(self, now: float) -> None:
        """Take further lines of the journal, if there is room for them.

        Raises:
            OSError: the file system refused, as with a full disk; nothing is skipped.
        """
        if self._has_room():
            for line in self._journal.read(_READ):
                self._take_line(line, now)

    def ready(self, now: float, *, at_most: int, flush: bool = False) -> list[Joined]:
        """The next lines that have their content, or wait no more; with `flush` none waits any longer."""
        return self._joiner.take(now, self._missing, at_most=at_most, flush=flush)

    def pause_s(self, longest_s: float, *, reading: bool) -> float:
        """Seconds in which nothing can be done but wait for content; `reading`: whether lines may be read now."""
        if reading and self._journal.unread() and self._has_room():
            return 0.0
        deadline = self._joiner.next_deadline()
        return longest_s if deadline is None else min(longest_s, max(0.0, deadline - self.waited()))

    @property
    def behind(self) -> bool:
        """Whether so much of the journal is unread that records go without their content."""
        return self._journal.unread() > _BEHIND

    @property
    def busy(self) -> bool:
        """Whether more is there, of lines or of contents, than was taken in one go."""
        return self._channel.more or (self._has_room() and self._journal.unread() >= _READ)

    @property
    def empty(self) -> bool:
        """Whether no line waits and none is unread."""
        return not len(self._joiner) and not self._journal.unread()

    def report(self) -> None:
        """Show what waits, and count what the joiner gave up."""
        _waiting.set(len(self._joiner))
        _unread.set(self._journal.unread())
        for reason, total in (
            ("late", self._joiner.late),
            ("queue_full", self._joiner.shed),
            ("no_line", self._joiner.orphaned),
        ):
            _dropped.inc(total - self._counted[reason], reason=reason)
            self._counted[reason] = total

    def _has_room(self) -> bool:
        return len(self._joiner) < _MOST_LINES

    def _take_line(self, line: Line, now: float) -> None:
        """Add the records of one line, usually one."""
        if (event := parse_event(line.raw)) is not None:
            self._joiner.add_event(line.start, line.end, event, now)
            return
        parsed = parse_line(line.raw)
        if parsed is not None or not line.raw.strip():
            self._add_line(line.start, line.end, parsed, now)
            return
        pieces, start = split_records(line.raw), line.start
        for i, piece in enumerate(pieces):
            end = line.end if i == len(pieces) - 1 else start + len(piece)
            record = parse_line(piece)
            if record is None and piece.strip():
                _unreadable.inc()
            self._add_line(start, end, record, now)
            start = end

    def _add_line(self, start: int, end: int, line: JournalLine | None, now: float) -> None:
        if line is not None:
            self._routes.note(line)
        self._joiner.add_line(start, end, line, now, wait=self._routes.expects_content(line))

    def _missing(self, line: JournalLine) -> ContentState:
        """Why a line has no content."""
        settings = self._routes.of_line(line)
        if settings is not None and settings.config.content == "off":
            return ContentState.OFF
        if outcome_of(line) in (Outcome.UNAUTHORIZED, Outcome.RATE_LIMITED):
            return ContentState.NONE  # refused by plugins that come before ours
        ended = (line.started_ms + line.latencies.get("request", 0.0)) / 1000
        lost = ended < self._channel.changed_at or self._channel.closed
        return ContentState.LOST if lost else ContentState.LATE
