"""Names that this process has met lately."""

from __future__ import annotations

from tenantgate.bounded import Bounded

__all__ = ["RecentNames"]


class RecentNames:
    """A bounded set, which forgets the oldest first; thread-safe.

    It may be wrong either way, since other processes don't share it: that may cost time, and no hit.
    """

    def __init__(self, most: int) -> None:
        self._names: Bounded[str, bool] = Bounded(most)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Note that there is an entry of this name."""
        self._names.put(name, True)

    def discard(self, name: str) -> None:
        """Note that there is none."""
        self._names.take(name)
