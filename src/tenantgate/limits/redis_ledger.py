"""Reservations in Redis: one call a request, a short time-out, a circuit breaker for each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenantgate.limits.core.ledger import NotCountedError, Reservation, Reserved, Room, Settlement

if TYPE_CHECKING:
    from tenantgate.store.redis_nodes import Nodes

__all__ = ["RedisLedger"]


class RedisLedger:
    """The counters of one Redis or one cluster; thread-safe. Implements `limits.core.ledger.Ledger`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def reserve(self, asked: Reservation) -> Reserved:
        """Hold what a request may take: for all of its claims or for none.

        Raises:
            NotCountedError: Redis failed, or the breaker is open.
        """
        raise NotCountedError("redis: not built yet")

    def settle(self, ended: Settlement) -> Sequence[Room]:
        """Put what was used in the place of what was held; the second time for an id nothing happens.

        Raises:
            NotCountedError: Redis failed, or the breaker is open.
        """
        raise NotCountedError("redis: not built yet")
