"""Brings records into the spool, each once: links them to their tenants' chains, appends, tries again.

An entry carries its line's position in the journal, and the spool knows each tenant's last one. Lines at or before
that are skipped after a restart, so the process may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tenantgate.audit.core.chain import START, link
from tenantgate.audit.core.ports import ConflictError, Entry, Gap, Head, Spool
from tenantgate.audit.core.record import gap
from tenantgate.audit.recorder import Record
from tenantgate.errors import EdgeError
from tenantgate.telemetry import logs, metrics
from tenantgate.tenant import TenantId

__all__ = ["SpoolWriter"]

_log: Final = logging.getLogger("tenantgate.audit")
_PAUSES_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # while the disk or the spool fails

_records: Final = metrics.counter(
    "tenantgate_audit_records_total",
    "Records put into the spool, by what became of the content.",
    ("content",),
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


class SpoolWriter:
    """The one writer of a spool. For one thread.

    Attributes:
        position: in the journal, up to where all lines are in the spool or in the batch that waits.
        appended: number of records that were appended.
    """

    def __init__(
        self,
        spool: Spool,
        node: str,
        heads: Mapping[TenantId, Head],
        *,
        position: int,
        checkpoint: int,
        sync: Callable[[], None],
    ) -> None:
        """`heads` and `checkpoint` are the spool's. `sync` brings the journal to disk, as far as it was read."""
        self._spool, self._node, self._sync = spool, node, sync
        self._heads = dict(heads)
        self.position = position
        self.appended = 0
        self._checkpoint = checkpoint
        self._batch: list[Entry] = []
        self._states: list[str] = []  # of the contents in the batch
        self._gaps: list[Gap] = []  # which records in the batch report
        self._failed = 0  # attempts in a row
        self._retry_at = 0.0

    @property
    def pending(self) -> int:
        """Number of records that wait to be appended."""
        return len(self._batch)

    def pausing(self, now: float) -> bool:
        """Whether the disk or the spool failed, and it is too early to try again."""
        return now < self._retry_at

    def has(self, tenant: TenantId, position: int) -> bool:
        """Whether the tenant's line at this position has its record already."""
        return position <= self._heads.get(tenant, START).position

    def add(self, record: Record, tenant: TenantId, position: int) -> None:
        """Link a record to its tenant's chain, to be appended; `position` is its line's."""
        self._link(record.values, tenant, position)
        self._states.append(record.content)

    def write(self, now: float) -> None:
        """Append what waits, unless it is too early after a failure.

        Raises:
            ConflictError: what is known of the chains is no longer true.
        """
        if not self._batch or self.pausing(now):
            return
        try:
            self._sync()
            self._spool.append(self._batch)
        except ConflictError:
            raise
        except (EdgeError, OSError) as error:
            self.failed(now, error)
            return
        self._failed = 0
        self.appended += len(self._batch)
        for state in self._states:
            _records.inc(content=state)
        self._batch, self._states = [], []
        if self._gaps:
            self._reported()

    def failed(self, now: float, error: EdgeError | OSError) -> None:
        """Count a failure of the disk or the spool: nothing is tried for a while, longer after each."""
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

    def save_checkpoint(self) -> None:
        """Save the position, from which the next process goes on; nothing may wait to be appended."""
        if self.position != self._checkpoint:
            try:
                self._sync()
                self._spool.set_checkpoint(self.position)
            except (EdgeError, OSError):
                return  # the next one will do
            self._checkpoint = self.position

    def trim(self) -> None:
        """Make room in the spool, and add records that report which ones had to go or were lost.

        Raises:
            ConflictError: another gateway writes here.
        """
        try:
            _dropped.inc(self._spool.trim(), reason="spool_bound")
            if not self._batch:
                self._report_gaps()
        except ConflictError:
            raise
        except EdgeError:
            pass  # appending fails, too, and is tried more often

    def _report_gaps(self) -> None:
        """A record for each gap, behind its tenant's last line and before the next one."""
        position = self.position - 1  # within a line that all tenants have behind them
        for found in self._spool.gaps():
            if self.has(found.tenant, position):
                continue  # there is one already: with the next line
            record = gap(
                found.numbers,
                tenant=found.tenant,
                identifier=f"gap-{secrets.token_hex(16)}",
                now_ms=int(time.time() * 1000),
                reason=found.reason,
            )
            self._link(record, found.tenant, position)
            self._gaps.append(found)

    def _reported(self) -> None:
        reported, self._gaps = self._gaps, []
        _gone.inc(sum(last - first + 1 for found in reported for first, last in found.numbers))
        with contextlib.suppress(EdgeError):  # then they are reported again, which explains no less
            self._spool.reported(reported)

    def _link(self, values: Mapping[str, Any], tenant: TenantId, position: int) -> None:
        head = self._heads.get(tenant, START)
        entry, self._heads[tenant] = link(values, head, tenant=tenant, node=self._node, position=position)
        self._batch.append(entry)
