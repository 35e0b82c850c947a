"""Puts events into the node's journal, from where the audit worker takes them like requests.

Kong opens the journal for each line and appends it in one write, and so does this: lines of both never mix, and the
journal may be renamed at any time. Only Kong makes the file, since it must be Kong's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tenantgate.audit.core.event import Event, event_line
from tenantgate.errors import EdgeError
from tenantgate.tenant import TenantId

__all__ = ["EventLog"]


class EventLog:
    """The events of a node; thread-safe."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal

    def write(self, tenant: TenantId, identifier: str, time_ms: int, values: Mapping[str, str]) -> None:
        """Bring an event to disk: its record survives whatever is killed afterwards.

        Raises:
            EdgeError: it isn't there, or not as a whole; Kong has written no line yet, or the disk is full.
        """
        # An end of line first: a full disk may have cut the last line off, and what is glued to it isn't read.
        line = b"\n" + event_line(Event(tenant, identifier, time_ms, values))
        try:
            fd = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise EdgeError(f"journal: {error.strerror}") from None
        try:
            if os.write(fd, line) != len(line):
                raise EdgeError("journal: an event was cut off")
            os.fsync(fd)
        except OSError as error:
            raise EdgeError(f"journal: {error.strerror}") from None
        finally:
            os.close(fd)
