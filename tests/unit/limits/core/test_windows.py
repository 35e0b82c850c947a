"""Windows of the calendar: they cover time without gap or overlap, and begin where the zone's clock says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantgate.limits.core.rules import Window
from tenantgate.limits.core.windows import window_at

# Usual ones; changes at midnight (Sao_Paulo, Havana, Beirut, Asuncion), just behind it (St_Johns), by half an hour
# (Lord_Howe), of offsets of 30 and 45 minutes, of a whole date (Apia, Kwajalein), in Ramadan (Casablanca), by two hours
# (Troll).
ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "America/Sao_Paulo",
    "America/Havana", "Asia/Beirut", "America/Asuncion", "America/St_Johns", "America/Goose_Bay", "Australia/Lord_Howe",
    "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham", "Pacific/Apia", "Pacific/Kwajalein", "Africa/Casablanca",
    "Antarctica/Troll", "Asia/Tehran", "Africa/Cairo", "Asia/Amman", "Etc/GMT+12", "Pacific/Kiritimati",
)  # fmt: skip
UNITS = ("second", "minute", "hour", "day", "week", "month")
NOW = st.integers(300_000_000, 2_200_000_000)


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def changes(zone: str) -> list[int]:
    """Seconds at which the clocks of a zone are changed, from 1980 to 2037."""
    at, out = ZoneInfo(zone), []
    offset = lambda s: datetime.fromtimestamp(s, at).utcoffset()  # noqa: E731
    for day in range(3653, 24_838):
        low, high = day * 86_400, (day + 1) * 86_400
        if offset(low) != offset(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            out.append(high)
    return out


NEAR = {
    zone: changes(zone)
    for zone in ("America/St_Johns", "Australia/Lord_Howe", "America/Havana", "Asia/Beirut")
}


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a second, often close to a change of its clocks."""
    if draw(st.booleans()):
        zone = draw(st.sampled_from(sorted(NEAR)))
        return zone, draw(st.sampled_from(NEAR[zone])) + draw(st.integers(-90_000, 90_000))
    return draw(st.sampled_from(ZONES)), draw(NOW)


def label(at_s: int, window: Window) -> Any:
    """What all moments of a window have in common on the zone's clock."""
    local = datetime.fromtimestamp(at_s, ZoneInfo(window.timezone))
    today = local.date()
    if window.unit == "day":
        return today
    if window.unit == "week":
        return (today - timedelta(days=window.anchor_day - 1)).isocalendar()[:2]
    if window.unit == "month":
        last = (date(today.year + today.month // 12, today.month % 12 + 1, 1) - timedelta(days=1)).day
        return today.year * 12 + today.month - (today.day < min(window.anchor_day, last))
    size = {"second": 1, "minute": 60, "hour": 3600}[window.unit]
    return local.utcoffset(), (at_s + (local.utcoffset() or timedelta()).total_seconds()) // size


@given(moments(), st.sampled_from(UNITS), st.integers(1, 31))
@example(("America/St_Johns", 1_194_147_000), "day", 1)  # 00:00:59, a minute later it is 23:01
@example(("Pacific/Apia", 1_325_239_200), "day", 1)  # the date after which one is left out
def test_windows_cover_all_of_time_once(moment: tuple[str, int], unit: str, anchor: int) -> None:
    zone, now_s = moment
    window = Window(unit=unit, timezone=zone, anchor_day=1 + anchor % 7 if unit == "week" else anchor)
    start, end = window_at(window, now_s * 1000)
    assert start <= now_s * 1000 < end
    assert (start % 1000, end % 1000) == (0, 0)
    for inside in (start, end - 1, (start + end) // 2):
        assert window_at(window, inside) == (start, end)
    assert window_at(window, end)[0] == end
    assert window_at(window, start - 1)[1] == start
    # The first moment of a label, and all of it, unless the clock goes back into another one.
    first, last, before, behind = (
        label(s, window) for s in (start // 1000, end // 1000 - 1, start // 1000 - 1, end // 1000)
    )
    assert first != before
    assert last != behind
    assert first in (label(now_s, window), last)


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (Window(unit="month"), "2026-02-14", "2026-02-01", "2026-03-01"),
        (Window(unit="month", anchor_day=31), "2026-02-27T23:59:59", "2026-01-31", "2026-02-28"),
        (Window(unit="month", anchor_day=31), "2026-02-28", "2026-02-28", "2026-03-31"),
        (Window(unit="month", anchor_day=30), "2028-02-29", "2028-02-29", "2028-03-30"),
        (Window(unit="month", anchor_day=31), "2026-12-31", "2026-12-31", "2027-01-31"),
        (Window(unit="month", anchor_day=15), "2026-01-01", "2025-12-15", "2026-01-15"),
        (Window(unit="week"), "2026-11-29", "2026-11-23", "2026-11-30"),
        (Window(unit="week", anchor_day=7), "2026-11-29", "2026-11-29", "2026-12-06"),
        (Window(unit="day", timezone="Europe/Berlin"), "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        (Window(unit="day", timezone="Europe/Berlin"), "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        # 2018-11-04 has no midnight in São Paulo.
        (Window(unit="day", timezone="America/Sao_Paulo"), "2018-11-04T12:00", "2018-11-04T03:00", "2018-11-05T02:00"),
        # The hour that comes twice.
        (Window(unit="hour", timezone="Europe/Berlin"), "2026-10-25T00:30", "2026-10-25T00:00", "2026-10-25T01:00"),
        (Window(unit="hour", timezone="Europe/Berlin"), "2026-10-25T01:30", "2026-10-25T01:00", "2026-10-25T02:00"),
        (Window(unit="hour", timezone="Asia/Kolkata"), "2026-10-25T01:45", "2026-10-25T01:30", "2026-10-25T02:30"),
    ],
)  # fmt: skip
def test_examples(window: Window, now: str, start: str, end: str) -> None:
    assert window_at(window, ms(now)) == (ms(start), ms(end))


@given(NOW, st.integers(-10_000_000, 10_000_000))
def test_a_clock_that_jumps_is_in_the_window_where_it_lands(now_s: int, jump_s: int) -> None:
    window = Window(unit="day", timezone="Europe/Berlin")
    window_at(window, now_s * 1000)
    start, end = window_at(window, (now_s + jump_s) * 1000)
    assert start <= (now_s + jump_s) * 1000 < end


def test_a_sliding_window_ends_now() -> None:
    assert window_at(Window(sliding_s=60), 1_000_000) == (940_000, 1_000_000)


def test_what_is_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="unit"):
        window_at(Window(unit="year"), 0)
    with pytest.raises(ZoneInfoNotFoundError):
        window_at(Window(unit="day", timezone="Mars/Olympus"), 0)


def test_days_have_as_many_hours_as_the_clock_shows() -> None:
    found = set()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    window = Window(unit="day", timezone="Australia/Lord_Howe")
    for _ in range(365):
        start, end = window_at(window, round(at.timestamp() * 1000))
        found.add((end - start) / 3_600_000)
        at += timedelta(days=1)
    assert found == {23.5, 24, 24.5}
