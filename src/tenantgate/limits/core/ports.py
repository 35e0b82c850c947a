"""What the rate limits need of the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tenantgate.limits.core.ledger import NotCountedError
from tenantgate.limits.core.limit import Limit
from tenantgate.limits.core.window import Decision

__all__ = ["Counters", "NotCountedError"]


class Counters(Protocol):
    """Where windows are kept."""

    def count(self, keys: Sequence[str], limits: Sequence[Limit]) -> Decision:
        """Count one request in the windows under these keys, one for each limit, or in none.

        Raises:
            NotCountedError: it can't be told whether there is room.
        """
        ...
