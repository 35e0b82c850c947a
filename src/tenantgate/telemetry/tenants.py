"""Which tenants have series of their own: the busiest ones of this process. All others are counted as ``other``.

Ten thousand tenants with a dozen series each are more than a Prometheus should get. A count never moves from one
series to another, so that none goes back: a tenant that becomes busy begins at 0, and the series of the one whose
place it takes end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["MOST_TENANTS", "OTHER", "Tenants"]

MOST_TENANTS: Final = 200
OTHER: Final = "other"
_HALF_LIFE_S: Final = 600.0
_REVIEW_S: Final = 10.0
_CANDIDATES: Final = 20  # for each place
_LEAD: Final = (
    2.0  # times as busy must one be that takes another's place: else two of a kind would change for ever
)
_MOST_HALF_LIVES: Final = 40.0


class Tenants:
    """The busiest tenants, by updates of their metrics, of which those of ten minutes ago count half; thread-safe.

    `ended` is called with a tenant whose series end, without any lock held.
    """

    def __init__(
        self,
        most: int = MOST_TENANTS,
        ended: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self._ended, self._clock = most, ended, clock
        self._lock = threading.Lock()
        self._shown: dict[str, float] = {}
        self._others: dict[str, float] = {}
        self._since = self._reviewed = clock()

    def label(self, tenant: str, updates: int = 1) -> str:
        """The label value of a tenant, which is as much busier now; ``other`` where it has no place."""
        with self._lock:
            now = self._clock()
            weight = updates * 2.0 ** self._half_lives(now)
            if tenant in self._shown:
                self._shown[tenant] += weight
                return tenant
            if len(self._shown) < self.most:
                self._shown[tenant] = self._others.pop(tenant, 0.0) + weight
                return tenant
            if updates:
                self._others[tenant] = self._others.get(tenant, 0.0) + weight
            gone = self._review(now) if now - self._reviewed >= _REVIEW_S else []
            found = tenant if tenant in self._shown else OTHER
        for one in gone:
            self._ended(one)
        return found

    def _half_lives(self, now: float) -> float:
        """Since the time to which the numbers refer, which is moved on before they become too large."""
        passed = (now - self._since) / _HALF_LIFE_S
        if passed < _MOST_HALF_LIVES:
            return passed
        shrunk = 2.0 ** -min(passed, 1000.0)
        for found in (self._shown, self._others):
            for one in found:
                found[one] *= shrunk
        self._since = now
        return 0.0

    def _review(self, now: float) -> list[str]:
        """Give places to those that are much busier; who lost theirs."""
        self._reviewed, gone = now, []
        busiest = sorted(self._others, key=self._others.__getitem__, reverse=True)
        quietest = sorted(self._shown, key=self._shown.__getitem__)
        for one, other in zip(busiest, quietest, strict=False):
            if self._others[one] <= _LEAD * self._shown[other]:
                break
            self._shown[one] = self._others.pop(one)
            self._others[other] = self._shown.pop(other)
            gone.append(other)
        for one in busiest[_CANDIDATES * self.most :]:
            self._others.pop(one, None)
        return gone
