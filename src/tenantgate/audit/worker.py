"""The audit log's own process: reads Kong's journal, joins content to it, redacts, links, spools, delivers.

A child of the plugin server, on one end of a socket pair over which content comes. When the other end closes (the
server has ended) it reads the journal to its end, spools, gives the sinks a moment, and ends. One at a time works on a
state folder, by a lock; a second one waits.

Exactly once into the spool: an entry carries its line's position, the spool knows each tenant's last one, and lines at
or before that are skipped after a restart. So a worker may be killed at any moment.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgpack

from tenantgate.audit.config import AuditConfig, PipelineConfig
from tenantgate.audit.core.chain import START, link
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.join import Arrived, Joined, Joiner
from tenantgate.audit.core.journal import JournalLine, parse_line, split_records
from tenantgate.audit.core.ports import ConflictError, Entry, Gap, Head, Spool
from tenantgate.audit.core.record import Outcome, Terms, build, gap, outcome_of
from tenantgate.audit.core.redaction import ContentState, OvertimeError, Policy, Redacted, absent, redact
from tenantgate.audit.journal_files import JournalTail, Line, private
from tenantgate.errors import EdgeError
from tenantgate.fields import parse
from tenantgate.pii.core.ports import NameFinder
from tenantgate.telemetry import logs, metrics
from tenantgate.tenant import TenantId

__all__ = ["Deliverer", "Worker", "main", "node_name"]

_log: Final = logging.getLogger("tenantgate.audit")

_TICK_S: Final = 0.05
_BATCH: Final = 500  # records in one append
_FEW: Final = 20
_MAKE_S: Final = 0.5  # of work before what is done goes into the spool
_READ: Final = 1 << 20  # bytes of the journal in one go
_LISTEN: Final = 1 << 18  # bytes of content in one go
_MOST_LINES: Final = 10_000  # that wait for their content
_BEHIND: Final = 16 << 20  # unread bytes of the journal beyond which content is left out
_CHECKPOINT_S: Final = 1.0
_UPKEEP_S: Final = 5.0
_FLUSH_S: Final = 5.0  # for the journal, at the end
_DELIVER_S: Final = 2.0  # then for the sinks: what they don't get now they get after the next start
_PAUSES_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # while the spool fails
_KEYS: Final = 10_000

_records: Final = metrics.counter(
    "tenantgate_audit_records_total",
    "Records put into the spool, by what became of the content.",
    ("content",),
)
_redactions: Final = metrics.counter(
    "tenantgate_audit_redactions_total", "What was redacted, by kind.", ("kind",)
)
_unreadable: Final = metrics.counter(
    "tenantgate_audit_journal_unreadable_total", "Lines of the journal that are no log records."
)
_skipped: Final = metrics.counter(
    "tenantgate_audit_journal_repeated_total", "Lines that were in the spool already, after a restart."
)
_new_journals: Final = metrics.counter(
    "tenantgate_audit_journal_replaced_total", "How often the journal was found replaced or cut off."
)
_failures: Final = metrics.counter(
    "tenantgate_audit_spool_failures_total", "Failed attempts to write to the spool."
)
_dropped: Final = metrics.counter(
    "tenantgate_audit_content_dropped_total",
    "Content that was given up in the worker, by reason.",
    ("reason",),
)
_gone: Final = metrics.counter(
    "tenantgate_audit_records_dropped_total",
    "Records dropped at the spool's bound, before all sinks had them, or lost by Redis.",
)
_waiting: Final = metrics.gauge("tenantgate_audit_lines_waiting", "Lines that wait for their content.")
_unread: Final = metrics.gauge("tenantgate_audit_journal_unread_bytes", "Bytes of the journal not yet read.")
_lag: Final = metrics.gauge("tenantgate_audit_lag_seconds", "From a request's end to its record, last seen.")
_cpu: Final = metrics.counter("tenantgate_audit_redaction_seconds_total", "Time spent in redaction.")


class Deliverer(Protocol):
    """What brings spooled records to the sinks; `tenantgate.audit.delivery_thread` provides it."""

    def start(self) -> None:
        """Begin, in threads of its own."""

    def stop(self, flush_s: float) -> None:
        """Try for `flush_s` to deliver what is there, then end."""


@dataclass(eq=False)
class _Route:
    """The settings of one configuration of the plugin, and what follows from them by tenant."""

    config: AuditConfig
    policies: dict[TenantId, Policy] = field(default_factory=dict)

    def policy(self, tenant: TenantId) -> Policy:
        found = self.policies.get(tenant)
        if found is None:
            if len(self.policies) > _KEYS:
                self.policies.clear()
            found = self.policies[tenant] = Policy.of(self.config, tenant)
        return found

    def terms(self, tenant: TenantId) -> Terms:
        config = self.config
        return Terms(config.client_ip, config.input_cost, config.output_cost, self.policy(tenant).key)


class Worker:
    """The worker without its process: one loop, to be run in the thread that owns it."""

    def __init__(
        self,
        config: PipelineConfig,
        channel: socket.socket | None,
        spool: Spool,
        *,
        deliverer: Deliverer | None = None,
        find_names: Callable[[], NameFinder] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._channel, self._spool, self._deliverer = config, channel, spool, deliverer
        self._clock = clock
        self._node = node_name(config)
        self._find_names = find_names
        self._names: NameFinder | None = None
        self._heads: dict[TenantId, Head] = dict(spool.heads())
        # Up to the furthest head there may be lines of other tenants that are not in the spool.
        known = spool.checkpoint() or 0
        self._journal = JournalTail(
            Path(config.journal), Path(config.state_dir), known_end=known, clock=clock,
            furthest=max((h.position for h in self._heads.values()), default=-1),
            others=spool.taken_over,
        )  # fmt: skip
        _new_journals.inc(self._journal.restarts)
        self._joiner = Joiner(wait_s=config.wait_ms / 1000, max_bytes=config.queue_megabytes << 20, age_s=600)
        self._unpacker = msgpack.Unpacker(
            raw=False, max_buffer_size=256 << 20, unicode_errors="surrogateescape"
        )
        self._routes: dict[str, _Route] = {}
        self._by_route_id: dict[str, _Route] = {}
        self._linked_at = time.time()
        self._unsent: list[Entry] = []
        self._unsent_states: list[str] = []
        self._telling: list[Gap] = []  # of which records are among the unsent
        self._unsent_end = self._journal.position
        self._failed = 0
        self._retry_at = 0.0
        self._checkpoint = known
        self._checkpoint_at = self._upkeep_at = 0.0
        self._counted: Counter[str] = Counter()
        self._outgoing = b""
        self._stalled = 0.0  # seconds in which this loop did not get to its channel
        self._stop = False
        self._timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()

    def stop(self) -> None:
        """End after what is there is in the spool."""
        self._stop = True

    def run(self) -> None:
        """Until `stop`, or until the channel's other end is gone."""
        if self._timed:
            signal.signal(signal.SIGALRM, _overtime)
        if self._deliverer is not None:
            self._deliverer.start()
        try:
            while not self._stop:
                self.step(self._pause())
            self._flush()
        finally:
            if self._deliverer is not None:
                self._deliverer.stop(_DELIVER_S)
            self._journal.close()

    def step(self, timeout_s: float = 0.0) -> None:
        """Take in what is there, for `timeout_s` at most, and put into the spool what is ready."""
        began = self._clock()
        self._listen(timeout_s)
        now = self._clock()
        self._stalled += max(0.0, now - began - timeout_s - _TICK_S)
        if not self._unsent:
            self._read(self._waited())
            self._make_all(self._waited())
        self._send(now)
        self._keep_up(now)
        self._stalled += max(0.0, self._clock() - now - _TICK_S)

    def _waited(self) -> float:
        """The clock by which lines wait: while the spool holds us up, their content may lie in the channel."""
        return self._clock() - self._stalled

    # -- taking in ----------------------------------------------------------------------------------------

    def _pause(self) -> float:
        if self._clock() < self._retry_at:
            return _TICK_S  # whatever waits, nothing can be done about it yet
        if not self._unsent and self._journal.unread() and len(self._joiner) < _MOST_LINES:
            return 0.0
        deadline = self._joiner.next_deadline()
        if deadline is None:
            return _TICK_S
        return min(_TICK_S, max(0.0, deadline - self._waited()))

    def _listen(self, timeout_s: float) -> None:
        if self._channel is None:
            if timeout_s:
                time.sleep(timeout_s)
            return
        ready, _, _ = select.select([self._channel], [], [], timeout_s)
        taken = 0
        while ready and taken < _LISTEN:  # then the journal's turn: content whose line is there needs no room
            try:
                data = self._channel.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._channel, self._stop = None, True  # the plugin server is gone
                break
            taken += len(data)
            self._unpacker.feed(data)
            for message in self._unpacker:
                try:
                    self.take_in(message)
                except Exception as error:  # noqa: BLE001 - one content less must not stop the records
                    _dropped.inc(reason="error")
                    logs.event(_log, logging.ERROR, "a content could not be taken", **logs.describe(error))

    def take_in(self, message: Sequence[Any]) -> None:
        """A message of the plugin server's: settings, a content, or that one was left out."""
        kind, *rest = message
        if kind == "policy":
            name, route_id, values = rest
            self._take_policy(name, route_id, values)
        elif kind == "content":
            name, identifier, body, body_size, reply, reply_size, headers = rest
            raw = RawContent(body, body_size, reply, reply_size, headers)
            self._joiner.add_content(identifier, Arrived(name, raw), self._waited())
        elif kind == "shed":
            name, identifier = rest
            self._joiner.add_content(identifier, Arrived(name, None), self._waited())

    def _take_policy(self, name: str, route_id: str, values: Mapping[str, Any]) -> None:
        route = self._routes.get(name)
        if route is None:
            if len(self._routes) > _KEYS:
                self._routes = {n: r for n, r in self._routes.items() if r in self._by_route_id.values()}
            route = self._routes[name] = _Route(parse(AuditConfig, values))
        if route_id:
            self._by_route_id[route_id] = route
        if route.config.names and self._names is None and self._find_names is not None:
            try:
                self._names = self._find_names()
            except Exception as error:  # noqa: BLE001 - an extra that may fail in any way
                self._find_names = None
                logs.event(
                    _log,
                    logging.ERROR,
                    "names can't be redacted: content is left out",
                    **logs.describe(error),
                )

    def _read(self, now: float) -> None:
        room = _MOST_LINES - len(self._joiner)
        if room <= 0:
            return
        if self._clock() < self._retry_at:
            return
        try:
            lines = self._journal.read(_READ)
        except OSError as error:  # such as a full disk: nothing is skipped
            self._failures(self._clock(), error)
            return
        for line in lines:
            self._take_line(line, now)

    def _take_line(self, line: Line, now: float) -> None:
        """Add the records of one line, usually one."""
        parsed = parse_line(line.raw)
        if parsed is not None or not line.raw.strip():
            self._joiner.add_line(line.start, line.end, parsed, now, wait=self._expects(parsed))
            return
        pieces, start = split_records(line.raw), line.start
        for i, piece in enumerate(pieces):
            end = line.end if i == len(pieces) - 1 else start + len(piece)
            record = parse_line(piece)
            if record is None and piece.strip():
                _unreadable.inc()
            self._joiner.add_line(start, end, record, now, wait=self._expects(record))
            start = end

    def _expects(self, line: JournalLine | None) -> bool:
        """Whether content may come for this line."""
        if line is None:
            return False
        route = self._by_route_id.get(line.route_id)
        return route is None or route.config.content != "off" or bool(route.config.headers)

    def _missing(self, line: JournalLine) -> ContentState:
        route = self._by_route_id.get(line.route_id)
        if route is not None and route.config.content == "off":
            return ContentState.OFF
        if outcome_of(line) in (Outcome.UNAUTHORIZED, Outcome.RATE_LIMITED):
            return ContentState.NONE  # refused by plugins that come before ours
        ended = (line.started_ms + line.latencies.get("request", 0.0)) / 1000
        return ContentState.LOST if ended < self._linked_at or self._channel is None else ContentState.LATE

    # -- records ------------------------------------------------------------------------------------------

    def _make_all(self, now: float, *, flush: bool = False) -> None:
        """Records of what is ready, for one append: not too many, and not for too long."""
        until = time.monotonic() + _MAKE_S
        while len(self._unsent) < _BATCH and time.monotonic() < until:
            joined = self._joiner.take(now, self._missing, at_most=_FEW, flush=flush)
            if not joined:
                return
            self._make(joined)

    def _make(self, joined: Sequence[Joined]) -> None:
        """Records of the joined lines, linked, to be sent."""
        behind = self._journal.unread() > _BEHIND
        for one in joined:
            line = one.line
            self._unsent_end = one.end
            if line is None:
                continue
            head = self._heads.get(line.tenant, START)
            if one.start <= head.position:
                _skipped.inc()
                continue
            route = self._route_of(line, one.content)
            redacted = self._content(one, line, route, behind=behind)
            terms = Terms() if route is None else route.terms(line.tenant)
            identifier = line.request_id or f"{self._node}-{one.start}"
            record = _built(line, redacted, terms, identifier)
            entry, self._heads[line.tenant] = link(
                record, head, tenant=line.tenant, node=self._node, position=one.start
            )
            self._unsent.append(entry)
            self._unsent_states.append(str(redacted.content["state"]))
            _lag.set(
                round(max(0.0, time.time() - (line.started_ms + line.latencies.get("request", 0)) / 1000), 3)
            )

    def _route_of(self, line: JournalLine, content: Arrived | None) -> _Route | None:
        named = self._routes.get(content.policy) if content is not None else None
        return named or self._by_route_id.get(line.route_id)

    def _content(self, one: Joined, line: JournalLine, route: _Route | None, *, behind: bool) -> Redacted:
        if one.content is None:
            return absent(one.missing)
        if one.content.raw is None or (behind and route is not None):
            return absent(ContentState.SHED)
        if route is None:
            return absent(ContentState.LOST)
        started = time.perf_counter()
        redacted = self._redact(one.content.raw, route, line.tenant)
        _cpu.inc(time.perf_counter() - started)
        for kind, count in redacted.found.items():
            _redactions.inc(count, kind=kind)
        passed = outcome_of(line) not in (
            Outcome.UNAUTHORIZED, Outcome.RATE_LIMITED, Outcome.REFUSED, Outcome.GATEWAY_ERROR,
        )  # fmt: skip
        if redacted.content["state"] == ContentState.NONE and passed:
            return absent(ContentState.LOST)  # it was read, by a process that is gone
        return redacted

    def _redact(self, raw: RawContent, route: _Route, tenant: TenantId) -> Redacted:
        limit_s = route.config.redaction_timeout_ms / 1000
        until = time.monotonic() + limit_s
        policy, salt = route.policy(tenant), secrets.token_hex(16)
        if not self._timed:
            return redact(raw, policy, names=self._names, in_time=lambda: time.monotonic() < until, salt=salt)
        # An expression that runs away is stopped, too: Python looks for signals within one.
        try:
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            try:
                return redact(
                    raw, policy, names=self._names, in_time=lambda: time.monotonic() < until, salt=salt
                )
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except OvertimeError:  # came just after the work was done
            return absent(ContentState.REDACTION_FAILED, reason="timeout")

    # -- the spool ----------------------------------------------------------------------------------------

    def _send(self, now: float) -> None:
        if self._unsent and now >= self._retry_at:
            try:
                self._journal.sync()
                self._spool.append(self._unsent)
            except ConflictError:
                raise  # what we know of the chains is no longer true
            except (EdgeError, OSError) as error:
                self._failures(now, error)
                return
            self._failed = 0
            for state in self._unsent_states:
                _records.inc(content=state)
            self._unsent, self._unsent_states = [], []
            if self._telling:
                self._told()
        if not self._unsent:
            self._journal.processed = self._unsent_end

    def _failures(self, now: float, error: EdgeError | OSError) -> None:
        if not self._failed:
            logs.event(
                _log,
                logging.ERROR,
                "the disk or the spool fails: records wait in the journal",
                **logs.describe(error),
            )
        _failures.inc()
        self._retry_at = now + _PAUSES_S[min(self._failed, len(_PAUSES_S) - 1)]
        self._failed += 1

    def _keep_up(self, now: float) -> None:
        if not self._unsent and now - self._checkpoint_at >= _CHECKPOINT_S:
            self._checkpoint_at = now
            self._note_checkpoint()
            self._report()
        if now - self._upkeep_at >= _UPKEEP_S:
            self._upkeep_at = now
            self._journal.rotate(self._config.journal_megabytes << 20)
            try:
                _dropped.inc(self._spool.trim(), reason="spool_bound")
                self._tell()
            except ConflictError:
                raise
            except EdgeError:
                pass  # appending says so, and comes more often

    def _tell(self) -> None:
        """Records of what the spool had to drop or lost, each behind its tenant's last line and before the next."""
        if self._unsent:
            return
        position = self._unsent_end - 1  # within a line that all tenants have behind them
        for found in self._spool.gaps():
            head = self._heads.get(found.tenant, START)
            if position <= head.position:
                continue  # there is one already: with the next line
            record = gap(
                found.numbers, tenant=found.tenant, identifier=f"gap-{secrets.token_hex(16)}",
                now_ms=int(time.time() * 1000), reason=found.reason,
            )  # fmt: skip
            entry, self._heads[found.tenant] = link(
                record, head, tenant=found.tenant, node=self._node, position=position
            )
            self._unsent.append(entry)
            self._telling.append(found)

    def _told(self) -> None:
        told, self._telling = self._telling, []
        _gone.inc(sum(last - first + 1 for found in told for first, last in found.numbers))
        with contextlib.suppress(EdgeError):  # then they are told again, which explains no less
            self._spool.told(told)

    def _note_checkpoint(self) -> None:
        if self._unsent_end != self._checkpoint:
            try:
                self._journal.sync()
                self._spool.set_checkpoint(self._unsent_end)
            except (EdgeError, OSError):
                return  # the next one will do
            self._checkpoint = self._unsent_end

    def _report(self) -> None:
        """Counts of parts that count by themselves; then all metrics to the plugin server, which shows them."""
        _waiting.set(len(self._joiner))
        _unread.set(self._journal.unread())
        for reason, total in (
            ("late", self._joiner.late), ("queue_full", self._joiner.shed), ("no_line", self._joiner.orphaned),
        ):  # fmt: skip
            _dropped.inc(total - self._counted[reason], reason=reason)
            self._counted[reason] = total
        if self._channel is not None:
            self._outgoing = self._outgoing or msgpack.packb(metrics.exposition())
            with contextlib.suppress(OSError):  # full: the rest will follow
                self._outgoing = self._outgoing[self._channel.send(self._outgoing, socket.MSG_DONTWAIT) :]

    def _flush(self) -> None:
        """The journal to its end, without waiting for content any more."""
        until = self._clock() + _FLUSH_S
        while self._clock() < until:
            now = self._clock()
            if not self._unsent:
                self._read(self._waited())
                self._make_all(self._waited(), flush=True)
            self._send(now)
            if self._unsent or now < self._retry_at:
                time.sleep(_TICK_S)
            elif not len(self._joiner) and not self._journal.unread():
                break
        if not self._unsent:
            self._note_checkpoint()


