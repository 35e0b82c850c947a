"""Sliding windows: never more than a limit's requests in any period, whenever it begins.

A window is a log of runs: requests within one sixtieth of the period are one run, which is counted until the last of
them is a period old. A limit of up to sixty requests is therefore exact. Above, too, no period ever has too many, and
a request is counted for a sixtieth of the period too long at most. Kong's counters begin anew with each minute of the
clock, so twice the limit can pass around its turn; GCRA (the generic cell rate algorithm) lets nearly twice the limit
pass in the first period after a pause.

``redis_scripts/count.lua`` is the same algorithm; both write the same bytes, big-endian: the sum of all runs (32
bits), then for each run, the oldest first, the time of its last request in µs (64 bits) and how many there were (32).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from tenantgate.limits.core.limit import Limit

__all__ = ["MICROSECONDS", "RUNS", "Decision", "Room", "count", "run_width_us"]

RUNS: Final = 60
"""Runs of a full window, give or take one: at most 736 bytes."""
MICROSECONDS: Final = 1_000_000

_SUM: Final = struct.Struct(">I")
_RUN: Final = struct.Struct(">QI")


class Room(NamedTuple):
    """What a limit still allows after a decision.

    Attributes:
        remaining: requests that would pass now.
        wait_us: µs until more would; until one would, if none does now.
    """

    limit: Limit
    remaining: int
    wait_us: int


class Decision(NamedTuple):
    """Whether a request was counted, and by each limit the room that is left."""

    counted: bool
    rooms: tuple[Room, ...]


def run_width_us(limit: Limit) -> int:
    """The time in µs whose requests are one run. 1 for limits that are exact."""
    period_us = limit.period * MICROSECONDS
    return -(-period_us // RUNS) if limit.most > RUNS else 1


def count(
    windows: Sequence[bytes | None], limits: Sequence[Limit], now_us: int
) -> tuple[Decision, list[bytes]]:
    """Count one request for all limits, or for none where one is reached.

    Args:
        windows: one for each limit, None where there is none yet. What isn't a window counts as none.
        limits: at least one.
        now_us: the time in µs, at least 0, of one clock. Where it goes back, earlier requests count as made now.

    Returns:
        The decision and the windows as they are now. They differ only if it was counted, if requests are too old to be
        counted any longer, or if the clock has gone back.
    """
    logs = [_Log(window, limit, now_us) for window, limit in zip(windows, limits, strict=True)]
    counted = all(log.total < log.limit.most for log in logs)
    if counted:
        for log in logs:
            log.add(now_us)
    rooms = tuple(Room(log.limit, max(0, log.limit.most - log.total), log.wait_us(now_us)) for log in logs)
    return Decision(counted, rooms), [log.encoded() for log in logs]


class _Log:
    """The runs of one window, opened."""

    def __init__(self, window: bytes | None, limit: Limit, now_us: int) -> None:
        self.limit, self._period_us = limit, limit.period * MICROSECONDS
        runs = [(min(end, now_us), n) for end, n in _runs(window or b"")]
        self._runs = [run for run in runs if run[0] > now_us - self._period_us]
        self.total = sum(n for _, n in self._runs)

    def add(self, now_us: int) -> None:
        width, requests = run_width_us(self.limit), 1
        if self._runs and self._runs[-1][0] // width == now_us // width:
            requests += self._runs.pop()[1]
        self._runs.append((now_us, requests))
        self.total += 1

    def wait_us(self, now_us: int) -> int:
        left = self.total
        for end, n in self._runs:
            left -= n
            if left < self.limit.most:
                return end + self._period_us - now_us
        return 0

    def encoded(self) -> bytes:
        return _SUM.pack(self.total) + b"".join(_RUN.pack(*run) for run in self._runs)


def _runs(window: bytes) -> list[tuple[int, int]]:
    """The runs of a window; none of what is no window."""
    if len(window) < _SUM.size or (len(window) - _SUM.size) % _RUN.size:
        return []
    runs = list(_RUN.iter_unpack(window[_SUM.size :]))
    return runs if sum(n for _, n in runs) == _SUM.unpack_from(window)[0] else []
