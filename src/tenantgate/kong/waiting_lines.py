"""Events that wait for a thread: a line for each tenant, and the line of whoever used least is next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenantgate.kong.event import Event

__all__ = ["Lines"]


class Lines:
    """Lines by `Event.turn.key`, together of at most `size` events; not safe for threads.

    `usage` tells what a key used lately. Between keys that used the same, who came first goes first.
    """

    def __init__(self, size: int, usage: Callable[[str], float]) -> None:
        self._size, self._usage = size, usage
        self._lines: dict[str, deque[Event]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether the next event takes another one's place."""
        return self._count >= self._size

    def add(self, event: Event) -> None:
        """Let it wait, even if there is no room."""
        self._lines.setdefault(event.turn.key, deque()).append(event)
        self._count += 1

    def put(self, event: Event) -> Event | None:
        """Let it wait. Gives the event for which there is no room now: of the longest line the latest."""
        self.add(event)
        if self._count <= self._size:
            return None
        longest = max(self._lines, key=lambda key: (len(self._lines[key]), key == event.turn.key))
        return self._take(longest, -1)

    def take(self) -> Event:
        """The next one; there must be one."""
        key = min(self._lines, key=lambda key: (self._usage(key), self._lines[key][0].arrived))
        return self._take(key, 0)

    def _take(self, key: str, at: int) -> Event:
        line = self._lines[key]
        event = line[at]
        del line[at]
        if not line:
            del self._lines[key]
        self._count -= 1
        return event
