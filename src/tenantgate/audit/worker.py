"""The audit log's own process: from Kong's journal and the plugin servers' contents to records in the spool.

One works on a state folder, for all plugin servers of the node, which connect to its socket (see `meeting`).
Any of them may have started it. When the last one is gone it reads the journal to its end, spools, gives the sinks a
moment, and ends.

    channel, journal → `Intake`: joined lines → `Recorder`: redacted records → `SpoolWriter`: chains, spool → sinks
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from tenantgate.audit.channel import Channel, read_configuration
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.event import Event
from tenantgate.audit.core.join import Joined, Joiner
from tenantgate.audit.core.ports import Spool
from tenantgate.audit.core.record import of_event
from tenantgate.audit.core.routes import Routes
from tenantgate.audit.delivery_thread import Batching, Delivery
from tenantgate.audit.intake import Intake
from tenantgate.audit.journal_files import JournalTail, write_whole
from tenantgate.audit.meeting import listen, lock
from tenantgate.audit.messages import Message, Pipeline, pack
from tenantgate.audit.receivers import BATCHING, AlertSink
from tenantgate.audit.recorder import Record, Recorder
from tenantgate.audit.sinks import make
from tenantgate.audit.spool import open_spool
from tenantgate.audit.spool_writer import SpoolWriter
from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.kong.output import leave_output
from tenantgate.pii.core.ports import NameFinder
from tenantgate.telemetry import logs, metrics

__all__ = ["Deliverer", "Output", "Worker", "main", "node_name"]

_log: Final = logging.getLogger("tenantgate.audit")

_TICK_S: Final = 0.05
_REST_S: Final = 0.1  # after an append, so that the next one has more records: it costs more than they do
_BATCH: Final = 500  # records in one append
_FEW: Final = 20  # lines that are made into records before the clock is looked at
_MAKE_S: Final = 0.5  # of work before what is done goes into the spool
_CONTENT_S: Final = 600.0  # how long content waits for its line
_CHECKPOINT_S: Final = 1.0
_UPKEEP_S: Final = 5.0
_FLUSH_S: Final = 5.0  # for the journal, at the end
_DELIVER_S: Final = 2.0  # then for the sinks: what they don't get now they get after the next start
_FIRST_S: Final = 10.0  # for the first plugin server to say what there is to do
_TENANTS: Final = "tenants.json"
_NICE: Final = 5
"""Of nice(2): requests' work goes before that of their records, a quarter of a busy core is left for these."""

_new_journals: Final = metrics.counter(
    "tenantgate_audit_journal_replaced_total", "How often the journal was found replaced or cut off."
)
_repeated: Final = metrics.counter(
    "tenantgate_audit_journal_repeated_total", "Lines that were in the spool already, after a restart."
)
_unaudited: Final = metrics.counter(
    "tenantgate_audit_unaudited_total", "Lines of tenants without an audit log, which make no record."
)
_lag: Final = metrics.gauge("tenantgate_audit_lag_seconds", "From a request's end to its record, last seen.")


class Deliverer(Protocol):
    """Brings spooled records to the sinks; `tenantgate.audit.delivery_thread` provides it."""

    def start(self) -> None:
        """Begin, in threads of its own."""

    def stop(self, flush_s: float) -> None:
        """Try for `flush_s` to deliver what is there, then end."""


class Output:
    """The output of this process, which it shares with the plugin server's watchdog: to Kong both are one.

    Kong starts a server anew only when all have left it. Records for a sink there wait then, for the next worker.
    """

    def __init__(self, watchdog: int | None) -> None:
        """`watchdog`: its process id; None where there is none to look after."""
        self._left, self._watchdog = False, None
        if watchdog and hasattr(os, "pidfd_open"):
            try:
                self._watchdog = os.pidfd_open(watchdog)
            except ProcessLookupError:
                self.leave()
            except OSError:  # a kernel without it
                return

    def over(self) -> bool:
        """Whether it is left; from when on the watchdog is dead."""
        if not self._left and self._watchdog is not None and select.select([self._watchdog], [], [], 0)[0]:
            self.leave()
        return self._left

    def leave(self) -> None:
        """Leave it, once."""
        if not self._left:
            self._left = True
            leave_output()


