"""Whose work goes on: a fair share of the processor for each tenant, and short requests before long ones.

Python runs one thread at a time, so a long phase holds up all others of its process. Long work therefore stops at
checkpoints (`tenantgate.checkpoints`, and each answer of Kong's), and there it gives way

- to tenants that used clearly less of the processor lately, if its own used much: as in the scheduler of 4.3BSD
  (S. J. Leffler et al., *The Design and Implementation of the 4.3BSD UNIX Operating System*, 1989, 4.4), use decays,
  here by half in a second;
- else, once it is long, to what has only just begun, and as a log phase to what a client waits for.

What gives way isn't starved: when nobody goes before it, or every so often, it gets one of a few *slots* for a slice.
Among those that wait, the tenant that used least comes first, then what has worked most. Short phases of tenants
that use little never wait.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["SLOTS", "Turn", "Turns", "Usage"]

SLOTS: Final = max(2, os.cpu_count() or 1)
"""Long phases that run at once when nothing goes before them; further ones would only wait for Python's lock."""

FREE_S: Final = 0.04
"""Of the processor: what a phase may use before it counts as long. To embed a question takes a quarter of it."""

MUCH_S: Final = 0.3
"""Of the processor, with the decay: a fifth of a core. Who used more has half of the slots, and gives way earlier."""

_FREE_OF_MUCH_S: Final = 0.005

_LOOK_S: Final = 0.0005  # between two looks of one phase
_SLICE_S: Final = 0.003  # of the clock: what a long phase runs before it looks whether it must give way
_REST_S: Final = 0.006  # after which one that must give way gets a slice all the same
_HALF_LIFE_S: Final = 1.0
_CLEARLY: Final = 1.25
_MARGIN_S: Final = 0.005
_MAX_KEYS: Final = 10_000


