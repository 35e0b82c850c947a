"""When Kong must have an answer: the deadlines of the events in progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenantgate.kong.event import Event

__all__ = ["Deadlines"]


class Deadlines:
    """Deadlines of events, seconds of the monotonic clock. `watch` is for any thread, all else for the warden's.

    `wake` is called with each new deadline.
    """

    def __init__(self, wake: Callable[[float], None]) -> None:
        self._wake = wake
        # By time allowed: then the order of arrival is the order of deadlines.
        self._lines: dict[tuple[str, float], deque[tuple[float, Event]]] = {}

    def watch(self, kind: tuple[str, float], deadline: float, event: Event) -> None:
        """Expire `event` at `deadline`; those of one `kind` come in the order of their deadlines."""
        line = self._lines.get(kind)
        if line is None:
            line = self._lines.setdefault(kind, deque())
        line.append((deadline, event))
        self._wake(deadline)

    def first(self, before: float) -> float:
        """The next deadline of an event that isn't over, at most `before`."""
        first = before
        for line in list(self._lines.values()):
            while line and line[0][1].over:
                line.popleft()
            if line and line[0][0] < first:
                first = line[0][0]
        return first

    def expire(self, now: float, again: tuple[str, float]) -> None:
        """Tell the events whose deadline has passed; a further deadline that one names is of the kind `again`."""
        for line in list(self._lines.values()):
            while line and (line[0][1].over or line[0][0] <= now):
                _, event = line.popleft()
                if event.over:  # as nearly all
                    continue
                following = event.expire(now)
                if following is not None:
                    self.watch(again, following, event)