class Worker:
    """The worker without its process: one loop, to be run in the thread that owns it.

    Attributes:
        successor: a newer configuration, by which another worker has to go on.
    """

    def __init__(
        self,
        config: PipelineConfig,
        channel: Channel,
        spool: Spool,
        *,
        routes: Routes | None = None,
        since: float = 0.0,
        deliverer: Deliverer | None = None,
        find_names: Callable[[], NameFinder] | None = None,
        clock: Callable[[], float] = time.monotonic,
        output: Output | None = None,
    ) -> None:
        """`routes`: what is known of settings; `since`: age of the configuration, as in `Pipeline`.

        `output`: of this process, which is left once nobody lives for whom it was.
        """
        self._output = output or Output(None)
        self._writes_output = any(sink.type == "stdout" for sink in config.sinks)
        self._config, self._deliverer, self._clock = config, deliverer, clock
        self._channel, self._since, self._routes = channel, since, routes or Routes()
        self.successor: Pipeline | None = None
        self._tenants = _Tenants(Path(config.state_dir) / _TENANTS, self._routes)
        heads, checkpoint = spool.heads(), spool.checkpoint() or 0
        # Up to the furthest head there may be lines of other tenants that are not in the spool.
        furthest = max((head.position for head in heads.values()), default=-1)
        self._journal = JournalTail(
            Path(config.journal),
            Path(config.state_dir),
            known_end=checkpoint,
            clock=clock,
            furthest=furthest,
            others=spool.taken_over,
        )
        _new_journals.inc(self._journal.restarts)
        node = node_name(config)
        self._recorder = Recorder(self._routes, node, find_names)
        joiner = Joiner(
            wait_s=config.wait_ms / 1000, max_bytes=config.queue_megabytes << 20, age_s=_CONTENT_S
        )
        self._intake = Intake(
            self._channel,
            self._journal,
            joiner,
            self._routes,
            on_settings=self._recorder.prepare,
            on_pipeline=self._succeed,
            clock=clock,
        )
        self._writer = SpoolWriter(
            spool,
            node,
            heads,
            position=self._journal.position,
            checkpoint=checkpoint,
            sync=self._journal.sync,
        )
        self._checkpoint_at = self._upkeep_at = 0.0
        self._stop = False

    def stop(self) -> None:
        """End after what is there is in the spool."""
        self._stop = True

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def run(self) -> None:
        """Work until `stop`, until all plugin servers are gone, or until another worker has to go on."""
        self._recorder.start()
        if self._deliverer is not None:
            self._deliverer.start()
        try:
            while not self._stop and self.successor is None:
                appended = self._writer.appended
                self.step(self.pause_s())
                if self._writer.appended > appended and not self._intake.busy:
                    time.sleep(_REST_S)
            if self.successor is None:
                self._channel.refuse()
                if self._channel.abandoned:
                    self._output.leave()
                self._flush()
        finally:
            if self._deliverer is not None:
                self._deliverer.stop(_DELIVER_S)
            self.close()

    def step(self, timeout_s: float = 0.0) -> None:
        """Take in what is there, for `timeout_s` at most, and put into the spool what is ready."""
        began = self._clock()
        self._intake.listen(timeout_s)
        if self._channel.closed or (self._output.over() and self._writes_output):
            self._stop = True  # and the next worker has the output of the server that starts it
        now = self._clock()
        self._intake.absent(now - began - timeout_s)
        self._make_records()
        self._write(now)
        self._keep_up(now)
        self._intake.absent(self._clock() - now)

    def take(self, message: Message) -> None:
        """Take one message, as if it had come over the channel."""
        self._intake.take(message)

    def take_over(self, other: Worker) -> None:
        """Take the contents that another worker of this process has left. Lines are in the journal."""
        self._intake.add_contents(other._intake.contents())

    def _succeed(self, pipeline: Pipeline) -> None:
        """Plugin servers get a new configuration one after the other: the newest holds."""
        if parse(PipelineConfig, pipeline.values) == self._config:
            self._since = max(self._since, pipeline.since)
        elif pipeline.since > max(self._since, self.successor.since if self.successor else 0.0):
            self.successor = pipeline

    def pause_s(self) -> float:
        """Seconds that the next step may wait for messages."""
        if self._writer.pausing(self._clock()):
            return _TICK_S  # whatever waits, nothing can be done about it yet
        return self._intake.pause_s(_TICK_S, reading=not self._writer.pending)

    # -- from lines to records ----------------------------------------------------------------------------

    def _make_records(self, *, flush: bool = False) -> None:
        """Records of what is ready, for one append: not too many, and not for too long."""
        if self._writer.pending:
            return
        if not self._writer.pausing(self._clock()):
            try:
                self._intake.read(self._intake.waited())
            except OSError as error:
                self._writer.failed(self._clock(), error)
        now, until = self._intake.waited(), time.monotonic() + _MAKE_S
        while self._writer.pending < _BATCH and time.monotonic() < until:
            joined = self._intake.ready(now, at_most=_FEW, flush=flush)
            if not joined:
                return
            behind = self._intake.behind
            for one in joined:
                self._record(one, behind=behind)

    def _record(self, joined: Joined, *, behind: bool) -> None:
        self._writer.position = joined.end
        if joined.event is not None:
            self._add_event(joined.event, joined.start)
            return
        line = joined.line
        if line is None:
            return
        if self._routes.unaudited(line, joined.content):
            _unaudited.inc()
            return
        if self._writer.has(line.tenant, joined.start):
            _repeated.inc()
            return
        record = self._recorder.record(joined, line, behind=behind)
        self._writer.add(record, line.tenant, joined.start)
        ended = (line.started_ms + line.latencies.get("request", 0)) / 1000
        _lag.set(round(max(0.0, time.time() - ended), 3))

    def _add_event(self, event: Event, position: int) -> None:
        if self._writer.has(event.tenant, position):
            _repeated.inc()
            return
        values = of_event(event)
        self._writer.add(Record(values, str(values["content"]["state"])), event.tenant, position)

    def _write(self, now: float) -> None:
        self._writer.write(now)
        if not self._writer.pending:
            self._journal.processed = self._writer.position

    # -- upkeep -------------------------------------------------------------------------------------------

    def _keep_up(self, now: float) -> None:
        if now - self._checkpoint_at >= _CHECKPOINT_S:
            self._checkpoint_at = now
            self._save()
            self._intake.report()
            self._channel.show(metrics.exposition())
        if now - self._upkeep_at >= _UPKEEP_S:
            self._upkeep_at = now
            self._journal.rotate(self._config.journal_megabytes << 20)
            self._writer.trim()

    def _save(self) -> None:
        if not self._writer.pending and self._tenants.save():
            self._writer.save_checkpoint()

    def _flush(self) -> None:
        """The journal to its end, without waiting for content any more."""
        until = self._clock() + _FLUSH_S
        while self._clock() < until:
            now = self._clock()
            self._make_records(flush=True)
            self._write(now)
            if self._writer.pending or self._writer.pausing(now):
                time.sleep(_TICK_S)
            elif self._intake.empty:
                break
        self._save()