class Usage:
    """Processor time by key, halved each second; safe for threads as far as `Turns` locks."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[float, float]] = {}

    def of(self, key: str, now: float) -> float:
        """Seconds of the processor that `key` used lately."""
        used, at = self._used.get(key, (0.0, now))
        return used * math.exp2((at - now) / _HALF_LIFE_S)

    def add(self, key: str, seconds: float, now: float) -> None:
        """Note that `key` used so much."""
        self._used[key] = (self.of(key, now) + seconds, now)
        if len(self._used) > _MAX_KEYS:
            kept = sorted(self._used, key=lambda k: self.of(k, now))[_MAX_KEYS // 2 :]
            self._used = {k: self._used[k] for k in kept}


@dataclass(slots=True, eq=False)
class Turn:
    """A phase's part in it.

    Attributes:
        key: whose it is: a route at first, the tenant once it is known.
        background: nobody waits for it.
        used_s: processor time so far.
        waits: whether it has given way.
        holds: whether it has a slot.
        away: whether it does nothing, since it waits for Kong for long.
    """

    key: str
    background: bool = False
    order: int = 0
    used_s: float = 0.0
    waits: bool = False
    holds: bool = False
    away: bool = False
    marked_s: float = 0.0
    looked: float = 0.0
    slice_from: float = 0.0
    go: threading.Event = field(default_factory=threading.Event)


class Turns:
    """All phases in progress. `wake` is called when `grant` must be called by `next_grant`."""

    def __init__(
        self,
        *,
        slots: int = SLOTS,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._slots, self._wake, self._clock, self._cpu = slots, wake, clock, cpu
        self._lock = threading.Lock()
        self._usage = Usage()
        self._turns: set[Turn] = set()
        self._waiting: set[Turn] = set()
        self._holders = 0
        self._rested_from = 0.0
        self._count = 0
        self._away = 0

    # -- by the thread that runs the phase ---------------------------------------------------------------

    def begin(self, turn: Turn) -> None:
        """The phase begins, in this thread."""
        turn.marked_s, turn.looked = self._cpu(), self._clock()
        with self._lock:
            self._count += 1
            turn.order = self._count
            self._turns.add(turn)

    def end(self, turn: Turn) -> None:
        """The phase is over."""
        with self._lock:
            self._charge(turn, self._clock())
            self._turns.discard(turn)
            self._leave(turn)
            self._grant(self._clock())

    def may_go_on(self, turn: Turn) -> bool:
        """Ask at a checkpoint. False: not before `turn.go` is set."""
        now = self._clock()
        if now - turn.looked < _LOOK_S:
            return True
        turn.looked = now
        with self._lock:
            self._charge(turn, now)
            behind = self._behind(turn, now)
            if not behind and turn.used_s < self._free_s(turn, now):
                self._leave(turn)
                return True
            if turn.holds:
                if now - turn.slice_from < _SLICE_S:
                    return True
                self._leave(turn)
            turn.waits = True
            turn.go.clear()
            self._waiting.add(turn)
            self._grant(now)
            if not turn.waits:
                return True
        self._wake()
        return False

    def rename(self, turn: Turn, key: str) -> None:
        """It is known now whose the phase is."""
        with self._lock:
            turn.key = key

    def away(self, turn: Turn, away: bool) -> None:
        """The phase waits for somebody else for long, or does so no more."""
        with self._lock:
            self._away += away - turn.away
            turn.away = away
            if away:
                self._leave(turn)
                self._grant(self._clock())

    @property
    def idle(self) -> int:
        """Phases that wait for Kong for long."""
        return self._away

    # -- by others ---------------------------------------------------------------------------------------

    def stop(self, turn: Turn) -> None:
        """Nobody needs the phase's work any more: if it waits, let it end."""
        with self._lock:
            turn.go.set()

    def grant(self, now: float) -> None:
        """Let go on who may."""
        with self._lock:
            self._grant(now)

    def next_grant(self) -> float | None:
        """When to call `grant` again, if somebody waits."""
        with self._lock:
            return self._rested_from + _REST_S if self._waiting and not self._holders else None

    def usage(self, key: str, now: float) -> float:
        """Seconds of the processor that `key` used lately."""
        with self._lock:
            return self._usage.of(key, now)

    # -- under the lock ----------------------------------------------------------------------------------

    def _charge(self, turn: Turn, now: float) -> None:
        cpu = self._cpu()
        used, turn.marked_s = cpu - turn.marked_s, cpu
        turn.used_s += used
        self._usage.add(turn.key, used, now)

    def _leave(self, turn: Turn) -> None:
        if turn.waits:
            turn.waits = False
            self._waiting.discard(turn)
        if turn.holds:
            turn.holds = False
            self._holders -= 1
            self._rested_from = self._clock()

    def _goes_before(self, other: Turn, turn: Turn, now: float) -> bool:
        if other.key != turn.key:
            theirs, mine = self._usage.of(other.key, now), self._usage.of(turn.key, now)
            if theirs * _CLEARLY + _MARGIN_S < mine and mine > MUCH_S:
                return True
            if mine * _CLEARLY + _MARGIN_S < theirs:
                return False
        return turn.used_s >= FREE_S and (other.used_s < FREE_S or other.background < turn.background)

    def _behind(self, turn: Turn, now: float) -> bool:
        """Whether somebody at work goes before it."""
        return any(
            not (other is turn or other.waits or other.away) and self._goes_before(other, turn, now)
            for other in self._turns
        )

    def _rank(self, turn: Turn, now: float) -> tuple[bool, float, float, int]:
        # Of a tenant's own what is nearest to its end, or with too much to do none would get there in time.
        return turn.background, self._usage.of(turn.key, now), -turn.used_s, turn.order

    def _much(self, turn: Turn, now: float) -> bool:
        return self._usage.of(turn.key, now) > MUCH_S

    def _free_s(self, turn: Turn, now: float) -> float:
        return _FREE_OF_MUCH_S if self._much(turn, now) else FREE_S

    def _grant(self, now: float) -> None:
        while self._waiting:
            first = min(self._waiting, key=lambda t: self._rank(t, now))
            slots = max(1, self._slots // 2) if self._much(first, now) else self._slots
            if self._holders >= slots:
                return
            if self._behind(first, now) and (self._holders or now < self._rested_from + _REST_S):
                return
            self._leave(first)
            first.holds = True
            first.slice_from = now
            self._holders += 1
            first.go.set()
