"""Clean-up of what expired entries leave, in the background, for the tenants seen lately.

Entries expire by themselves; their names in buckets and index entries go at the tenant's next store, or when a lookup
meets them, where they take the place of neighbours that live. A thread of the process removes them at an interval. A
mark in Redis keeps the processes of all gateways from sweeping the same tenant within one interval.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.cache.redis_store import RedisCache
    from tenantgate.tenant import TenantId

__all__ = ["Sweeper"]

_log: Final = logging.getLogger("tenantgate.cache")
_AT_ONCE: Final = 64  # entries: for so long Redis answers nobody else
_ROUNDS: Final = 16  # for one tenant in one interval
_PAUSE_S: Final = 0.02  # between two rounds, for requests
_TENANTS: Final = 10_000

_swept: Final = metrics.counter(
    "tenantgate_cache_swept_total", "Expired entries whose names and index entries the sweep removed."
)


class Sweeper:
    """Sweeps one store; thread-safe."""

    def __init__(self, store: RedisCache) -> None:
        self._store = store
        self._due: dict[TenantId, tuple[float, int]] = {}
        self._thread = BackgroundThread("cache-sweep", self._step, log=_log, failed="the sweep failed")

    def note(self, tenant: TenantId, every_s: int) -> None:
        """Sweep this tenant every `every_s` seconds, of several the shortest, while it has entries. 0: never."""
        known = self._due.get(tenant)
        if not every_s or (known[1] <= every_s if known else len(self._due) >= _TENANTS):
            return
        self._due[tenant] = (time.monotonic() + every_s, every_s)
        self._thread.wake()

    def _step(self) -> float | None:
        self.sweep(time.monotonic())
        first = min((due for due, _ in list(self._due.values())), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def sweep(self, now: float) -> None:
        """Sweep the tenants that are due; they stay as long as they have entries."""
        for tenant, (due, every_s) in list(self._due.items()):
            if due > now:
                continue
            # Whatever fails: its next request brings the tenant here again, and until then nothing is tried in vain.
            self._due.pop(tenant, None)
            with contextlib.suppress(UnavailableError):  # counted and logged where it happened
                if self._sweep(tenant, every_s):
                    self._due[tenant] = (now + every_s, every_s)

    def _sweep(self, tenant: TenantId, every_s: int) -> int:
        """Sweep one tenant; how many entries it has left."""
        left = 0
        for _ in range(_ROUNDS):
            # A little less, so that this process comes in time for its own next turn.
            count, left = self._store.sweep(Keys(tenant), most=_AT_ONCE, every_ms=every_s * 900)
            _swept.inc(count)
            if count < _AT_ONCE:
                break
            self._thread.pause(_PAUSE_S)
        return left