class _Tenants:
    """The file of what lines have told of their tenants' settings. Names only, no settings: those hold keys."""

    def __init__(self, path: Path, routes: Routes) -> None:
        self._path, self._routes = path, routes
        self._saved = routes.noted
        if not self._saved:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError):
                routes.restore(json.loads(path.read_bytes()))

    def save(self) -> bool:
        """Write what is new; whether all is on disk, so that no line before need be read again."""
        noted = self._routes.noted
        if noted != self._saved:
            try:
                write_whole(self._path, json.dumps(self._routes.known()).encode())
            except OSError:
                return False
            self._saved = noted
        return True


def node_name(config: PipelineConfig) -> str:
    """The node's name in the chains."""
    return config.node or socket.gethostname()


# -- the process ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Work for the plugin servers that connect, until the last one is gone."""
    parser = argparse.ArgumentParser(prog="tenantgate-audit-worker", description=main.__doc__)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--dir", type=Path, help="state folder, of which this process has the lock")
    how.add_argument("--channel", type=int, help="socket to a plugin server of the release before")
    parser.add_argument("--lock", type=int, help="descriptor of the lock; it is held while it is open")
    parser.add_argument(
        "--watchdog", type=int, help="process that watches over the one that started this one"
    )
    parser.add_argument("--starter", type=int, default=os.getppid(), help="process that started this one")
    args = parser.parse_args(argv)
    logs.setup("tenant-audit-log")
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it goes to all; the channel's end is ours
    threading.excepthook = lambda failed: _log_failure(failed.exc_value)
    try:
        if args.channel is not None:
            return _serve_former(socket.socket(fileno=args.channel))
        return _serve(args.dir, args.starter, Output(args.watchdog))
    except Exception as error:  # noqa: BLE001 - Python's own report of it could quote a content
        _log_failure(error)
        return 1


