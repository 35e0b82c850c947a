"""How long work takes on this machine now, learnt from the work itself."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["Pace"]

_MARGIN: Final = 1.2  # the time left must be so many times what the rest is likely to take
_NEW: Final = 0.2  # what the latest piece of work counts
_HOPE: Final = 0.95


class Pace:
    """Seconds for a unit of work. Safe for threads: a lost update is made up for by the next."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def late(self, units: float, deadline: float) -> bool:
        """Whether `units` are unlikely to be done by `deadline` (of `time.monotonic`).

        Each yes makes the next one less likely: the machine may have been busy when the pace was taken, and what
        is never tried would never be found to be faster.
        """
        late = time.monotonic() + units * self.seconds * _MARGIN >= deadline
        if late:
            self.seconds *= _HOPE
        return late

    def took(self, units: float, seconds: float) -> None:
        """Learn from work that is done."""
        self.seconds += _NEW * (seconds / units - self.seconds)
