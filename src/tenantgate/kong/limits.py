"""Bounds of a plugin server."""

from __future__ import annotations

from dataclasses import dataclass

from tenantgate.kong.policy import DEFAULT_DEADLINE_MS, LOG_DEADLINE_MS
from tenantgate.kong.wire import MAX_MESSAGE

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a server.

    Attributes:
        workers: threads that run phases.
        queue: events that may wait for a thread; further ones are answered at once by `on_error`.
        deadline_ms: for phases of plugins that name none; below Kong's read time-out (2 s as rendered).
        log_deadline_ms: for work in a log phase; Kong is answered after `deadline_ms` all the same.
        max_message: bytes of one message, from Kong.
        max_stuck: threads that may be stuck before the process gives up.
        max_instances: plugin instances kept.
    """

    workers: int = 8
    queue: int = 256
    deadline_ms: float = DEFAULT_DEADLINE_MS
    log_deadline_ms: float = LOG_DEADLINE_MS
    max_message: int = MAX_MESSAGE
    max_stuck: int = 8
    max_instances: int = 10_000
