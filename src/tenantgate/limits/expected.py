"""How many tokens replies of a tenant's model usually have, as this process has seen them."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from tenantgate.bounded import Bounded
from tenantgate.tenant import TenantId

__all__ = ["ExpectedTokens"]

_MOST: Final = 5000
_LAST: Final = 100
_KNOWN: Final = 10
_UNKNOWN: Final = 1024


class ExpectedTokens:
    """The 90th percentile of the last hundred replies of each tenant and model; thread-safe.

    At most 5000 of these are known, about 5 MB: beyond, those go that had a reply least recently.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._replies: Bounded[tuple[TenantId, str], deque[int]] = Bounded(most)
        self._lock = threading.Lock()

    def note(self, tenant: TenantId, model: str, tokens: int) -> None:
        """A reply had so many tokens."""
        with self._lock:
            self._replies.setdefault((tenant, model), deque(maxlen=_LAST)).append(max(0, tokens))

    def tokens(self, tenant: TenantId, model: str, most: int) -> int:
        """Tokens that nine of ten replies don't exceed, at most `most`; 1024 before ten replies are known."""
        with self._lock:
            found = self._replies.get((tenant, model))
            last = sorted(found) if found else []
        expected = last[-(-len(last) * 9 // 10) - 1] if len(last) >= _KNOWN else _UNKNOWN
        return min(most, expected)
