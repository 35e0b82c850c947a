"""When Kong must have an answer: the deadlines of the events in progress."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tenantgate.kong.event import Event

__all__ = ["Deadlines", "LateSteps"]

_LATE_STEPS: Final = 10_000


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
                following = event.expire(now)
                if following is not None:
                    self.watch(again, following, event)


class LateSteps:
    """Events that ended before Kong's last Step, and whether its answer rejects: at most 10,000; thread-safe."""

    def __init__(self) -> None:
        self._rejects: OrderedDict[int, bool] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, number: int, *, reject: bool) -> None:
        """The event of this number has ended."""
        with self._lock:
            self._rejects[number] = reject
            if len(self._rejects) > _LATE_STEPS:
                self._rejects.popitem(last=False)

    def take(self, number: int) -> bool | None:
        """Whether the answer to the event's Step rejects; None if there is no such event. Once."""
        with self._lock:
            return self._rejects.pop(number, None)
