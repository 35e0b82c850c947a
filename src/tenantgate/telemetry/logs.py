"""Structured logs: one JSON object a line on standard error, which Kong copies into its own log.

Content never gets in: exceptions are named by type and place, and only the messages of Tenantgate's own
errors are shown (they hold none).
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tenantgate.errors import TenantgateError
from tenantgate.telemetry import metrics

__all__ = ["describe", "event", "setup"]

_lines: Final = metrics.counter(
    "tenantgate_log_events_total",
    "Lines of the log of level warning, error or critical: Kong hides those of servers that it starts.",
    ("level",),
)
_FIELDS: Final = "tenantgate_fields"
_SITE_PACKAGES: Final = ("site-packages", "dist-packages")


class _JsonLines(logging.Formatter):
    def __init__(self, plugin: str) -> None:
        super().__init__()
        self._plugin = plugin

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, _FIELDS, {})
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "plugin": self._plugin,
            # A foreign library's message may quote what it was given; its own arguments stay out.
            "event": record.msg if isinstance(record.msg, str) else type(record.msg).__name__,
            **fields,
        }
        if record.exc_info and record.exc_info[1]:
            line |= describe(record.exc_info[1])
        return json.dumps(line, default=str)


class _Counting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _lines.inc(level=record.levelname.lower())


def setup(plugin: str, level: str = "info") -> None:
    """Send all logs of this process, as JSON lines, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(plugin))
    root = logging.getLogger()
    root.handlers[:] = [handler, _Counting(logging.WARNING)]
    root.setLevel(level.upper())
    logging.raiseExceptions = False


def event(logger: logging.Logger, level: int, name: str, /, **fields: Any) -> None:
    """Log the event `name` with `fields`, which must not hold content."""
    if logger.isEnabledFor(level):
        logger.log(level, name, extra={_FIELDS: fields})


def describe(error: BaseException) -> dict[str, str]:
    """What may be said of an exception: its type, where it came from, and our own errors' message."""
    out = {"error": type(error).__name__}
    # Not `extract_tb`: that reads the source files, which takes a millisecond.
    places = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    ours = [p for p in places if not any(part in p[0] for part in _SITE_PACKAGES)] or places
    if ours:
        path, line = ours[-1]
        out["at"] = f"{Path(path).name}:{line}"
    if isinstance(error, TenantgateError):
        out["message"] = str(error)
    return out
