"""When a budget will be used up, if spending goes on as it does.

The pace is the lower of two: over the window so far, and over its last twelfth. Both must be too high before anything
is foretold, as with burn-rate alerts over two windows: a burst that is over foretells nothing, nor does one that has
only begun, and a weekend doesn't hide a month that is too fast.
Source: https://sre.google/workbook/alerting-on-slos/ (multiwindow, multi-burn-rate alerts).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["BUCKETS", "Forecast", "Sample", "bucket", "forecast"]

BUCKETS: Final = 60
"""Parts of a window, of each of which the first state is kept."""
_RECENT: Final = 12
_LEAST: Final = BUCKETS
"""Of a window less than this part says nothing yet."""


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """What was used at a Unix time in ms."""

    at_ms: int
    used: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of a window at the present pace.

    Attributes:
        at_end: what will be used when it ends, at least what is used now.
        exhausted_ms: Unix time at which the limit is reached; None: not in this window. Now, where it is reached.
    """

    at_end: int
    exhausted_ms: int | None


def bucket(now_ms: int, start_ms: int, end_ms: int) -> int:
    """Number of the window's part in which `now_ms` lies, 0 to `BUCKETS` - 1."""
    return min(max(now_ms - start_ms, 0) * BUCKETS // max(end_ms - start_ms, 1), BUCKETS - 1)


def forecast(
    samples: Iterable[Sample], now: Sample, most: int, *, start_ms: int, end_ms: int
) -> Forecast | None:
    """The forecast for a window from `start_ms` to `end_ms`; None while too little of it has passed.

    Args:
        samples: earlier states of the same window, in any order.
        now: the state now.
        most: the limit.
        start_ms: Unix time in ms at which the window began.
        end_ms: at which it ends.
    """
    passed, left = now.at_ms - start_ms, end_ms - now.at_ms
    if passed * _LEAST < end_ms - start_ms or left <= 0:
        return None
    since = now.at_ms - (end_ms - start_ms) // _RECENT
    before = _used_at(since, [Sample(start_ms, 0), *samples, now])
    span = max(1, min(passed, (end_ms - start_ms) // _RECENT))
    # Rates are fractions, compared without rounding: use / time.
    long, short = (now.used, passed), (now.used - before, span)
    used, time = min(long, short, key=lambda rate: rate[0] / rate[1])
    used = max(used, 0)
    at_end = now.used + used * left // time
    if now.used >= most:
        return Forecast(at_end, now.at_ms)
    if used == 0 or at_end < most:
        return Forecast(at_end, None)
    return Forecast(at_end, now.at_ms + -(-(most - now.used) * time // used))


def _used_at(at_ms: int, samples: list[Sample]) -> int:
    """What was used at a time, on the straight line between the samples beside it."""
    before, after = None, None
    for sample in sorted(samples):
        if sample.at_ms <= at_ms:
            before = sample
        elif after is None:
            after = sample
    if before is None:
        return 0
    if after is None:
        return before.used
    share = (after.used - before.used) * (at_ms - before.at_ms)
    return before.used + share // (after.at_ms - before.at_ms)
