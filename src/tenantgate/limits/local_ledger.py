"""Reservations in this process' memory, for the policy ``local``."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from tenantgate.bounded import Bounded
from tenantgate.limits.core import counters
from tenantgate.limits.core.counters import Counter, life_ms
from tenantgate.limits.core.keys import settled_key, window_key
from tenantgate.limits.core.ledger import Reservation, Reserved, Room, Settlement
from tenantgate.limits.core.rules import Window
from tenantgate.limits.core.windows import window_at
from tenantgate.tenant import TenantId

__all__ = ["LocalLedger"]

_MOST: Final = 100_000
_MOST_BYTES: Final = 64 << 20
_OVERHEAD: Final = 600  # bytes of a key and a counter
_RUN: Final = 120  # of a run
_RESERVATION: Final = 300
_MONTH_S: Final = 32 * 86_400
_SETTLED: Final = 100_000


class LocalLedger:
    """At most 100,000 counters and 64 MiB: beyond, those go in which nothing was counted for longest.

    Raises, which are
    in Redis, have no effect. Implements `limits.core.ledger.Ledger`.
    """

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._counters: Bounded[str, Counter] = Bounded(most, most_bytes=most_bytes, age_s=_MONTH_S)
        self._settled: Bounded[str, None] = Bounded(_SETTLED)
        self._lock = threading.Lock()

    def reserve(self, asked: Reservation) -> Reserved:
        """Hold what a request may take: for all of its claims or for none."""
        with self._lock:
            now_us = time.time_ns() // 1000
            found = [
                self._counter(asked.tenant, claim.counter, claim.window, now_us // 1000)
                for claim in asked.claims
            ]
            keys, opened, ends_ms = [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]
            given = []
            for claim in asked.replaces:
                key, counter, _ = self._counter(asked.tenant, claim.counter, claim.window, asked.replaces_ms)
                if key not in keys:
                    given.append((counter, claim))
            settled = settled_key(asked.tenant, asked.id) in self._settled
            answer = counters.reserve(opened, asked, ends_ms, now_us, given, settled=settled)
            if answer.refused is None and not settled:
                for key, counter in zip(keys, opened, strict=True):
                    self._put(key, counter, now_us)
            return answer

    def settle(self, ended: Settlement) -> Sequence[Room]:
        """Put what was used in the place of what was held; the second time for an id nothing happens."""
        with self._lock:
            now_us = time.time_ns() // 1000
            rooms, note = [], settled_key(ended.tenant, ended.id)
            first = note not in self._settled
            for used in ended.used:
                key, counter, end_ms = self._counter(
                    ended.tenant, used.counter, used.window, ended.started_ms
                )
                counter.open(now_us, life_ms(used.window, used.counted))
                if first:
                    counters.settle(counter, used, ended, now_us)
                    self._put(key, counter, now_us)
                rooms.append(counter.room(used.most, end_ms))
            self._settled.put(note, None)
            return rooms

    def _counter(self, tenant: TenantId, name: str, window: Window, now_ms: int) -> tuple[str, Counter, int]:
        start_ms, end_ms = (0, 0) if window.sliding_s else window_at(window, now_ms)
        key = window_key(tenant, name, window, start_ms)
        return key, self._counters.get(key) or Counter(window.sliding_s * 1_000_000), end_ms

    def _put(self, key: str, counter: Counter, now_us: int) -> None:
        size = _OVERHEAD + len(key) + _RUN * len(counter.runs) + _RESERVATION * len(counter.reservations)
        self._counters.put(key, counter, size=size, now=now_us / 1e6)
