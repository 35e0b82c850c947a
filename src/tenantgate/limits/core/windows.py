"""Windows of the calendar: from when to when the one lasts that contains a moment.

They are computed from the clock alone. Days, weeks and months begin with the first moment of a date in the zone: where
summer time leaves out midnight, with the moment after the gap; where midnight comes twice, with the first. Seconds,
minutes and hours are those that a clock on the wall shows, so that an hour that comes twice is two windows.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from tenantgate.limits.core.rules import Window

__all__ = ["window_at"]

_LENGTHS_S: Final = {"second": 1, "minute": 60, "hour": 3600}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def window_at(window: Window, now_ms: int) -> tuple[int, int]:
    """Start and end, in ms of Unix time, of the window that contains `now_ms`; the end is the next one's start.

    A sliding window is the one that ends now.

    Raises:
        ValueError: an unknown unit.
        zoneinfo.ZoneInfoNotFoundError: an unknown zone.
    """
    if window.sliding_s:
        return now_ms - window.sliding_s * 1000, now_ms
    zone = ZoneInfo(window.timezone)
    now_s = now_ms // 1000
    if (length := _LENGTHS_S.get(window.unit)) is not None:
        start_s, end_s = _of_clock(now_s, length, zone)
    else:
        start_s, end_s = _of_dates(now_s, window, zone)
    return start_s * 1000, end_s * 1000


def _of_clock(now_s: int, length: int, zone: tzinfo) -> tuple[int, int]:
    offset = _offset_s(now_s, zone)
    start_s = now_s - (now_s + offset) % length
    end_s = start_s + length
    # A clock that is set within an hour, as Lord Howe Island's by half of one, begins another.
    if _offset_s(start_s, zone) != offset:
        start_s = _change_s(start_s, now_s, zone)
    if _offset_s(end_s - 1, zone) != offset:
        end_s = _change_s(now_s, end_s - 1, zone)
    return start_s, end_s


def _of_dates(now_s: int, window: Window, zone: tzinfo) -> tuple[int, int]:
    today = _local(now_s, zone).date()
    first, following = _dates(today, window)
    end_s = _first_moment_s(following, zone)
    if (
        now_s >= end_s
    ):  # a clock that is set back past midnight, as once in Newfoundland, doesn't bring back yesterday
        first, following = _dates(following, window)
        return end_s, _first_moment_s(following, zone)
    return _first_moment_s(first, zone), end_s


def _dates(today: date, window: Window) -> tuple[date, date]:
    """The first dates of the window that contains `today` and of the next one."""
    if window.unit == "day":
        return today, today + timedelta(days=1)
    if window.unit == "week":
        first = today - timedelta(days=(today.isoweekday() - window.anchor_day) % 7)
        return first, first + timedelta(days=7)
    if window.unit == "month":
        months = today.year * 12 + today.month - 1
        if today < _anchor(months, window.anchor_day):
            months -= 1
        return _anchor(months, window.anchor_day), _anchor(months + 1, window.anchor_day)
    raise ValueError(f"unit: no second, minute, hour, day, week or month: {window.unit}")


def _anchor(months: int, day: int) -> date:
    """The anchor day, or the month's last, of a month that is counted from year 0 on."""
    year, month = divmod(months, 12)
    return date(year, month + 1, min(day, calendar.monthrange(year, month + 1)[1]))


def _first_moment_s(day: date, zone: tzinfo) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)  # fold 0: the first of two
    found = _unix_s(midnight)
    local = _local(found, zone)
    if local.replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return found
    # Midnight is left out. By the offset before the gap it lies at or behind the change, by the one after it before.
    return _change_s(_unix_s(midnight.replace(fold=1)), found, zone)


def _change_s(before_s: int, after_s: int, zone: tzinfo) -> int:
    """The first second of the offset that holds at `after_s`, where it doesn't at `before_s`."""
    offset = _offset_s(after_s, zone)
    while after_s - before_s > 1:
        middle = (before_s + after_s) // 2
        if _offset_s(middle, zone) == offset:
            after_s = middle
        else:
            before_s = middle
    return after_s


def _offset_s(at_s: int, zone: tzinfo) -> int:
    offset = _local(at_s, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _local(at_s: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(seconds=at_s)).astimezone(zone)


def _unix_s(at: datetime) -> int:
    return round((at.astimezone(UTC) - _EPOCH).total_seconds())
