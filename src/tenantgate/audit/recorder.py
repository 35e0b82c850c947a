"""Records of joined lines: the content is redacted, within its time, or left out with the reason."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.join import Joined
from tenantgate.audit.core.journal import JournalLine
from tenantgate.audit.core.record import Outcome, Terms, asks_no_model, build, outcome_of
from tenantgate.audit.core.redaction import ContentState, OvertimeError, Redacted, absent, redact
from tenantgate.audit.core.routes import Routes, RouteSettings
from tenantgate.pii.core.ports import NameFinder
from tenantgate.telemetry import logs, metrics

__all__ = ["Record", "Recorder"]

_log: Final = logging.getLogger("tenantgate.audit")
_BEFORE_THE_BODY: Final = frozenset(
    {Outcome.UNAUTHORIZED, Outcome.RATE_LIMITED, Outcome.REFUSED, Outcome.GATEWAY_ERROR}
)
"""Outcomes of requests that may have ended before their body was read."""

_redactions: Final = metrics.counter(
    "tenantgate_audit_redactions_total", "What was redacted, by kind.", ("kind",)
)
_seconds: Final = metrics.counter("tenantgate_audit_redaction_seconds_total", "Time spent in redaction.")


@dataclass(frozen=True, slots=True)
class Record:
    """A record without its place in a chain, and what became of the content."""

    values: Mapping[str, Any]
    content: str


class Recorder:
    """Makes records. In the main thread a redaction that takes too long is interrupted."""

    def __init__(self, routes: Routes, node: str, find_names: Callable[[], NameFinder] | None = None) -> None:
        """`find_names` loads a recogniser of names, for settings that want one."""
        self._routes, self._node, self._find_names = routes, node, find_names
        self._names: NameFinder | None = None
        self._interrupts = (
            hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        )

    def start(self) -> None:
        """Take the process' alarm signal, by which a redaction is interrupted."""
        if self._interrupts:
            signal.signal(signal.SIGALRM, interrupt)

    def prepare(self, settings: RouteSettings) -> None:
        """Load what the settings need."""
        if settings.config.names and self._names is None and self._find_names is not None:
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

    def record(self, joined: Joined, line: JournalLine, *, behind: bool = False) -> Record:
        """The record of a line; without its content where the worker is too far `behind` to redact."""
        settings = self._routes.of(line, joined.content)
        redacted = self._content(joined, line, settings, behind=behind)
        terms = self._routes.terms(line, joined.content)
        identifier = line.request_id or f"{self._node}-{joined.start}"
        return Record(_built(line, redacted, terms, identifier), str(redacted.content["state"]))

    def _content(
        self, joined: Joined, line: JournalLine, settings: RouteSettings | None, *, behind: bool
    ) -> Redacted:
        if asks_no_model(line):
            return absent(ContentState.NONE)
        if joined.content is None:
            return absent(joined.missing)
        if joined.content.raw is None or (behind and settings is not None):
            return absent(ContentState.SHED)
        if settings is None:
            return absent(ContentState.LOST)
        started = time.perf_counter()
        redacted = self._redact(joined.content.raw, settings, line)
        _seconds.inc(time.perf_counter() - started)
        for kind, count in redacted.found.items():
            _redactions.inc(count, kind=kind)
        if redacted.content["state"] == ContentState.NONE and outcome_of(line) not in _BEFORE_THE_BODY:
            return absent(ContentState.LOST)  # it was read, by a process that is gone
        return redacted

    def _redact(self, raw: RawContent, settings: RouteSettings, line: JournalLine) -> Redacted:
        limit_s = settings.config.redaction_timeout_ms / 1000
        until = time.monotonic() + limit_s
        policy, salt = settings.policy(line.tenant), secrets.token_hex(16)

        def redacted() -> Redacted:
            return redact(raw, policy, names=self._names, in_time=lambda: time.monotonic() < until, salt=salt)

        if not self._interrupts:
            return redacted()
        # An expression that runs away is stopped, too: Python looks for signals within one.
        try:
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            try:
                return redacted()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except OvertimeError:  # came just after the work was done
            return absent(ContentState.REDACTION_FAILED, reason="timeout")


def interrupt(*_: object) -> None:
    """End a redaction: the handler of the alarm signal."""
    raise OvertimeError


def _built(line: JournalLine, redacted: Redacted, terms: Terms, identifier: str) -> dict[str, Any]:
    """The record; without its content rather than not at all."""
    try:
        return build(line, redacted, terms, identifier=identifier)
    except Exception as error:  # noqa: BLE001 - whatever it is, one record must not stop the others
        logs.event(_log, logging.ERROR, "a record lost its content", **logs.describe(error))
        failed = absent(ContentState.REDACTION_FAILED, reason="error", error=type(error).__name__)
        return build(line, failed, Terms(), identifier=identifier)