def node_name(config: PipelineConfig) -> str:
    """The node's name in the chains."""
    return config.node or socket.gethostname()


def _built(line: JournalLine, redacted: Redacted, terms: Terms, identifier: str) -> dict[str, Any]:
    """The record; without its content rather than not at all."""
    try:
        return build(line, redacted, terms, identifier=identifier)
    except Exception as error:  # noqa: BLE001 - whatever it is, one record must not stop the others
        logs.event(_log, logging.ERROR, "a record lost its content", **logs.describe(error))
        failed = absent(ContentState.REDACTION_FAILED, reason="error", error=type(error).__name__)
        return build(line, failed, Terms(), identifier=identifier)


def _overtime(*_: object) -> None:
    raise OvertimeError


# -- the process ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Work for the plugin server on the other end of ``--channel`` until it is gone."""
    parser = argparse.ArgumentParser(prog="tenantgate-audit-worker", description=main.__doc__)
    parser.add_argument("--channel", type=int, required=True, help="descriptor of a connected stream socket")
    args = parser.parse_args(argv)
    logs.setup("tenant-audit-log")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it goes to all; the channel's end is ours
    channel = socket.socket(fileno=args.channel)
    threading.excepthook = lambda failed: _told(failed.exc_value)
    try:
        return _serve(channel)
    except Exception as error:  # noqa: BLE001 - Python's own report of it could quote a content
        _told(error)
        return 1


