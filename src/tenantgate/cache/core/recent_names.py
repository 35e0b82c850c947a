"""Names that this process has met lately."""

from __future__ import annotations

import threading
from collections import OrderedDict

__all__ = ["RecentNames"]


class RecentNames:
    """A bounded set, which forgets the oldest first; thread-safe.

    It may be wrong either way, since other processes don't share it: that may cost time, and no hit.
    """

    def __init__(self, most: int) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Note that there is an entry of this name."""
        with self._lock:
            self._names[name] = None
            self._names.move_to_end(name)
            if len(self._names) > self._most:
                self._names.popitem(last=False)

    def discard(self, name: str) -> None:
        """Note that there is none."""
        with self._lock:
            self._names.pop(name, None)
