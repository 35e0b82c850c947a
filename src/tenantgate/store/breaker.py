"""When to stop asking Redis: after a few failures in a row requests pass at once, and one at a time tries again.

Pure: the caller says what time it is. Not thread-safe by itself; the edge holds a lock around it.
Source: Nygard, Release It!, "Circuit Breaker".
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Breaker"]


@dataclass(slots=True)
class Breaker:
    """Opens after `failures` failures in a row, lets one request try after each `pause_s` seconds."""

    failures: int = 3
    pause_s: float = 1.0
    _in_row: int = 0
    _retry_at: float = 0.0

    @property
    def open(self) -> bool:
        """Whether requests pass without asking."""
        return self._in_row >= self.failures

    def allows(self, now: float) -> bool:
        """Whether this request may ask; while open, only the first after each pause."""
        if not self.open:
            return True
        if now < self._retry_at:
            return False
        self._retry_at = now + self.pause_s  # whoever tries holds the others back until it is known
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._in_row = 0

    def failed(self, now: float) -> None:
        """It did not."""
        self._in_row = min(self._in_row + 1, self.failures)
        if self.open:
            self._retry_at = now + self.pause_s