def _told(error: BaseException | None) -> None:
    logs.event(_log, logging.ERROR, "the audit worker failed", **(logs.describe(error) if error else {}))


def _serve(channel: socket.socket) -> int:
    config = _hello(channel)
    if config is None:
        return 0
    state = Path(config.state_dir)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(private(state / "lock", append=True), "ab") as lock:
        if not _lock(lock.fileno(), channel):
            return 0
        spool, deliverer = _parts(config)
        worker = Worker(config, channel, spool, deliverer=deliverer, find_names=_names)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        worker.run()
    return 0


def _hello(channel: socket.socket) -> PipelineConfig | None:
    """The configuration, the first thing that comes over the channel: four bytes of length, and a message."""
    head = _exactly(channel, 4)
    body = _exactly(channel, int.from_bytes(head, "big")) if head else None
    return (
        None
        if body is None
        else parse(PipelineConfig, msgpack.unpackb(body, unicode_errors="surrogateescape"))
    )


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        more = channel.recv(size - len(data))
        if not more:
            return None
        data += more
    return data


def _lock(fd: int, channel: socket.socket) -> bool:
    """Wait for our turn; False if the plugin server is gone before."""
    told = 0.0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() - told > _CHECKPOINT_S:
                told = time.monotonic()
                with contextlib.suppress(OSError):
                    channel.send(msgpack.packb(""), socket.MSG_DONTWAIT)  # it waits, it does not hang
            ready, _, _ = select.select([channel], [], [], _TICK_S)
            if ready and not channel.recv(1, socket.MSG_PEEK):
                return False
            if ready:
                time.sleep(_TICK_S)
        else:
            return True


def _parts(config: PipelineConfig) -> tuple[Spool, Deliverer]:
    from tenantgate.audit.delivery_thread import Delivery, Pace  # noqa: PLC0415
    from tenantgate.audit.sinks import make  # noqa: PLC0415
    from tenantgate.audit.spool import open_spool  # noqa: PLC0415

    spool = open_spool(config, node_name(config))
    sinks, paces = [make(s, Path(config.state_dir)) for s in config.sinks], [Pace(s) for s in config.sinks]
    return spool, Delivery(spool, sinks, paces, refused=Path(config.state_dir))


def _names() -> NameFinder:
    from tenantgate.pii.name_models import load_names  # noqa: PLC0415 - models that only few need

    return load_names()


if __name__ == "__main__":
    sys.exit(main())