def _log_failure(error: BaseException | None) -> None:
    logs.event(_log, logging.ERROR, "the audit worker failed", **(logs.describe(error) if error else {}))


def _serve(folder: Path, starter: int, output: Output) -> int:
    channel = Channel(listener=listen(folder))
    early: list[Message] = []
    until = time.monotonic() + _FIRST_S
    while not any(isinstance(message, Pipeline) for message in early):
        if time.monotonic() > until or (channel.closed and os.getppid() != starter):
            return 0  # who started it is gone
        early += channel.receive(_TICK_S)
    first = next(message for message in early if isinstance(message, Pipeline))
    _work(channel, first, early, output)
    return 0


def _serve_former(connection: socket.socket) -> int:
    """Serve a plugin server of the release before, started by it; and of this one, once they come."""
    first = read_configuration(connection)
    if first is None:
        return 0
    folder = Path(parse(PipelineConfig, first.values).state_dir)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    while (held := lock(folder)) is None:
        time.sleep(_TICK_S)
        with contextlib.suppress(BlockingIOError):
            connection.send(pack(""), socket.MSG_DONTWAIT)  # it waits, it does not hang
        with contextlib.suppress(BlockingIOError):
            if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                return 0
    with os.fdopen(held):
        _work(Channel(connection, listener=listen(folder)), first, [], Output(None))
    return 0


def _work(channel: Channel, pipeline: Pipeline | None, early: list[Message], output: Output) -> None:
    """Work by one configuration after the other, from the one that came first."""
    routes, before, worker = Routes(), None, None
    signal.signal(signal.SIGTERM, lambda *_: worker.stop() if worker else sys.exit(0))
    while pipeline is not None:
        config = parse(PipelineConfig, pipeline.values)
        spool, deliverer = _parts(config)
        worker = Worker(
            config,
            channel,
            spool,
            routes=routes,
            since=pipeline.since,
            deliverer=deliverer,
            find_names=_names,
            output=output,
        )
        if before is not None:
            worker.take_over(before)
        for message in early:
            with contextlib.suppress(ConfigError):
                worker.take(message)
        early = []
        worker.run()
        before, pipeline = worker, worker.successor


def _parts(config: PipelineConfig) -> tuple[Spool, Deliverer]:
    spool, folder = open_spool(config, node_name(config)), Path(config.state_dir)
    sinks = [*(make(s, folder) for s in config.sinks), *(AlertSink(r) for r in config.receivers)]
    batching = [*(Batching.of(s) for s in config.sinks), *(BATCHING for _ in config.receivers)]
    return spool, Delivery(spool, sinks, batching, refused=folder, frozen=folder)


def _names() -> NameFinder:
    from tenantgate.pii.name_models import load_names

    return load_names()


if __name__ == "__main__":
    sys.exit(main())
