"""Windows in this process' memory, for the policy ``local``."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from tenantgate.bounded import Bounded
from tenantgate.limits.core.limit import Limit, Period
from tenantgate.limits.core.window import Decision, count

__all__ = ["LocalCounters"]

_MOST: Final = 100_000
_MOST_BYTES: Final = 64 << 20
_OVERHEAD: Final = 300  # bytes of a key, a window and an entry, beside their texts


class LocalCounters:
    """At most 100,000 windows and 64 MiB: beyond, those go in which nothing was counted for longest."""

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._windows: Bounded[str, bytes] = Bounded(most, most_bytes=most_bytes, age_s=Period.DAY)
        self._lock = threading.Lock()

    def count(self, keys: Sequence[str], limits: Sequence[Limit]) -> Decision:
        """Count one request in the windows under these keys, one for each limit, or in none."""
        with self._lock:
            now_us = time.monotonic_ns() // 1000
            decision, windows = count([self._windows.get(key) for key in keys], limits, now_us)
            for key, window in zip(keys, windows, strict=True):
                size = len(key) + len(window) + _OVERHEAD
                self._windows.put(key, window, size=size, now=now_us / 1e6)
        return decision
