"""The batch that is on its way to a sink, on disk: what is sent again after a kill is the same batch, byte for byte.

Without it a restart would read the spool anew, where more records may wait by then or the oldest may be gone, and the
receiver would get part of what it has already in another batch under another key.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from tenantgate.audit.core.ports import Queued
from tenantgate.audit.journal_files import write_whole
from tenantgate.audit.segments import compact_json
from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId

__all__ = ["FrozenBatch"]


class FrozenBatch:
    """A sink's batch in a file; for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._there: Sequence[Queued] = ()

    def load(self) -> Sequence[Queued]:
        """The batch that an earlier process may have sent; empty if it has settled all."""
        try:
            self._there = tuple(_read(line) for line in self._path.read_bytes().splitlines())
        except (OSError, ValueError, KeyError, TypeError, ConfigError):
            self._there = ()  # none, or damaged on disk: the spool has the records, and receivers know their ids
        return self._there

    def save(self, batch: Sequence[Queued]) -> None:
        """Keep the batch. On a full disk it isn't: what is delivered makes room, so delivery goes on without."""
        if batch != self._there:
            with contextlib.suppress(OSError):
                write_whole(self._path, b"".join(_line(queued) for queued in batch))
                self._there = batch

    def clear(self) -> None:
        """The sink has it, and the spool knows."""
        if self._there:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._there = ()


def _line(queued: Queued) -> bytes:
    meta = {"c": queued.cursor, "t": str(queued.tenant), "i": queued.id}
    return compact_json(meta) + b"\t" + queued.record + b"\n"


def _read(line: bytes) -> Queued:
    meta, _, record = line.partition(b"\t")
    found = json.loads(meta)
    return Queued(found["c"], TenantId(found["t"]), found["i"], record)
